"""The slots of a llama.cpp server, and who waits for one: like goes to like.

A slot keeps what it has read, and reads only what differs from it. So of those who wait, the first whose prompt begins
as the last one of the freed slot is served; but nobody is passed over for long.
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

    @asynccontextmanager
    async def take(self, prefix: str) -> AsyncIterator[None]:
        """Holds a slot while inside."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(prefix)
        try:
            yield
        finally:
            self._give(prefix)

    async def _wait(self, prefix: str) -> None:
        waiting = _Waiting(prefix, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            await waiting.turn
        except asyncio.CancelledError:
            if waiting.turn.done() and not waiting.turn.cancelled():  # the slot came together with the cancellation
                self._give(prefix)
            raise

    def _give(self, prefix: str) -> None:
        # One who was cancelled may still stand in line when a slot comes free.
        self._waiting = [waiting for waiting in self._waiting if not waiting.turn.done()]
        if not self._waiting:
            self._free += 1
            return
        chosen = self._waiting[0]
        if chosen.passed_over < PATIENCE:
            chosen = next((waiting for waiting in self._waiting if waiting.prefix == prefix), chosen)
        for waiting in self._waiting:
            if waiting is chosen:
                break
            waiting.passed_over += 1
        self._waiting.remove(chosen)
        chosen.turn.set_result(None)
