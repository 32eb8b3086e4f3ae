"""A teacher that says what it was told to say: for tests, above the door to the teachers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from evol.records import Allowance, Price, Request
from evol.teachers.base import Description, completion_body

Reply = str | bytes | Exception


class ScriptedTeacher:
    """Answers from a queue of replies, or from a function of the request, and remembers what it was asked.

    A reply is a text, the raw body of a completion, or an exception to raise. `requests` is the history. `latency` is
    in seconds. An empty queue is an `AssertionError`: the test asked for more than it scripted.
    """

    def __init__(
        self, replies: Iterable[Reply] | Callable[[Request], Reply], *, model: str = "scripted", latency: float = 0.0
    ) -> None:
        self.model = model
        self.demo = False
        self.free = False
        self.price: Price | None = None
        self.allowance: Allowance | None = None
        self.context: int | None = None
        self.busy_with = ""
        self.notices: list[str] = []
        self.requests: list[Request] = []
        self.latency = latency
        if callable(replies):
            self._reply = replies
        else:
            queue = deque(replies)
            self._reply = lambda _: self._next(queue)

    async def send(self, request: Request) -> bytes:
        self.requests.append(request)
        await asyncio.sleep(self.latency)
        reply = self._reply(request)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, bytes):
            return reply
        return completion_body(reply, request.system + request.user, self.model)

    async def describe(self) -> Description:
        return Description("in this process", "as scripted")

    async def close(self) -> None:
        return None

    @staticmethod
    def _next(queue: deque[Reply]) -> Reply:
        if not queue:
            raise AssertionError("the scripted teacher was asked more often than it has replies")
        return queue.popleft()
