"""The only door to a teacher: journal, gate, retry, teacher; and back through the journal.

What was asked before is answered from the journal. What is new is sent, at most `concurrency` calls at once, tried
again where the failure's class says so, and committed before the caller sees it. A call that keeps failing is recorded
too, as given up: a resume does not ask it again. But no row is given up for a teacher that is at fault as a whole:
before that a small question is sent, and where that fails as well the run stops instead.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count

import tenacity

from evol.errors import AskAgain, CallFailed, DoesNotFit, RateLimited, RequestRefused, TeacherError
from evol.journal import Entry, Journal
from evol.records import ROLE_OF_STAGE, SEEDS, Answer, Place, Reason, Request, Role, Verdict
from evol.tally import Tally
from evol.teachers import Teacher, check_cut, read_completion
from evol.words import well_formed

FIRST_WAIT = 0.5  # seconds; doubled with every failure, and the wait is drawn between 0 and that
LONGEST_WAIT = 30.0
LONGEST_RATE_LIMIT = 1800.0  # seconds that a call waits at the teacher's request before the run stops
PROBE_SYSTEM = "Do as the user says."
PROBE = "Reply with one word: ready"
Reply = tuple[bytes, Answer, float]  # the body, what was read of it, and the seconds it took


class GivenUp(Exception):
    """This call will not be answered: the row it was made for is eliminated with the verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard the door tries: calls in flight, tries of one call in all, and how it waits between them.

    `retry_failed` asks again what the journal holds as given up. `sleep` is injected by tests.
    """

    concurrency: int = 16
    tries: int = 5
    retry_failed: bool = False
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Gate:
    """At most `limit` calls in flight; of those who wait, the lowest order goes first."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = count()

    @asynccontextmanager
    async def slot(self, order: int) -> AsyncIterator[None]:
        """Holds a slot while inside."""
        await self._acquire(order)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, order: int) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (order, next(self._arrivals), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # the slot came together with the cancellation
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            *_, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Ask:
    """The door, for one run. `recipe` is the digest of what decides its questions."""

    def __init__(
        self, journal: Journal, teachers: Mapping[Role, Teacher], recipe: str, tally: Tally, limits: Limits
    ) -> None:
        self._journal = journal
        self._teachers = teachers
        self._recipe = recipe
        self._tally = tally
        self._limits = limits
        self._gate = Gate(limits.concurrency)

    def teacher(self, role: Role) -> Teacher:
        """Who has this role."""
        return self._teachers[role]

    async def __call__(self, place: Place, request: Request, order: int = 0) -> Answer:
        """The answer to this request at this place. Lineages with a lower order go first.

        Raises `GivenUp`, and what stops a run: `TeacherError`, `CannotWrite`, `DriftError`, `JournalDamaged`.
        """
        teacher = self._teachers[ROLE_OF_STAGE[place.stage]]
        digest = request.digest(teacher.model)
        entry = self._journal.find(str(place), digest, self._recipe, failures=not self._limits.retry_failed)
        if entry is None:
            return await self._pay(teacher, place, digest, request, order)
        self._tally.replayed += 1
        if entry.failure:
            raise GivenUp(Verdict(entry.failure, place.stage, entry.body.decode("utf-8", "replace")))
        return read_completion(entry.body)

    async def _pay(self, teacher: Teacher, place: Place, digest: bytes, request: Request, order: int) -> Answer:
        call = _Call(self._limits.tries)
        try:
            body, answer, seconds = await self._try_often(call, teacher, request, order)
        except CallFailed as failure:
            reason = Reason.REQUEST_REFUSED if isinstance(failure, RequestRefused) else Reason.TEACHER_FAILED
            said = well_formed(str(failure))
            await self._journal.record(Entry(str(place), digest, self._recipe, said.encode(), reason, call.tries))
            raise GivenUp(Verdict(reason, place.stage, said)) from failure
        self._tally.paid += answer.usage
        await self._journal.record(Entry(str(place), digest, self._recipe, body, "", call.tries, seconds))
        return answer

    async def _try_often(self, call: _Call, teacher: Teacher, request: Request, order: int) -> Reply:
        """Tries as often as allowed; then, where the teacher answers another question, a last time."""
        try:
            async for attempt in call.attempts(self._limits.sleep):
                with attempt:
                    return await self._try(teacher, _redrawn(request, call.tries), order)
            raise AssertionError("unreachable: the last attempt returns or raises")
        except DoesNotFit:
            raise
        except CallFailed as failure:
            await self._make_sure_of(teacher, request, failure, order)
            if not failure.retryable:
                raise
        call.tries += 1
        return await self._try(teacher, _redrawn(request, call.tries), order)

    async def _try(self, teacher: Teacher, request: Request, order: int) -> Reply:
        async with self._gate.slot(order):
            self._tally.calls += 1
            self._tally.in_flight += 1
            started = time.monotonic()
            try:
                body = await teacher.send(request)
                answer = read_completion(body)
                check_cut(answer, request.sampling.max_tokens, teacher.context)
            except CallFailed as failure:
                self._tally.failed_tries += 1
                self._tally.last_failure = str(failure)
                raise
            finally:
                self._tally.in_flight -= 1
            self._tally.last_failure = ""
            return body, answer, time.monotonic() - started

    async def _make_sure_of(self, teacher: Teacher, request: Request, failure: CallFailed, order: int) -> None:
        """Returns where the teacher answers another question; raises `TeacherError` where it is the one at fault."""
        if isinstance(failure, RateLimited):
            raise TeacherError(f"{failure}; asked to wait more than {LONGEST_RATE_LIMIT:g} s: lower --concurrency")
        # In the form of the request that failed: what the server takes of neither is not this row's fault.
        probe = Request("respond", request.system and PROBE_SYSTEM, PROBE, replace(request.sampling, seed=None))
        try:
            # As patient as the call itself: one more failure of a flaky teacher is not the end of a run.
            async for attempt in _Call(self._limits.tries).attempts(self._limits.sleep):
                with attempt:
                    await self._try(teacher, probe, order)
        except RateLimited:
            return  # it is there, and busy
        except CallFailed as again:
            raise TeacherError(
                f"{teacher.model} does not answer even a one-word question: {again}; what was answered is kept, "
                "run the same command again to continue"
            ) from again


class _Call:
    """The tries of one call. A `RateLimited` is no try: it waits as long as it is told, up to a limit."""

    def __init__(self, tries: int) -> None:
        self.tries = 0
        self._allowed = tries
        self._counted = 0
        self._waited_in_line = 0.0

    def attempts(self, sleep: Callable[[float], Awaitable[None]]) -> tenacity.AsyncRetrying:
        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, CallFailed) and error.retryable),
            before=self._begin,
            wait=self._wait,
            stop=self._stop,
            sleep=sleep,
            reraise=True,
        )

    def _begin(self, _: tenacity.RetryCallState) -> None:
        self.tries += 1

    def _wait(self, state: tenacity.RetryCallState) -> float:
        failure = _failure(state)
        if isinstance(failure, AskAgain):
            return 0.0
        wait = random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(state.attempt_number, 10)))
        if isinstance(failure, RateLimited):
            if failure.retry_after is not None:
                # Not all at the same moment: those who were told the same second spread over the next.
                wait = max(failure.retry_after + random.uniform(0, 1), wait)
            self._waited_in_line += wait
        return wait

    def _stop(self, state: tenacity.RetryCallState) -> bool:
        failure = _failure(state)
        self._counted += failure.counted
        return self._counted >= self._allowed or self._waited_in_line > LONGEST_RATE_LIMIT


def _redrawn(request: Request, tries: int) -> Request:
    """The request for this try: with the same seed a server would fail at the same place again."""
    seed = request.sampling.seed
    if seed is None or tries < 2:
        return request
    return replace(request, sampling=replace(request.sampling, seed=(seed + tries - 1) % SEEDS))


def _failure(state: tenacity.RetryCallState) -> CallFailed:
    assert state.outcome is not None
    failure = state.outcome.exception()
    assert isinstance(failure, CallFailed)
    return failure
