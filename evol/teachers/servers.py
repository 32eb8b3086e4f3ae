"""Kinds of servers that speak OpenAI's API: where each listens, how it is started, and where it differs.

What a server passes over without a word is worse than what it refuses: those parameters are named here, and asking for
one stops the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from evol.records import Sampling


@dataclass(frozen=True, slots=True)
class Server:
    """One kind of server.

    `renamed` are sampling parameters under its own names; `ignored` are those it passes over, with where to set them
    instead. `schema` is False where it passes over a JSON schema. `prompt_cut` says what to do where it silently cuts a
    prompt that is longer than its context; empty where it refuses such a prompt. `thinking` is how it is told to think
    or not: in the arguments of the chat template, in a field of the request, or as an effort.
    """

    url: str = ""
    start: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    schema: bool = True
    prompt_cut: str = ""
    thinking: str = "chat_template_kwargs"

    def parameters(self, sampling: Sampling) -> dict[str, Any]:
        """The sampling as this server wants it said."""
        given = sampling.given
        thinking = given.pop("enable_thinking", None)
        parameters = {self.renamed.get(name, name): value for name, value in given.items()}
        if thinking is not None:
            said = {
                "chat_template_kwargs": {"enable_thinking": thinking},
                "enable_thinking": thinking,
                "reasoning_effort": "medium" if thinking else "none",
            }
            parameters[self.thinking] = said[self.thinking]
        return parameters


OPENAI_URL = "https://api.openai.com/v1"
IN_MODELFILE = "set it in the model's Modelfile"
IN_APP = "set it in the settings of the loaded model"
ANY_SERVER = Server()
# As their own documentation and sources say, autumn of 2026.
SERVERS: Mapping[str, Server] = {
    "llama-server": Server("http://localhost:8080/v1", "llama-server -m MODEL.gguf"),
    "ollama": Server(
        "http://localhost:11434/v1",
        "ollama serve",
        ignored=dict.fromkeys(("top_k", "min_p", "repeat_penalty"), IN_MODELFILE),
        prompt_cut="start it with a larger OLLAMA_CONTEXT_LENGTH",
        thinking="reasoning_effort",
    ),
    "lmstudio": Server(
        "http://localhost:1234/v1", "lms server start", ignored=dict.fromkeys(("min_p", "enable_thinking"), IN_APP)
    ),
    "vllm": Server("http://localhost:8000/v1", "vllm serve MODEL", renamed={"repeat_penalty": "repetition_penalty"}),
    "textgen": Server(
        "http://localhost:5000/v1",
        "python server.py --api",
        renamed={"repeat_penalty": "repetition_penalty"},
        schema=False,
        thinking="enable_thinking",
    ),
}


def is_here(url: str) -> bool:
    """Whether the address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
