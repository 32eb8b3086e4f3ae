"""An event loop whose clock jumps to the next timer instead of sleeping: an hour of waiting takes no time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

HANGS = 10.0  # real seconds: whoever waits for a thread that long waits for ever
JOURNAL = 0.002  # real seconds for a commit, mostly
Result = TypeVar("Result")


class _Jump(selectors.DefaultSelector):
    """Waits for nothing: adds the time it should have waited to the clock."""

    clock = 0.0
    threads = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        idle = timeout is None or timeout > 0
        real = HANGS if self.threads and timeout is None else self.threads if idle else 0.0
        ready: list[tuple[selectors.SelectorKey, int]] = super().select(real)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits and no timer is set: this would hang")
            self.clock += max(timeout, 0.0)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 0 and passes only while all tasks wait."""

    def __init__(self, threads: float = 0.0) -> None:
        self._jump = _Jump()
        self._jump.threads = threads
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.clock


def run(coroutine: Coroutine[Any, Any, Result], *, threads: float = 0.0) -> Result:
    """Like `asyncio.run`, in virtual time. Raises `RuntimeError` where nothing would ever happen again.

    `threads` is how many real seconds other threads, as a journal's, may take to answer before the clock moves on.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(threads)) as runner:
        return runner.run(coroutine)
