"""The limiter before simulated teachers, in virtual time: what it gets out of them, and what it never does.

A simulation has twice as many callers as the limit, as a run has; who is refused comes back at once.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evol.errors import BadReply, RateLimited, TeacherError, TimedOut
from evol.limiter import Limiter, Pace
from evol.records import Allowance, Left
from tests.virtual_time import run

Teacher = Callable[[], Awaitable[None]]
MINUTE = 60.0


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Remote:
    """Answers after about `latency` seconds, lognormal with sigma 0.6; refuses after 50 ms.

    What is refused: what its bucket of `burst` does not hold, that is filled with `rate` per second (another one from
    the times in `rates` on); what comes while `room` are inside; and a `flaky` part of everything.
    """

    rate: float = math.inf
    burst: float = 10.0
    latency: float = 1.0
    retry_after: bool = False
    room: float = math.inf
    flaky: float = 0.0
    rates: dict[float, float] = field(default_factory=dict)
    inside: int = 0
    _level: float = math.inf
    _then: float = 0.0
    _chance: random.Random = field(default_factory=lambda: random.Random(7))

    async def __call__(self) -> None:
        if self._refuses():
            await asyncio.sleep(0.05)
            raise RateLimited("429", 1.0 + (1 - self._level) // self.rate if self.retry_after else None)
        self.inside += 1
        try:
            await asyncio.sleep(self.latency * self._chance.lognormvariate(-0.18, 0.6))
        finally:
            self.inside -= 1

    def _refuses(self) -> bool:
        if self._chance.random() < self.flaky or self.inside >= self.room:
            return True
        if self.rate == math.inf:
            return False
        self._level = min(self.burst, self._level + self.rate * (now() - self._then))
        self._then = now()
        self.rate = next((rate for start, rate in reversed(self.rates.items()) if now() >= start), self.rate)
        if self._level < 1:
            return True
        self._level -= 1
        return False


@dataclass
class Local:
    """Serves four at once, for a second each, and lets the others wait; the client does so for 30 seconds."""

    sigma: float = 0.0
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(4))
    _chance: random.Random = field(default_factory=lambda: random.Random(7))

    async def __call__(self) -> None:
        try:
            async with asyncio.timeout(30), self._slots:
                await asyncio.sleep(self._chance.lognormvariate(-(self.sigma**2) / 2, self.sigma))
        except TimeoutError as error:
            raise TimedOut("no reply in 30 s") from error


@dataclass
class Run:
    """What happened, as times in seconds."""

    seconds: float
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    timed_out: list[float] = field(default_factory=list)
    highest: int = 0

    def speed(self, start: float = 0.0, end: float = math.inf) -> float:
        """Answers per second between these times."""
        return sum(start <= moment < end for moment in self.answered) / (min(end, self.seconds) - start)

    @property
    def refusals(self) -> float:
        """The part of all calls that was refused."""
        return len(self.refused) / (len(self.refused) + len(self.answered))


def simulate(teacher: Teacher, seconds: float, pace: Pace | None = None) -> Run:
    """Twice as many callers as the limit, for so long."""
    seen = Run(seconds)

    async def scene() -> None:
        callers: list[asyncio.Task[None]] = []

        def changed() -> None:
            while len(callers) < 2 * limiter.limit:
                callers.append(asyncio.create_task(call(limiter, teacher, seen, len(callers))))

        limiter = Limiter(pace or Pace(), changed)
        changed()
        await asyncio.sleep(seconds)
        await end(callers)
        assert limiter.in_flight == 0

    run(scene())
    return seen


async def call(limiter: Limiter, teacher: Teacher, seen: Run, order: int) -> None:
    while True:
        try:
            async with limiter.slot(order, 100):
                seen.highest = max(seen.highest, limiter.in_flight)
                assert limiter.in_flight <= max(limiter.limit, seen.highest)
                await teacher()
        except RateLimited:
            seen.refused.append(now())
        except TimedOut:
            seen.timed_out.append(now())
        else:
            seen.answered.append(now())


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# What it gets out of a teacher, the first minute included.


@pytest.mark.parametrize("retry_after", [False, True])
@pytest.mark.parametrize(("rate", "minutes"), [(10.0, 15), (100.0, 5)])
def test_of_a_rate_limit_nine_tenths_are_used_and_hardly_a_call_is_refused(
    rate: float, minutes: int, retry_after: bool
) -> None:
    seen = simulate(Remote(rate, burst=rate, retry_after=retry_after), minutes * MINUTE)
    assert seen.speed() > 0.9 * rate
    assert seen.refusals < 0.01


def test_a_teacher_that_takes_so_many_at_once_gets_so_many() -> None:
    seen = simulate(Remote(room=32), 10 * MINUTE)
    assert seen.speed() > 0.9 * 32
    assert seen.refusals < 0.01


@pytest.mark.parametrize("sigma", [0.0, 0.6])
def test_a_slow_server_that_queues_is_kept_busy_and_never_overrun(sigma: float) -> None:
    seen = simulate(Local(sigma), 60 * MINUTE)
    assert seen.speed() > 0.9 * 4
    assert not seen.timed_out
    assert seen.highest <= 64


def test_a_queue_that_the_user_made_too_long_is_shortened_by_the_first_timeouts() -> None:
    seen = simulate(Local(), 20 * MINUTE, Pace(concurrency=200))
    assert seen.speed(5 * MINUTE) > 0.9 * 4
    assert not [moment for moment in seen.timed_out if moment > 5 * MINUTE]


def test_a_teacher_without_a_limit_has_hundreds_of_calls_within_seconds() -> None:
    seen = simulate(Remote(latency=0.2), 15)
    assert seen.highest == 512
    assert seen.speed(10) > 0.9 * 512 / 0.2


def test_a_teacher_that_changes_is_followed() -> None:
    seen = simulate(Remote(10, rates={5 * MINUTE: 30, 15 * MINUTE: 10}), 25 * MINUTE)
    assert seen.speed(1 * MINUTE, 5 * MINUTE) > 0.9 * 10
    assert seen.speed(5 * MINUTE, 7 * MINUTE) > 0.5 * 30
    assert seen.speed(7 * MINUTE, 15 * MINUTE) > 0.9 * 30
    assert seen.speed(16 * MINUTE) > 0.9 * 10
    assert seen.refusals < 0.01


def test_refusals_by_chance_cost_little() -> None:
    seen = simulate(Remote(flaky=0.01), 10 * MINUTE, Pace(concurrency=64))
    assert seen.speed() > 0.8 * 64


def test_after_an_outage_it_comes_back() -> None:
    class Out(Remote):
        def _refuses(self) -> bool:
            return 60 <= now() < 120

    seen = simulate(Out(), 5 * MINUTE, Pace(concurrency=64))
    assert len(seen.refused) < 100
    assert seen.speed(4 * MINUTE) > 0.9 * 64


# What the user said, and what the teacher says.


def starts(pace: Pace, calls: int, teacher: Callable[[Limiter], Awaitable[None]], tokens: int = 0) -> list[float]:
    """The times at which so many calls that were made at once began."""
    begun: list[float] = []

    async def one(limiter: Limiter) -> None:
        async with limiter.slot(0, tokens):
            begun.append(now())
            await teacher(limiter)

    async def scene() -> None:
        limiter = Limiter(pace)
        async with asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(one(limiter))

    run(scene())
    return begun


async def briefly(_: Limiter) -> None:
    await asyncio.sleep(0.1)


def busiest_minute(begun: list[float]) -> int:
    return max(bisect_left(begun, start + MINUTE) - first for first, start in enumerate(begun))


@pytest.mark.parametrize("rpm", [0.5, 1, 7, 60, 6000])
def test_no_minute_has_more_requests_than_the_user_allows(rpm: float) -> None:
    calls = max(3, int(rpm * 2.5))
    begun = starts(Pace(rpm=rpm), calls, briefly)
    assert busiest_minute(begun) <= rpm + 1
    assert begun[-1] <= (calls + 1) / rpm * MINUTE + 1.1


def test_no_minute_has_more_tokens_than_the_user_allows() -> None:
    begun = starts(Pace(tpm=6000), 40, briefly, tokens=500)
    assert busiest_minute(begun) <= 6000 / 500 + 1
    assert begun[-1] <= 41 * 500 / 6000 * MINUTE


def test_an_estimate_of_tokens_is_corrected() -> None:
    async def scene() -> None:
        limiter = Limiter(Pace(tpm=6000))
        for used, wait in [(10, 0), (1010, 0), (0, 10), (0, 0)]:
            before = now()
            async with limiter.slot(0, 500) as slot:
                assert now() - before == pytest.approx(wait, rel=0.1, abs=1)
                slot.used = used

    run(scene())


def test_a_retry_after_holds_everybody_and_lets_them_go_one_by_one() -> None:
    begun: list[float] = []

    async def one(limiter: Limiter) -> None:
        with suppress(RateLimited):
            async with limiter.slot(0, 0):
                begun.append(now())
                await asyncio.sleep(0.05)
                if len(begun) == 1:
                    raise RateLimited("429", retry_after=20.0)

    async def scene() -> None:
        limiter = Limiter(Pace())
        await asyncio.gather(*(one(limiter) for _ in range(40)))

    run(scene())
    assert begun[1] == pytest.approx(20, abs=0.2)
    assert all(later > earlier + 0.01 for earlier, later in pairwise(begun[1:8]))


@pytest.mark.parametrize("retry_after", [math.nan, math.inf, -5.0, 1e300, None])
def test_a_senseless_retry_after_is_none(retry_after: float | None) -> None:
    async def scene() -> float:
        limiter = Limiter(Pace())
        with suppress(RateLimited):
            async with limiter.slot(0, 0):
                raise RateLimited("429", retry_after)
        async with limiter.slot(0, 0):
            return now()

    assert run(scene()) < 2


def test_a_retry_after_is_bounded() -> None:
    async def scene() -> float:
        limiter = Limiter(Pace())
        with suppress(RateLimited):
            async with limiter.slot(0, 0):
                raise RateLimited("429", 1e6)
        async with limiter.slot(0, 0):
            return now()

    assert run(scene()) == pytest.approx(1800, abs=1)


@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_nothing_left_is_a_pause_until_there_is(kind: str) -> None:
    async def scene() -> float:
        limiter = Limiter(Pace())
        limiter.heed(Allowance(**{kind: Left(100, 0, 30)}))
        async with limiter.slot(0, 10):
            return now()

    assert run(scene()) == pytest.approx(30, abs=0.1)


def test_what_is_left_is_not_exceeded() -> None:
    async def teacher(limiter: Limiter) -> None:
        if limiter.in_flight == 1 and now() < 1:
            limiter.heed(Allowance(requests=Left(100, 8, 60)))
        await asyncio.sleep(5)

    begun = starts(Pace(), 30, teacher)
    assert sum(moment < 0.5 for moment in begun[1:]) <= 8


@pytest.mark.parametrize(("limit", "fixed"), [(600, False), (10, False), (100, True)])
def test_a_limit_that_is_told_is_used_and_not_exceeded(limit: float, fixed: bool) -> None:
    """As a bucket that is filled all the time, 10 per second, or whole again every 20 seconds."""
    length = 20.0
    left, then, window = limit, 0.0, 0.0
    seen = Run(5 * MINUTE)

    async def scene() -> None:
        nonlocal left, then, window
        limiter = Limiter(Pace())

        async def teacher() -> None:
            nonlocal left, then, window
            if not fixed:
                left = min(limit, left + 10 * (now() - then))
            elif now() >= window + length:
                left, window = limit, now()
            then = now()
            if left < 1:
                await asyncio.sleep(0.05)
                raise RateLimited("429")
            left -= 1
            await asyncio.sleep(1)
            reset = window + length - now() if fixed else (limit - left) / 10
            limiter.heed(Allowance(requests=Left(limit, math.floor(left), max(0.0, reset))))

        callers = [asyncio.create_task(call(limiter, teacher, seen, order)) for order in range(100)]
        await asyncio.sleep(seen.seconds)
        await end(callers)

    run(scene())
    assert seen.speed() > 0.7 * (limit / length if fixed else 10)
    assert seen.refusals < 0.02


numbers = st.none() | st.floats() | st.floats(0, 100) | st.integers(-5, 10**20).map(float)
lefts = st.none() | st.builds(Left, numbers, numbers, numbers)


@settings(max_examples=150, deadline=None)
@given(allowances=st.lists(st.none() | st.builds(Allowance, lefts, lefts), max_size=5))
def test_no_allowance_stops_a_run_for_longer_than_a_pause_may_last(allowances: list[Allowance | None]) -> None:
    async def teacher(limiter: Limiter) -> None:
        for allowance in allowances:
            limiter.heed(allowance)
        await asyncio.sleep(0.1)

    begun = starts(Pace(), 3, teacher, tokens=1)
    assert len(begun) == 3
    assert begun[-1] < 3 * 1801


@pytest.mark.parametrize(
    "left", [Left(10, 0, 1.7e9), Left(None, None, None), Left(0, 0, 60), Left(10, -1, 60), Left(10, 0, math.nan)]
)
def test_what_cannot_be_is_not_heeded(left: Left) -> None:
    async def scene() -> float:
        limiter = Limiter(Pace())
        limiter.heed(Allowance(left, left))
        async with limiter.slot(0, 10):
            return now()

    assert run(scene()) == 0


# The line.


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def line(limiter: Limiter, orders: list[int], went: list[int], seconds: float = 1.0) -> Iterator[asyncio.Task[None]]:
    async def one(order: int) -> None:
        async with limiter.slot(order, 0):
            went.append(order)
            await asyncio.sleep(seconds)

    for order in orders:
        yield asyncio.create_task(one(order))


@given(orders=st.lists(st.integers(0, 5), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_of_those_who_wait_the_lowest_order_goes_first(orders: list[int]) -> None:
    async def scene() -> list[int]:
        went: list[int] = []
        limiter = Limiter(Pace(concurrency=1))
        await asyncio.gather(*line(limiter, [-1, *orders], went))
        return went

    assert run(scene()) == [-1, *sorted(orders)]


@given(concurrency=st.integers(1, 8), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_whoever_is_cancelled_leaves_no_slot_behind(concurrency: int, seed: int) -> None:
    chance = random.Random(seed)

    async def one(limiter: Limiter) -> None:
        with suppress(RateLimited, TimedOut, BadReply):
            async with limiter.slot(chance.randrange(3), 10):
                assert limiter.in_flight <= concurrency
                await asyncio.sleep(chance.random())
                raise chance.choice([RateLimited("429"), TimedOut("late"), BadReply("empty")])

    async def scene() -> None:
        limiter = Limiter(Pace(concurrency, rpm=600))
        tasks = [asyncio.create_task(one(limiter)) for _ in range(30)]
        for task in chance.sample(tasks, 20):
            await asyncio.sleep(chance.choice([0, 0, 0.01, 0.3]))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert limiter.in_flight == 0
        async with asyncio.timeout(100), limiter.slot(0, 0):
            assert limiter.in_flight == 1

    run(scene())


def test_a_slot_that_comes_together_with_a_cancellation_goes_to_the_next() -> None:
    async def scene() -> list[int]:
        went: list[int] = []
        limiter = Limiter(Pace(concurrency=1))
        async with limiter.slot(0, 0):
            second, third = line(limiter, [2, 3], went)
            await settle()
        second.cancel()
        await asyncio.gather(second, third, return_exceptions=True)
        assert limiter.in_flight == 0
        return went

    assert run(scene()) == [3]


def test_other_failures_teach_nothing() -> None:
    async def scene() -> None:
        limiter = Limiter(Pace(concurrency=8))
        for _ in range(50):
            with suppress(BadReply):
                async with limiter.slot(0, 0):
                    raise BadReply("empty")
        assert limiter.limit == 8
        for limit in (8, 8, 8, 8, 8, 1):  # the first may be chance
            with suppress(TimedOut):
                async with limiter.slot(0, 0):
                    raise TimedOut("late")
            assert limiter.limit == limit

    run(scene())


def test_calls_that_were_sent_before_a_cut_do_not_cut_again() -> None:
    async def late(limiter: Limiter) -> None:
        with suppress(TimedOut):
            async with limiter.slot(0, 0):
                await asyncio.sleep(30 - now())
                raise TimedOut("late")

    async def scene() -> None:
        limiter = Limiter(Pace(concurrency=40))
        await asyncio.gather(*(late(limiter) for _ in range(40)))
        assert limiter.limit == 17  # half of those in flight at the sixth

    run(scene())


def test_while_it_is_shut_nobody_gets_in() -> None:
    async def scene() -> None:
        went: list[int] = []
        limiter = Limiter(Pace())
        limiter.shut()
        tasks = list(line(limiter, [1, 2], went))
        await asyncio.sleep(1000)
        assert went == []
        limiter.open()
        await asyncio.gather(*tasks)
        assert went == [1, 2]

    run(scene())


def test_a_stop_reaches_those_who_wait_and_those_who_come_and_none_inside() -> None:
    error = TeacherError("the key is refused")

    async def scene() -> None:
        went: list[int] = []
        limiter = Limiter(Pace(concurrency=1))
        first, *others = line(limiter, [1, 2, 3], went)
        await settle()
        limiter.stop(error)
        others += line(limiter, [4], went)
        assert await asyncio.gather(first, *others, return_exceptions=True) == [None, error, error, error]
        assert went == [1]
        assert limiter.in_flight == 0

    run(scene())


def test_growth_is_told() -> None:
    limits: list[int] = []

    async def scene() -> None:
        limiter = Limiter(Pace(), lambda: limits.append(limiter.limit))
        seen = Run(5)
        callers = [asyncio.create_task(call(limiter, Remote(latency=0.2), seen, order)) for order in range(200)]
        await asyncio.sleep(seen.seconds)
        await end(callers)

    run(scene())
    assert limits[:2] == [32, 64]


def test_a_slot_costs_microseconds() -> None:
    async def scene() -> float:
        limiter = Limiter(Pace(concurrency=100, rpm=1e9, tpm=1e12))
        await asyncio.sleep(1)
        began = time.perf_counter()
        for _ in range(1000):
            async with limiter.slot(0, 100):
                pass
        return (time.perf_counter() - began) / 1000

    assert min(run(scene()) for _ in range(3)) < 2e-4  # measured: a tenth of it; the machine may be busy


def test_a_loop_in_virtual_time_does_not_hang() -> None:
    async def scene() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="would hang"):
        run(scene())
