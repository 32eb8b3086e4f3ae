"""What a run may spend, and what it has spent: nothing is sent that could go beyond it.

Before a call is sent the worst it can cost is reserved: every byte of its prompt a token, and a reply as long as it is
allowed to be. What it did cost takes the place of that when it has ended. So the caps hold however many calls are in
flight at once. Where a call does not fit any more, it waits for those in flight to give back what they do not need; and
where there are none, the budget is reached.

A budget is the run's, not the process's: what was spent before counts. After a process that died without a word, what
was in flight counts at its worst.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from math import ceil

from evol.errors import BudgetReached, CannotWrite
from evol.records import NO_PRICE, Price, Request, Usage
from evol.teachers import Teacher

# Servers wrap messages in tokens of their own, and a schema into the prompt.
WRAPPING_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Caps:
    """What a run may spend in all, each None where there is no cap. `cost` is in US dollars."""

    calls: int | None = None
    tokens: int | None = None
    cost: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Spending:
    """Calls sent, tokens of prompts and replies, and dollars, as far as prices are known."""

    calls: int = 0
    tokens: int = 0
    cost: Decimal = Decimal(0)

    def __add__(self, other: Spending) -> Spending:
        return Spending(self.calls + other.calls, self.tokens + other.tokens, self.cost + other.cost)

    def __sub__(self, other: Spending) -> Spending:
        return Spending(self.calls - other.calls, self.tokens - other.tokens, self.cost - other.cost)

    def to_json(self) -> str:
        """As the journal keeps it."""
        return json.dumps([self.calls, self.tokens, str(self.cost)])

    @staticmethod
    def from_json(text: str) -> Spending:
        """What `to_json` wrote; nothing for anything else."""
        try:
            calls, tokens, cost = json.loads(text)
            return Spending(int(calls), int(tokens), Decimal(cost))
        except (ValueError, TypeError, InvalidOperation):
            return Spending()


@dataclass(frozen=True, slots=True)
class Reservation:
    """What is set aside for one call: its tokens and cost at their worst."""

    teacher: Teacher
    price: Price
    tokens: Usage
    worst: Spending


class Budget:
    """The accountant of one run.

    `prices` are those of the teachers; one that is not there costs nothing that is known of. `before` is what the run
    has spent until now. `noted` is told, before a call is sent and when it has ended, how many are in flight and what
    will be spent if all of them cost their worst; what it raises is raised by `reserve`. `notices` are lines for the
    user.
    """

    def __init__(
        self,
        caps: Caps,
        prices: Mapping[Teacher, Price],
        before: Spending = Spending(),
        noted: Callable[[int, Spending], None] = lambda *_: None,
    ) -> None:
        self.spent = before
        self.notices: list[str] = []
        self._caps = caps
        self._prices = prices
        self._noted = noted
        self._reserved = Spending()
        self._in_flight = 0
        self._waiting: set[asyncio.Future[None]] = set()
        self._stopped: Exception | None = None
        self._beyond: dict[Teacher, tuple[float, float]] = {}  # times the worst: of prompts, and of replies

    @property
    def worst(self) -> Spending:
        """What is spent if all calls in flight cost their worst."""
        return self.spent + self._reserved

    @property
    def in_flight(self) -> int:
        """Calls that may have been sent, and whose answers are not on the disk."""
        return self._in_flight

    async def reserve(self, request: Request, teacher: Teacher) -> Reservation:
        """Sets aside the worst this call can cost, waiting for others where that may help. Raises `BudgetReached`."""
        while True:
            if self._stopped is not None:
                raise self._stopped.with_traceback(None)
            reservation = self._reservation(request, teacher)
            if (reached := self._reached(self.worst + reservation.worst)) is None:
                self._noted(self._in_flight + 1, self.worst + reservation.worst)
                self._reserved += reservation.worst
                self._in_flight += 1
                return reservation
            if not self._reserved.calls:
                raise BudgetReached(
                    f"{reached}; what was answered is kept: raise it, and run the same command again to go on"
                )
            await self._one_to_end()

    def settle(self, reservation: Reservation, used: Usage | None) -> Spending:
        """Puts what the call did cost in the place of what was reserved; None is the worst. Returns what it cost.

        It counts as in flight until it has `landed`.
        """
        actual = reservation.worst
        if used is not None:
            actual = Spending(1, used.total, reservation.price.of(used))
            self._learn(reservation, used)
        self.spent += actual
        self._reserved -= reservation.worst
        self._wake()
        return actual

    def _learn(self, reservation: Reservation, used: Usage) -> None:
        """A teacher that takes more than it was allowed, as for thinking, is expected to from then on."""
        prompt, reply = self._beyond.get(reservation.teacher, (1.0, 1.0))
        seen = (
            prompt * used.prompt_tokens / reservation.tokens.prompt_tokens,
            reply * used.completion_tokens / reservation.tokens.completion_tokens,
        )
        if seen[0] > prompt or seen[1] > reply:
            if reservation.teacher not in self._beyond:
                self.notices.append(
                    f"{reservation.teacher.model} counts more tokens than a call was allowed ({used.prompt_tokens:,} "
                    f"and {used.completion_tokens:,}): a budget may be passed by that; from now on more is reserved"
                )
            self._beyond[reservation.teacher] = (max(prompt, seen[0]), max(reply, seen[1]))

    def landed(self) -> None:
        """A call that was settled is on the disk, or has nothing that could be there."""
        self._in_flight -= 1
        self._note()

    def stop(self, error: Exception) -> None:
        """From now on nothing is reserved: who wants to, or waits, is given the error."""
        self._stopped = error
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _note(self) -> None:
        with suppress(CannotWrite):  # the next call that is to be sent will say so
            self._noted(self._in_flight, self.worst)

    def _reservation(self, request: Request, teacher: Teacher) -> Reservation:
        schema = len(json.dumps(request.schema)) if request.schema else 0
        prompt = len((request.system + request.user).encode()) + schema + WRAPPING_TOKENS
        beyond = self._beyond.get(teacher, (1.0, 1.0))
        tokens = Usage(ceil(prompt * beyond[0]), ceil(request.sampling.max_tokens * beyond[1]))
        price = self._prices.get(teacher, NO_PRICE)
        return Reservation(teacher, price, tokens, Spending(1, tokens.total, price.of(tokens)))

    def _reached(self, total: Spending) -> str | None:
        """The cap that this would be beyond, in words."""
        caps, spent = self._caps, self.spent
        if caps.calls is not None and total.calls > caps.calls:
            return f"the budget of {caps.calls:,} calls (--max-calls) is reached"
        if caps.tokens is not None and total.tokens > caps.tokens:
            left = f"{spent.tokens:,} were used, and the next call may take {total.tokens - spent.tokens:,}"
            return f"the budget of {caps.tokens:,} tokens (--max-tokens) is reached: {left}"
        if caps.cost is not None and total.cost > caps.cost:
            left = f"${spent.cost:.4f} was spent, and the next call may cost ${total.cost - spent.cost:.4f}"
            return f"the budget of ${caps.cost} (--max-cost) is reached: {left}"
        return None

    async def _one_to_end(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await future
        finally:
            self._waiting.discard(future)
