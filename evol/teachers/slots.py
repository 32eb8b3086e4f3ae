"""The slots of a llama.cpp server, and who waits for one: like goes to like.

The server keeps what it has read, and reads only what differs from it. So of those who wait, the first whose prompt
begins as that of the slot which came free is served, but nobody is passed over for long. And a beginning that was never
read is read by one alone; the others of its kind wait for that, instead of reading the same at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

PATIENCE = 16  # how often one who waits is passed over for another


@dataclass(eq=False)
class _Waiting:
    prefix: str
    turn: asyncio.Future[None]
    passed_over: int = 0


class Slots:
    """At most `count` requests at once. `prefix` is the part of a prompt that many have in common."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: list[_Waiting] = []
        self._read = {""}
        self._being_read: set[str] = set()

    @asynccontextmanager
    async def take(self, prefix: str) -> AsyncIterator[None]:
        """Holds a slot while inside."""
        waiting = _Waiting(prefix, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._serve(prefix)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled():  # the slot came together with the cancellation
                self._give(prefix)
            raise
        try:
            yield
            self._read.add(prefix)
        finally:
            self._give(prefix)

    def forget(self) -> None:
        """The server has read nothing any more: it was started anew."""
        self._read = {""}

    def _give(self, prefix: str) -> None:
        self._free += 1
        self._being_read.discard(prefix)
        self._serve(prefix)

    def _serve(self, last: str) -> None:
        """Lets in whoever may go in; those first whose prompts begin like the last one."""
        # One who was cancelled may still stand in line when a slot comes free.
        self._waiting = [waiting for waiting in self._waiting if not waiting.turn.done()]
        while self._free and (chosen := self._choose(last)):
            self._waiting.remove(chosen)
            self._free -= 1
            if chosen.prefix not in self._read:
                self._being_read.add(chosen.prefix)
            chosen.turn.set_result(None)

    def _choose(self, last: str) -> _Waiting | None:
        ready = [waiting for waiting in self._waiting if waiting.prefix not in self._being_read]
        if not ready:
            return None
        impatient = next((waiting for waiting in ready if waiting.passed_over >= PATIENCE), None)
        chosen = impatient or next((waiting for waiting in ready if waiting.prefix == last), ready[0])
        for waiting in ready[: ready.index(chosen)]:
            waiting.passed_over += 1
        return chosen
