"""The line before one teacher: who waits, who is in flight, and when the next may go."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

from evol.errors import RateLimited, TimedOut
from evol.limiter.bucket import LONGEST_PAUSE, Bucket, capped, sane
from evol.limiter.search import Search, Slot
from evol.records import Allowance

FIRST_LIMIT = 16  # calls in flight that "auto" begins with
HIGHEST_LIMIT = 512  # and never exceeds
SPREAD = 1.0  # seconds over which those start who all could at once, after a wait or with nothing known


@dataclass(frozen=True, slots=True)
class Pace:
    """The user's caps for each teacher; None for `concurrency` is "auto", for the others no cap.

    `rpm` and `tpm` are requests and tokens per minute, above 0.
    """

    concurrency: int | None = None
    rpm: float | None = None
    tpm: float | None = None


class Limiter:
    """How many calls one teacher gets at once, and how fast: found out, not configured.

    `changed` is called whenever the limit grows. One timer is set at most, and no task is made for those who wait.
    """

    def __init__(self, pace: Pace, changed: Callable[[], None] = lambda: None) -> None:
        self._search = Search(pace.concurrency or FIRST_LIMIT, pace.concurrency or HIGHEST_LIMIT)
        self._changed = changed
        self._in_flight = 0
        self._tokens = 0  # estimated, of those in flight
        self._waiting: list[tuple[int, int, asyncio.Future[None], Slot]] = []
        self._arrivals = count()
        self._shut = False
        self._error: Exception | None = None
        self._paused_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._spread: Bucket | None = None  # keeps those apart who could all start at once
        self._spread_until: float | None = None if pace.concurrency is None else 0.0  # None until the first call
        self._of_requests = (capped(pace.rpm, 600), Bucket())  # by the user, and by the teacher's headers
        self._of_tokens = (capped(pace.tpm, 60), Bucket())

    @property
    def limit(self) -> int:
        """Calls that may be in flight now, at least 1."""
        return self._search.limit

    @property
    def in_flight(self) -> int:
        """Calls that are."""
        return self._in_flight

    @asynccontextmanager
    async def slot(self, order: int, tokens: int) -> AsyncIterator[Slot]:
        """Leave to make one call while inside; of those who wait the lowest order goes first.

        `tokens` is an estimate of what the call takes. Raises what `stop` was told.
        """
        slot = Slot(max(0, tokens))
        await self._enter(order, slot)
        try:
            yield slot
        except RateLimited as refusal:
            self._refused(slot, refusal.retry_after)
            raise
        except TimedOut:
            self._search.timed_out(slot, _now(), self._in_flight)
            raise
        else:
            self._succeeded(slot)
        finally:
            self._leave(slot)

    def heed(self, allowance: Allowance | None) -> None:
        """Takes in what the teacher's headers said is left."""
        if allowance is not None:
            now = _now()
            requests = self._of_requests[1].hear(allowance.requests, self._in_flight, now)
            tokens = self._of_tokens[1].hear(allowance.tokens, self._tokens, now)
            self._pause(now, max(requests, tokens))
            self._admit()

    def shut(self) -> None:
        """Lets nobody in until `open`; those who wait go on waiting."""
        self._shut = True

    def open(self) -> None:
        """Lets them in again."""
        if self._shut:
            self._shut = False
            self._search.restart(_now())
            self._admit()

    def stop(self, error: Exception) -> None:
        """From now on nobody gets in: all who wait or come get the error."""
        self._error = error
        for _, _, turn, _ in self._waiting:
            if not turn.done():
                turn.set_result(None)
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

    async def _enter(self, order: int, slot: Slot) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._raise_error()
            heapq.heappush(self._waiting, (order, next(self._arrivals), turn, slot))
            self._admit()
            await turn
            self._raise_error()
        except BaseException:
            turn.cancel()
            if slot.rank:  # the slot came together with the cancellation
                slot.used = 0
                self._leave(slot)
            raise

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)

    def _admit(self) -> None:
        """Lets in all who may go now, and sets the timer for the next."""
        now = _now()
        while self._waiting:
            if self._waiting[0][2].done():  # cancelled
                heapq.heappop(self._waiting)
            elif self._shut:
                return
            elif self._in_flight >= self._search.limit:
                self._search.full = True
                return
            elif wait := self._wait(now):
                self._set_timer(now + min(wait, LONGEST_PAUSE))
                return
            else:
                *_, turn, slot = heapq.heappop(self._waiting)
                self._begin(slot, now)
                turn.set_result(None)

    def _wait(self, now: float) -> float:
        """Seconds until the next may go by the clock, 0.0 for now."""
        if now < self._paused_until:
            return self._paused_until - now
        wait = max([bucket.wait(now) for bucket in (*self._of_requests, *self._of_tokens)])
        if self._spread is not None:
            wait = max(wait, self._spread.wait(now))
            if self._spread_until is not None and now >= self._spread_until:
                self._spread = None
        if not wait and self._search.rhythm.bucket is not None:
            wait = self._search.rhythm.bucket.wait(now)
            self._search.rhythm.used = self._search.rhythm.used or wait > 0
        return wait

    def _begin(self, slot: Slot, now: float) -> None:
        self._in_flight += 1
        self._tokens += slot.tokens
        slot.began, slot.rank = now, self._in_flight
        self._search.began(slot, now)
        if self._spread_until is None:
            self._keep_apart(now, SPREAD)
        for bucket in (*self._of_requests, self._spread, self._search.rhythm.bucket):
            if bucket is not None:
                bucket.level -= 1.0
        for bucket in self._of_tokens:
            bucket.level -= slot.tokens

    def _succeeded(self, slot: Slot) -> None:
        now, before = _now(), self.limit
        self._search.succeeded(slot, now)
        if self.limit > before:
            self._keep_apart(now, self._search.latency / 2)
            self._changed()

    def _refused(self, slot: Slot, retry_after: float | None) -> None:
        now = _now()
        slot.used = slot.used or 0
        self._pause(now, self._search.refused(slot, now, retry_after if sane(retry_after) else 0.0))

    def _leave(self, slot: Slot) -> None:
        self._in_flight -= 1
        self._tokens -= slot.tokens
        if slot.used is not None:
            for bucket in self._of_tokens:
                bucket.level += slot.tokens - max(0, slot.used)
        self._admit()
        if not self._waiting:
            self._search.restart(_now())

    def _pause(self, now: float, seconds: float) -> None:
        until = now + min(seconds, LONGEST_PAUSE)
        if until > max(now, self._paused_until):
            self._paused_until = until
            self._keep_apart(until, max(SPREAD, self._search.latency))
            self._search.restart(until)

    def _keep_apart(self, start: float, seconds: float) -> None:
        """From `start` on nobody starts together with others: the limit is reached in so many seconds."""
        self._spread = Bucket(self.limit / seconds, 1.0)
        self._spread_until = start + seconds

    def _set_timer(self, when: float) -> None:
        """One at a time; one that is set for earlier will do, since it looks again."""
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._admit()


def _now() -> float:
    return asyncio.get_running_loop().time()
