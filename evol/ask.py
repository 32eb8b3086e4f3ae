"""The only door to a teacher: journal, limiter, budget, retry, teacher; and back through the journal.

What was asked before is answered from the journal. What is new waits for its turn, is sent if the budget allows it,
tried again where the failure's class says so, and committed before the caller sees it. A call that keeps failing is
recorded too, as given up: a resume does not ask it again. But no row is given up for a teacher that is at fault as a
whole: before that a small question is sent, and while that fails nothing else is. Where it fails for too long, the run
stops.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import tenacity

from evol.budget import Budget, Caps
from evol.errors import AskAgain, CallFailed, DoesNotFit, EvolError, RateLimited, RequestRefused, TeacherError
from evol.journal import Entry, Journal
from evol.limiter import Limiter, Pace
from evol.records import ROLE_OF_STAGE, SEEDS, Answer, Place, Reason, Request, Role, Usage, Verdict
from evol.tally import Tally
from evol.teachers import Teacher, check_cut, read_completion, read_usage
from evol.words import well_formed

FIRST_WAIT = 0.5  # seconds; doubled with every failure, and the wait is drawn between 0 and that
LONGEST_WAIT = 30.0
LONGEST_RATE_LIMIT = 1800.0  # seconds that a call is kept waiting at the teacher's request before the run stops
DOWN_AFTER = 10  # failures in a row, of any calls: from then on only the small question is sent
PATIENCE = 600.0  # seconds for a teacher to come back
FAILURES_AT_FIRST = 100  # so many more failures than answers may be; beyond that a run would pay for little
FORMS = 10  # in which one request is sent to find out what the server takes
BYTES_PER_TOKEN = 4  # of UTF-8: near enough for a rate
FREE_CONCURRENCY = 16  # of a teacher on this machine, where nothing is found out: it has slots of its own
PROBE_SYSTEM = "Do as the user says."
PROBE = "Reply with one word: ready"
SPENT = "spent"  # under which name the journal keeps what was spent
Reply = tuple[bytes, Answer, float]  # the body, what was read of it, and the seconds it took


class GivenUp(Exception):
    """This call will not be answered: the row it was made for is eliminated with the verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.detail)
        self.verdict = verdict


class Stopped(Exception):
    """Nothing more is sent: the run has been told to stop, and this lineage ends where it is."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard the door tries: the pace of each teacher, tries of one call in all, and patience with a teacher.

    `patience` is how many seconds a teacher may be down before the run stops. `retry_failed` asks again what the
    journal holds as given up.
    """

    pace: Pace = field(default_factory=Pace)
    tries: int = 5
    patience: float = PATIENCE
    retry_failed: bool = False


class _Line:
    """The way to one teacher, and how well it answers."""

    def __init__(self, teacher: Teacher, limiter: Limiter) -> None:
        self.teacher = teacher
        self.limiter = limiter
        self.failures = 0
        self.answers = 0
        self.failures_in_a_row = 0
        self.recovering = asyncio.Lock()
        self.recoveries = 0

    @property
    def is_down(self) -> bool:
        """Whether nothing but failures came for a while."""
        return self.failures_in_a_row >= DOWN_AFTER


class Ask:
    """The door, for one run. `recipe` is the digest of what decides its questions.

    `changed` is set whenever more calls may be in flight than before. `stopped` is why nothing is sent any more.
    """

    def __init__(
        self,
        journal: Journal,
        teachers: Mapping[Role, Teacher],
        recipe: str,
        tally: Tally,
        limits: Limits = Limits(),
        budget: Budget | None = None,
    ) -> None:
        self.changed = asyncio.Event()
        self.stopped: EvolError | None = None
        self._journal = journal
        self._recipe = recipe
        self._tally = tally
        self._limits = limits
        self._budget = budget or Budget(Caps(), {})
        self._stop = asyncio.Event()
        lines = {id(teacher): self._line(teacher) for teacher in teachers.values()}
        self._lines = {role: lines[id(teacher)] for role, teacher in teachers.items()}

    def teacher(self, role: Role) -> Teacher:
        """Who has this role."""
        return self._lines[role].teacher

    @property
    def capacity(self) -> int:
        """How many calls may be in flight now, at all teachers together."""
        return sum(line.limiter.limit for line in self._distinct)

    @property
    def in_flight(self) -> int:
        """Calls whose answers may have been paid for and are not on the disk."""
        return self._budget.in_flight

    @property
    def paid_in_flight(self) -> int:
        """Those that cost money, as far as no answer came yet."""
        return sum(line.limiter.in_flight for line in self._distinct if not line.teacher.free)

    def stop(self, error: EvolError) -> None:
        """Sends nothing from now on; who wants to send is `Stopped`. What is in flight is left to come in."""
        if self.stopped is not None:
            return
        self.stopped = error
        self._stop.set()
        self.changed.set()
        self._budget.stop(Stopped())
        for line in self._distinct:
            line.limiter.stop(Stopped())

    async def wait_for_stop(self) -> None:
        """Returns when the run is told to stop."""
        await self._stop.wait()

    async def __call__(self, place: Place, request: Request, order: int = 0) -> Answer:
        """The answer to this request at this place. Lineages with a lower order go first.

        Raises `GivenUp`; `Stopped`; and what stops a run: `TeacherError`, `BudgetReached`, `CannotWrite`, `DriftError`,
        `JournalDamaged`.
        """
        line = self._lines[ROLE_OF_STAGE[place.stage]]
        digest = request.digest(line.teacher.model)
        entry = self._journal.find(str(place), digest, self._recipe, failures=not self._limits.retry_failed)
        if entry is None:
            return await self._pay(line, place, digest, request, order)
        self._tally.replayed += 1
        if entry.failure:
            raise GivenUp(Verdict(entry.failure, place.stage, entry.body.decode("utf-8", "replace")))
        return read_completion(entry.body)

    async def _pay(self, line: _Line, place: Place, digest: bytes, request: Request, order: int) -> Answer:
        call = _Call(self._limits.tries)
        try:
            body, answer, seconds = await self._try_often(call, line, request, order)
        except CallFailed as failure:
            reason = Reason.REQUEST_REFUSED if isinstance(failure, RequestRefused) else Reason.TEACHER_FAILED
            said = well_formed(str(failure))
            self._journal.put_meta(SPENT, self._budget.spent.to_json())
            await self._journal.record(Entry(str(place), digest, self._recipe, said.encode(), reason, call.tries))
            raise GivenUp(Verdict(reason, place.stage, said)) from failure
        self._journal.put_meta(SPENT, self._budget.spent.to_json())
        try:
            await self._journal.record(Entry(str(place), digest, self._recipe, body, "", call.tries, seconds))
        finally:
            self._budget.landed()
        return answer

    async def _try_often(self, call: _Call, line: _Line, request: Request, order: int) -> Reply:
        """Tries as often as allowed; then, where the teacher answers another question, a last time."""
        try:
            return await self._try_all(call, line, request, order)
        except DoesNotFit:
            raise
        except CallFailed as failure:
            await self._wait_until_it_answers(line, request)
            if not failure.retryable:
                raise
        call.allow_one_more()
        return await self._try_all(call, line, request, order)

    async def _try_all(self, call: _Call, line: _Line, request: Request, order: int) -> Reply:
        async def between(seconds: float) -> None:
            if line.is_down:
                await self._wait_until_it_answers(line, request)
            else:
                await self._sleep(seconds)

        try:
            async for attempt in call.attempts(line, between):
                with attempt:
                    return await self._try(line, _redrawn(request, call.tries), order)
        except RateLimited as failure:
            asked = failure.retry_after or 0.0
            how_long = (
                f"{asked:,.0f} s" if asked > LONGEST_RATE_LIMIT else f"more than {LONGEST_RATE_LIMIT:,.0f} s by now"
            )
            raise TeacherError(
                f"{failure}; that is for {how_long}: run the same command again later, or lower --rpm and --concurrency"
            ) from failure
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _try(self, line: _Line, request: Request, order: int) -> Reply:
        """One try, when it is its turn: a call, and another at once where the server takes it in another form."""
        for _ in range(FORMS):
            with suppress(AskAgain):
                async with line.limiter.slot(order, self._tokens(request)) as slot:
                    reply = await self._send(line, request)
                    slot.used = reply[1].usage.total or None  # not told: the estimate stands
                    return reply
        raise RequestRefused(f"{line.teacher.model} takes the request in none of {FORMS} forms")

    async def _send(self, line: _Line, request: Request) -> Reply:
        """One call, at once if the budget allows it."""
        teacher, clock = line.teacher, asyncio.get_running_loop().time
        reservation = await self._budget.reserve(request, teacher)
        self._tally.calls += 1
        self._tally.in_flight += 1
        started, body = clock(), b""
        used: Usage | None = None  # not known: it counts at its worst
        try:
            body = await teacher.send(request)
            answer = read_completion(body)
            check_cut(answer, request.sampling.max_tokens, teacher.context)
            used = answer.usage if answer.usage.total else None
        except (CallFailed, EvolError) as error:
            used = _used(error, body)
            self._budget.landed()
            if isinstance(error, CallFailed):
                self._count_failure(line, error)
            raise
        except BaseException:  # cancelled: nobody will ever know
            self._budget.landed()
            raise
        finally:
            said, teacher.allowance = teacher.allowance, None  # once: its times count from now
            line.limiter.heed(said)
            self._tally.in_flight -= 1
            self._tally.paid += used or Usage()
            self._tally.cost += self._budget.settle(reservation, used).cost
        line.answers += 1
        line.failures_in_a_row = 0
        self._tally.last_failure = ""
        return body, answer, clock() - started

    def _count_failure(self, line: _Line, failure: CallFailed) -> None:
        """Raises `TeacherError` where more fails than is answered: such a run pays for little."""
        if isinstance(failure, AskAgain):
            return
        self._tally.failed_tries += 1
        self._tally.last_failure = str(failure)
        if not failure.retryable or not failure.counted:
            return
        line.failures_in_a_row += 1
        line.failures += not line.is_down
        if line.failures > FAILURES_AT_FIRST + line.answers and not line.teacher.free:
            raise TeacherError(
                f"{line.teacher.model} fails more often than it answers ({line.failures:,} times, and {line.answers:,} "
                f"answers), lastly: {failure}; what was answered is kept, run the same command again to go on"
            ) from failure

    async def _wait_until_it_answers(self, line: _Line, request: Request) -> None:
        """Returns when the teacher answers another question. Raises `TeacherError` where it does not for too long.

        One asks for all who want to know. After the first failure nobody else is let in.
        """
        seen = line.recoveries
        async with line.recovering:
            if line.recoveries == seen:
                try:
                    await self._probe(line, request)
                finally:
                    line.limiter.open()
                line.recoveries += 1

    async def _probe(self, line: _Line, request: Request) -> None:
        # In the form of the request that failed: what the server takes of neither is not this row's fault.
        probe = Request("respond", request.system and PROBE_SYSTEM, PROBE, replace(request.sampling, seed=None))
        loop = asyncio.get_running_loop()
        started, wait = loop.time(), FIRST_WAIT
        while True:
            try:
                await self._send_probe(line, probe)
            except RateLimited as busy:
                await self._sleep(min(busy.retry_after or wait, LONGEST_WAIT))
                return  # it is there
            except CallFailed as failure:
                line.limiter.shut()
                self._check_patience(line, failure, loop.time() - started)
                await self._sleep(random.uniform(0, wait))
                wait = min(2 * wait, LONGEST_WAIT)
            else:
                return

    async def _send_probe(self, line: _Line, probe: Request) -> None:
        for _ in range(FORMS):
            with suppress(AskAgain):
                await self._send(line, probe)
                self._budget.landed()
                return
        raise RequestRefused(f"the server takes it in none of {FORMS} forms")

    def _check_patience(self, line: _Line, failure: CallFailed, seconds: float) -> None:
        if seconds >= self._limits.patience or not failure.retryable:
            raise TeacherError(
                f"{line.teacher.model} does not answer even a one-word question: {failure}; what was answered is kept, "
                "run the same command again to continue"
            ) from failure

    async def _sleep(self, seconds: float) -> None:
        """Raises `Stopped` where the run is told to stop meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return
        raise Stopped

    def _line(self, teacher: Teacher) -> _Line:
        pace = self._limits.pace
        if teacher.free and pace.concurrency is None:
            pace = replace(pace, concurrency=FREE_CONCURRENCY)
        return _Line(teacher, Limiter(pace, self.changed.set))

    @property
    def _distinct(self) -> list[_Line]:
        return list({id(line): line for line in self._lines.values()}.values())

    @staticmethod
    def _tokens(request: Request) -> int:
        """About how many tokens a call takes of a rate, as providers count them: with the reply it may have."""
        return len((request.system + request.user).encode()) // BYTES_PER_TOKEN + request.sampling.max_tokens


class _Call:
    """The tries of one call.

    What is no fault of the call is no try: being told to wait (up to a limit), and a teacher that is down.
    """

    def __init__(self, tries: int) -> None:
        self.tries = 0
        self._allowed = tries
        self._counted = 0
        self._limited_since: float | None = None

    def attempts(self, line: _Line, between: Callable[[float], Awaitable[None]]) -> tenacity.AsyncRetrying:
        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, CallFailed) and error.retryable),
            before=self._begin,
            wait=_wait,
            stop=lambda state: self._is_over(_failure(state), line),
            sleep=between,
            reraise=True,
        )

    def allow_one_more(self) -> None:
        """After what would have been the last."""
        self._counted = self._allowed - 1

    def _begin(self, _: tenacity.RetryCallState) -> None:
        self.tries += 1

    def _is_over(self, failure: CallFailed, line: _Line) -> bool:
        now = asyncio.get_running_loop().time()
        if isinstance(failure, RateLimited):
            self._limited_since = now if self._limited_since is None else self._limited_since
            waits = failure.retry_after or 0.0
            return now + waits - self._limited_since > LONGEST_RATE_LIMIT
        self._limited_since = None
        self._counted += failure.counted and not line.is_down
        return self._counted >= self._allowed


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds until the next try, with full jitter; who was told to wait does so at the limiter, with all others."""
    failure = _failure(state)
    if not failure.counted:
        return 0.0
    return random.uniform(0, min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(state.attempt_number, 10)))


def _used(error: Exception, body: bytes) -> Usage | None:
    """What a call that failed has used: what its reply says, or nothing, or None where nobody knows."""
    if body:
        return read_usage(body)
    return None if isinstance(error, CallFailed) and error.billed else Usage()


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
