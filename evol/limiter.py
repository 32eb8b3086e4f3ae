"""How many calls one teacher gets at once, and how fast: found out, not configured.

Two numbers are searched for. The *limit* is how many calls may be in flight: doubled while more of them bring more
completions per second, kept where they do not (a server that queues gains nothing but late answers). The *rhythm* is
how many may start per second: none until the teacher refuses calls that it took before at the same number in flight.
A refusal where nobody ever got in lowers the limit; any other lowers the rhythm, to what was accepted since the last
one. After a cut both are held for a while and then raised in growing steps, so that refusals are rare and a change of
the teacher's capacity is still noticed. Latency is never compared: it says too little, and a limit that follows it
collapses.

What is known need not be searched for: the user's caps and the teacher's own headers are buckets beside that.
Everything happens on the running event loop and by its clock.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from math import inf, isfinite, sqrt
from typing import TypeGuard

from evol.errors import RateLimited, TimedOut
from evol.records import Allowance, Left

FIRST_LIMIT = 16  # calls in flight that "auto" begins with
HIGHEST_LIMIT = 512  # and never exceeds
LONGEST_PAUSE = 1800.0  # seconds: what a teacher may ask for at most
FIRST_PAUSE = 0.1  # seconds after a refusal that does not say how long; doubled with every cut in a row
LONGEST_OWN_PAUSE = 30.0
FIRST_HOLD = 5.0  # seconds without growth after a cut; doubled while the cuts come at the same place
LONG_HOLD = 60.0  # up to this, or as long as so many calls take
HELD_CALLS = 400
LONGEST_HOLD = 600.0
DAY = 86_400.0  # seconds: a reset beyond it is no reset but a date, or nonsense
RECENT = (1 << 50) - 1  # mask of the outcomes that decide whether refusals are chance
SOFTER = (0.97, 0.93, 0.85, 0.7, 0.5)  # what the first, second, ... cut in a row leaves of the rhythm
SLOWEST = 0.1  # calls per second: no cut goes below it
SHORTEST_WAIT = 1e-4  # seconds: less is not worth a timer


@dataclass(frozen=True, slots=True)
class Pace:
    """The user's caps for each teacher; None for `concurrency` is "auto", for the others no cap.

    `rpm` and `tpm` are requests and tokens per minute.
    """

    concurrency: int | None = None
    rpm: float | None = None
    tpm: float | None = None


@dataclass(slots=True, eq=False)
class Slot:
    """Leave to make one call. Set `used` when the tokens it really took are known; until then the estimate counts."""

    tokens: int
    used: int | None = None
    began: float = 0.0  # by the loop's clock
    rank: int = 0  # calls in flight when it began, itself included
    era: int = 0  # cuts before it began


class _Bucket:
    """A level that rises by `rate` per second up to `most`. Whoever finds 1 or more in it may go.

    `whole` is the time at which it is full in any case.
    """

    __slots__ = ("_then", "level", "most", "rate", "whole")

    def __init__(self, rate: float, most: float) -> None:
        self.rate = rate
        self.most = max(most, 1.0)
        self.level = self.most
        self.whole = inf
        self._then = 0.0

    def fill(self, now: float) -> None:
        """Brings the level to what it is now."""
        if now >= self.whole:
            self.level, self.whole = self.most, inf
            self.rate = max(self.rate, self.most / 60)  # nothing was heard since: no reason to starve
        self.level = min(self.most, self.level + self.rate * (now - self._then))
        self._then = now

    def wait(self, now: float) -> float:
        """Seconds until somebody may go; 0.0 for now."""
        self.fill(now)
        if self.level >= 1.0 - 1e-6:
            return 0.0
        wait = (1.0 - self.level) / self.rate if self.rate else inf
        return max(SHORTEST_WAIT, min(wait, self.whole - now))


class _Search:
    """What is learnt from how calls end: `limit`, and `rhythm` once there were refusals."""

    def __init__(self, first: int, highest: int) -> None:
        self.limit = first
        self.highest = highest
        self.rhythm: _Bucket | None = None
        self.latency = 0.0  # seconds, of late
        self.era = 0
        self.full = False  # somebody had to wait for the limit since the last look
        self.slowed = False  # somebody had to wait for the rhythm since the last look
        self._accepted = [0] * (highest + 1)  # since the last cut, by rank
        self._lowest = highest  # the lowest rank refused since the last cut
        self._stride = first  # what the limit grows by next
        self._quickening = 0.01  # the part of itself that the rhythm grows by next
        self._next_look = 0.0  # when the rhythm may grow again
        self._last_look = 0.0, 0  # when it could last, and how many were sent by then
        self._survived = 0.0  # the rhythm before it last grew
        self._mixed = self._bursty = False  # whether that decided the last cut, and was wrong
        self._hold, self._held_until = FIRST_HOLD / 2, 0.0
        self._cut_at = 0.0  # the limit after the last cut, or the rhythm, below 0
        self._row, self._soon = 0, 0.0  # cuts in a row, and until when the next one belongs to them
        self._recent = 0  # bits: the outcomes of late, 1 for a refusal
        self._noise = 0.0  # the part of calls that is refused whatever one does
        self._refused_before = 0.0  # the part refused before the last cut
        self._since, self._sent, self._refused = 0.0, 0, 0  # the last cut, and what was sent and refused after it
        self._base = (first, 0.0)  # the limit to fall back to, and the completions per second it brought
        self._window, self._completed = 0.0, 0  # when counting began, and the completions since

    def restart(self, now: float) -> None:
        """Begins to count completions anew: what came before now was not at full speed."""
        self._window, self._completed = now, 0
        self.full = self.slowed = False

    def began(self, slot: Slot, now: float) -> None:
        if not self.era and not self._sent:
            self._since = self._window = now
        slot.era = self.era
        self._sent += 1

    def succeeded(self, slot: Slot, now: float) -> None:
        self.latency += (now - slot.began - self.latency) * 0.1
        if slot.era == self.era:
            self._recent = self._recent << 1 & RECENT
            self._accepted[slot.rank] += 1
        self._completed += 1
        if self._completed >= self._enough():
            self._look(now)
        if self.rhythm and now >= max(self._held_until, self._next_look):
            self._quicken(self.rhythm, now)

    def refused(self, slot: Slot, now: float, asked: float) -> float:
        """Returns the seconds to pause; `asked` are those that the teacher asked for."""
        if slot.era != self.era:
            return asked
        self._refused += 1
        self._lowest = min(self._lowest, slot.rank)
        self._recent = (self._recent << 1 | 1) & RECENT
        allowed = 1 if asked else (3 if now < self._held_until else 2) + self._noise * 150
        if self._recent.bit_count() < allowed:  # chance, so far
            return asked
        self._row = self._row + 1 if now < self._soon else 0
        pause = asked or min(LONGEST_OWN_PAUSE, FIRST_PAUSE * 2.0 ** min(self._row, 20))
        self._soon = now + pause + max(2.0, self.latency)
        crowded = sum(self._accepted[self._lowest :]) < self._refused
        goal = max(self.limit, self._base[0]) if self._row else self.limit
        if crowded or self._row > 1:
            self.limit = max(1, self._lowest - 1, self.limit // 2)
        if not crowded:
            self._slow_down(now)
        self._cut(now, goal, self.limit if crowded or not self.rhythm else -self.rhythm.rate)
        return pause

    def timed_out(self, slot: Slot, now: float) -> None:
        if slot.era == self.era:
            self.limit = max(1, min(self.limit, slot.rank) // 2)
            self._cut(now, self.limit, self.limit)

    def _slow_down(self, now: float) -> None:
        """A teacher's bucket was empty at the last refusal and is now: what it took between them, it sustains."""
        rate = self.rhythm.rate if self.rhythm else self.limit / self.latency
        passed = now - self._since
        taken = self._sent - self._refused
        steady = taken / passed if passed > 2.0 and taken >= 8 else inf
        if self._mixed and now < self._held_until:
            self._bursty = True  # what it survived for a while, it did not sustain
        self._mixed = steady < self._survived and not self._bursty
        if self._mixed:
            steady = sqrt(steady * self._survived)
        rate = max(SLOWEST, rate / 2, min(rate * SOFTER[min(self._row, 4)], steady * 0.98))
        self._set_rhythm(rate, now)

    def _set_rhythm(self, rate: float, now: float) -> None:
        if self.rhythm is None:
            self.rhythm = _Bucket(rate, 1.0)
            self.rhythm.level = 0.0
        self.rhythm.fill(now)
        self.rhythm.rate, self.rhythm.most = rate, max(1.0, rate / 50)

    def _cut(self, now: float, goal: int, place: float) -> None:
        self.era += 1
        if self._sent >= 20:
            self._refused_before = self._refused / self._sent
        self._recent = self._sent = self._refused = 0
        self._survived = 0.0
        self._since = now
        self._keep(now, place)
        self._base = (goal, 0.0)
        self._accepted = [0] * len(self._accepted)
        self._lowest = self.highest

    def _keep(self, now: float, place: float) -> None:
        """No growth for a while; longer where the last time came to the same result."""
        same = abs(place - self._cut_at) <= abs(self._cut_at) * 0.15
        rate = self.rhythm.rate if self.rhythm else self.limit / self.latency
        longest = min(LONGEST_HOLD, max(LONG_HOLD, HELD_CALLS / rate))
        self._hold = min(longest, self._hold * 2) if same else FIRST_HOLD
        self._cut_at = place
        self._held_until = now + self._hold
        self._stride, self._quickening = 1, 0.01
        self._last_look = now, self._sent
        self.restart(now)

    def _enough(self) -> int:
        """Completions to count before looking at them: about one latency, and more where a change is small."""
        if not self._grown():
            return max(4, self.limit)
        return max(32 if self._stride > self._base[0] else 128, self.limit)

    def _grown(self) -> bool:
        return self._base[1] > 0 and self.limit >= self._base[0] * 1.5

    def _look(self, now: float) -> None:
        """A window is over: was it worth the last growth, and may the limit grow?"""
        speed = self._completed / max(now - self._window, 1e-9)
        full, slowed = self.full, self.slowed
        limit, before = self._base
        if self._grown() and full and not slowed:
            if speed < before * (1 + (self.limit / limit - 1) * (0.25 if self._stride > limit else 0.5)):
                self.limit = limit
                self._keep(now, limit)
                return
        if self.limit == limit and before:
            speed = before + (speed - before) * 0.3
        if full and self.limit >= limit and (self._grown() or self.limit == limit or slowed or not before):
            self._base = (self.limit, speed)
        self._window, self._completed, self.full = now, 0, False
        if full and now >= self._held_until:
            self._measure_noise()
            self.limit = min(self.highest, self.limit + self._stride)
            self._stride = min(self.limit, self._stride * 2)

    def _quicken(self, rhythm: _Bucket, now: float) -> None:
        """The rhythm grows where it was used up since the last look."""
        since, sent = self._last_look
        if self.slowed and self._sent - sent >= rhythm.rate * (now - since) * 0.8:
            self._measure_noise()
            self._survived = rhythm.rate
            self._set_rhythm(rhythm.rate * (1 + self._quickening), now)
            self._quickening = min(1.0, self._quickening * 2)
        self._last_look = now, self._sent
        self._next_look = now + max(2.0, self.latency, 2 / rhythm.rate)
        self.slowed = False

    def _measure_noise(self) -> None:
        """The first growth after a hold: what was refused during it is not for growing."""
        if self._quickening > 0.01 or self._stride > 1 or not self._sent:
            return
        share = self._refused / self._sent
        if self._mixed:
            self._bursty = self._bursty or share > self._noise + 0.01
        elif self._sent >= 100:
            self._noise = min(0.03, share, self._refused_before)


class Limiter:
    """One teacher's calls: who waits, who is in flight, and when the next may go.

    `changed` is called whenever the limit grows.
    """

    def __init__(self, pace: Pace, changed: Callable[[], None] = lambda: None) -> None:
        self._search = _Search(pace.concurrency or FIRST_LIMIT, pace.concurrency or HIGHEST_LIMIT)
        self._changed = changed
        self._in_flight = 0
        self._tokens = 0  # estimated, of those in flight
        self._waiting: list[tuple[int, int, asyncio.Future[None], Slot]] = []
        self._arrivals = count()
        self._shut = False
        self._error: Exception | None = None
        self._paused_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ramp: _Bucket | None = None  # for those who start after a pause, and at first
        self._ramp_until = 0.0
        self._of_requests = (_capped(pace.rpm, 600), _Bucket(0.0, inf))  # by the user, and by the teacher's headers
        self._of_tokens = (_capped(pace.tpm, 60), _Bucket(0.0, inf))

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

        `tokens` is an estimate of what the call will take. Raises what `stop` was told.
        """
        slot = await self._enter(order, Slot(max(0, tokens)))
        try:
            yield slot
        except RateLimited as refusal:
            slot.used = slot.used or 0
            now = _now()
            self._pause(now, self._search.refused(slot, now, _seconds(refusal.retry_after)))
            raise
        except TimedOut:
            self._search.timed_out(slot, _now())
            raise
        else:
            before = self.limit
            self._search.succeeded(slot, _now())
            if self.limit > before:
                self._spread(_now(), 0.5)
                self._changed()
        finally:
            self._leave(slot)

    def heed(self, allowance: Allowance | None) -> None:
        """Takes in what the teacher's headers said is left."""
        if allowance is not None:
            now = _now()
            self._hear(allowance.requests, self._of_requests[1], self._in_flight, now)
            self._hear(allowance.tokens, self._of_tokens[1], self._tokens, now)
            self._admit()

    def shut(self) -> None:
        """Lets nobody in until `open`; those who wait go on waiting."""
        self._shut = True

    def open(self) -> None:
        """Lets them in again."""
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
        if self._timer:
            self._timer.cancel()

    async def _enter(self, order: int, slot: Slot) -> Slot:
        if self._error:
            raise self._error
        if not self._search.latency:
            self._search.latency = 1.0
            self._spread(_now(), 1.0)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (order, next(self._arrivals), turn, slot))
        self._admit()
        try:
            if not turn.done():
                await turn
            if self._error:
                raise self._error
        except BaseException:
            turn.cancel()
            if slot.rank:  # the slot came together with the cancellation
                slot.used = 0
                self._leave(slot)
            raise
        return slot

    def _admit(self) -> None:
        """Lets in all who may go now, and sets the timer for the next."""
        now, search = _now(), self._search
        while self._waiting:
            if self._waiting[0][2].done():  # cancelled
                heapq.heappop(self._waiting)
            elif self._shut or self._in_flight >= search.limit:
                search.full = True
                return
            elif wait := self._wait(now):
                self._set_timer(now + wait)
                return
            else:
                *_, turn, slot = heapq.heappop(self._waiting)
                self._begin(slot, now)
                turn.set_result(None)

    def _wait(self, now: float) -> float:
        """Seconds until the next may go by the clock, 0.0 for now."""
        if now < self._paused_until:
            return self._paused_until - now
        wait = 0.0
        for bucket in (*self._of_requests, *self._of_tokens):
            wait = max(wait, bucket.wait(now))
        if self._ramp:
            wait = max(wait, self._ramp.wait(now))
            if now >= self._ramp_until:
                self._ramp = None
        if not wait and self._search.rhythm:
            wait = self._search.rhythm.wait(now)
            self._search.slowed = self._search.slowed or wait > 0
        return wait

    def _begin(self, slot: Slot, now: float) -> None:
        self._in_flight += 1
        self._tokens += slot.tokens
        slot.began, slot.rank = now, self._in_flight
        self._search.began(slot, now)
        for bucket in self._of_requests:
            bucket.level -= 1.0
        for bucket in self._of_tokens:
            bucket.level -= slot.tokens
        for pacing in (self._ramp, self._search.rhythm):
            if pacing:
                pacing.level -= 1.0

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
        """Nobody starts for so long; those who waited for it start one after the other, over about one latency."""
        until = now + min(seconds, LONGEST_PAUSE)
        if until > max(now, self._paused_until):
            self._paused_until = until
            self._spread(until, 1.0)
            self._search.restart(until)

    def _spread(self, start: float, share: float) -> None:
        """From `start` on, nobody starts together with others: the limit is reached in a share of a latency."""
        seconds = max(1.0, self._search.latency) * share
        self._ramp = _Bucket(self.limit / seconds, 1.0)
        self._ramp_until = start + seconds

    def _hear(self, left: Left | None, bucket: _Bucket, uncounted: float, now: float) -> None:
        """What the teacher says is left, less what is on its way, bounds the level from below, and from above as it is.

        The rate is the highest heard of late: where a reset is rounded, or that of a fixed window, a single answer says
        too little.
        """
        if left is None or not _sane(left.remaining) or not _sane(left.reset):
            return
        limit, remaining, reset = left.limit or left.remaining, left.remaining, left.reset
        if not limit or not 0 < reset <= DAY:
            return
        bucket.fill(now)
        bucket.most = max(limit, remaining, 1.0) if isfinite(limit) else max(remaining, 1.0)
        bucket.rate = max(bucket.rate * 0.99, (bucket.most - remaining) / reset)
        bucket.level = max(remaining - uncounted, min(bucket.level, remaining))
        bucket.whole = now + min(reset, LONGEST_PAUSE)
        if remaining < 1.0:
            self._pause(now, reset)

    def _set_timer(self, when: float) -> None:
        """One timer at a time; one that is set for earlier will do, since it looks again."""
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


def _capped(per_minute: float | None, parts: int) -> _Bucket:
    """A bucket that lets at most `per_minute` and one through in any minute, and a part of them at once."""
    if per_minute is None:
        return _Bucket(0.0, inf)
    at_once = max(1.0, per_minute / parts)
    return _Bucket((per_minute + 1 - at_once) / 60, at_once)


def _sane(value: float | None) -> TypeGuard[float]:
    return value is not None and isfinite(value) and value >= 0


def _seconds(retry_after: float | None) -> float:
    """What the teacher asks for, 0.0 where it is nothing or nonsense."""
    return min(retry_after, LONGEST_PAUSE) if _sane(retry_after) else 0.0
