"""What a user may say about a local model: the names are llama.cpp's where it has one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

FEWEST_SLOTS = 4  # measured: 1.6 times the tokens of one slot for the same CPU time
MOST_SLOTS = 8  # unless asked for: each takes memory for a context of its own
PREFERRED = "Q4_K_M"  # of the quantizations, where nobody says: what llama.cpp takes too
PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf\Z", re.IGNORECASE)  # how the file of a model in parts ends


class LocalOptions(BaseModel):
    """`[local]` of an `evol.toml`.

    `context` is in tokens and for one request, whatever the number of slots; `slots` are requests at once, None for a
    number that fits the cores; `threads` and `gpu_layers` are llama.cpp's choice where None; `port` is any free one
    where 0; `cache_ram` is in MiB, for prompts that were read before.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    context: Annotated[int, Field(ge=1, le=10_000_000)] = 4096
    slots: Annotated[int, Field(ge=1, le=256)] | None = None  # more llama.cpp does not take, nor threads
    threads: Annotated[int, Field(ge=1, le=512)] | None = None
    gpu_layers: Annotated[int, Field(ge=0, le=10_000)] | None = None
    chat_template_file: Path | None = None
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    cache_ram: Annotated[int, Field(ge=0)] = 2048

    @property
    def slot_count(self) -> int:
        """Requests at once."""
        return self.slots or max(FEWEST_SLOTS, min(MOST_SLOTS, os.cpu_count() or 1))
