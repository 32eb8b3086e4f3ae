"""The door: journal first, then the teacher, as often as the failure's class allows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evol.ask import FAILURES_AT_FIRST, PATIENCE, PROBE, Ask, GivenUp, Limits, Stopped
from evol.budget import Budget
from evol.errors import (
    AskAgain,
    BadReply,
    CallFailed,
    DoesNotFit,
    RateLimited,
    RequestRefused,
    TeacherError,
    Unavailable,
)
from evol.journal import Journal
from evol.limiter import Pace
from evol.recipe import ROLES
from evol.records import Allowance, Answer, Left, Place, Request, Sampling
from evol.tally import Tally
from evol.teachers import ScriptedTeacher, completion_body
from tests import virtual_time

PLACE = Place("s1", 1, "evolve")
REQUEST = Request("evolve", "system", "user", Sampling(100))
FOUR = Limits(Pace(4))


class Door:
    """A door on a journal of its own, in virtual time; `took` is how many seconds the last answer took."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.took = 0.0
        self.tally = Tally()

    def ask(
        self,
        teacher: ScriptedTeacher,
        *,
        request: Request = REQUEST,
        limits: Limits = FOUR,
        budget: Budget | None = None,
    ) -> Answer:
        """Opens the journal, asks once, closes it."""

        async def ask(journal: Journal) -> Answer:
            door = Ask(journal, dict.fromkeys(ROLES, teacher), "recipe", self.tally, limits, budget)
            started = asyncio.get_running_loop().time()
            try:
                return await door(PLACE, request)
            finally:
                self.took = asyncio.get_running_loop().time() - started

        with Journal(self.path) as journal:
            return virtual_time.run(ask(journal), threads=virtual_time.JOURNAL)


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path / "j.db")


def failing_then(answer: str, *failures: CallFailed) -> ScriptedTeacher:
    return ScriptedTeacher([*failures, answer])


def always(failure: CallFailed, *, probe: str | None) -> Callable[[Request], str | CallFailed]:
    """Fails on everything, but answers the small question where `probe` is given."""
    return lambda request: probe if probe and request.user == PROBE else failure


def test_an_answer_is_asked_for_once_and_then_comes_from_the_journal(door: Door) -> None:
    teacher = ScriptedTeacher(["hello"])
    assert [door.ask(teacher).text for _ in range(3)] == ["hello"] * 3
    assert len(teacher.requests) == 1
    assert (door.tally.calls, door.tally.replayed) == (1, 2)


@pytest.mark.parametrize(
    "failure",
    [Unavailable("reset"), BadReply("no choices"), RateLimited("slow down", 2.0)],
    ids=["unavailable", "bad reply", "rate limited"],
)
def test_what_may_be_retried_is(door: Door, failure: CallFailed) -> None:
    teacher = failing_then("hello", failure, failure)
    assert door.ask(teacher).text == "hello"
    assert len(teacher.requests) == 3
    assert door.took > 0


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"{}",
        b'{"choices": []}',
        completion_body("", "p", "m"),
        completion_body("cut short", "p", "m", "length"),
    ],
    ids=["not JSON", "no object of ours", "no choices", "empty", "cut below its cap"],
)
def test_a_reply_of_no_use_is_asked_for_again(door: Door, body: bytes) -> None:
    teacher = ScriptedTeacher([body, "hello"])
    assert door.ask(teacher).text == "hello"
    assert door.tally.failed_tries == 1


def test_a_reply_cut_at_its_cap_is_an_answer_that_says_so(door: Door) -> None:
    body = completion_body("x" * 400, "p", "m", "length")
    assert door.ask(ScriptedTeacher([body])).truncated


def test_the_teachers_own_wait_is_kept(door: Door) -> None:
    door.ask(failing_then("hello", RateLimited("slow down", 7.0)))
    assert 7.0 <= door.took <= 9.0


def test_being_told_to_wait_is_no_try(door: Door) -> None:
    teacher = failing_then("hello", *[RateLimited("slow down", 1.0)] * 20)
    assert door.ask(teacher, limits=replace(FOUR, tries=2)).text == "hello"


def test_a_teacher_that_never_stops_telling_to_wait_stops_the_run(door: Door) -> None:
    with pytest.raises(TeacherError, match="--concurrency"):
        door.ask(ScriptedTeacher(always(RateLimited("slow down", 600.0), probe=None)))


@pytest.mark.parametrize(("tries", "sent"), [(5, 7), (2, 4)])
def test_a_call_that_keeps_failing_is_given_up_when_the_teacher_answers_others(
    door: Door, tries: int, sent: int
) -> None:
    teacher = ScriptedTeacher(always(Unavailable("reset"), probe="ready"))
    with pytest.raises(GivenUp) as given_up:
        door.ask(teacher, limits=replace(FOUR, tries=tries))
    assert given_up.value.verdict.reason == "teacher_failed"
    assert len(teacher.requests) == sent


def test_a_call_that_was_given_up_is_not_asked_again_unless_wanted(door: Door) -> None:
    with pytest.raises(GivenUp):
        door.ask(ScriptedTeacher(always(Unavailable("reset"), probe="ready")))
    with pytest.raises(GivenUp, match="reset"):
        door.ask(ScriptedTeacher([]))
    assert door.ask(ScriptedTeacher(["hello"]), limits=replace(FOUR, retry_failed=True)).text == "hello"


def test_a_refused_request_is_not_tried_again(door: Door) -> None:
    teacher = ScriptedTeacher(always(RequestRefused("too long"), probe="ready"))
    with pytest.raises(GivenUp) as given_up:
        door.ask(teacher)
    assert given_up.value.verdict.reason == "request_refused"
    assert len(teacher.requests) == 2


@pytest.mark.parametrize("failure", [Unavailable("reset"), BadReply("html"), RequestRefused("no such parameter")])
def test_a_teacher_that_answers_nothing_stops_the_run_and_nothing_is_given_up(door: Door, failure: CallFailed) -> None:
    with pytest.raises(TeacherError):
        door.ask(ScriptedTeacher(always(failure, probe=None)))
    assert door.ask(ScriptedTeacher(["hello"])).text == "hello"


def test_no_wait_at_all_is_still_a_wait(door: Door) -> None:
    door.ask(failing_then("hello", *[RateLimited("slow down", 0.0)] * 40))
    assert door.took > 10


def test_a_teacher_that_comes_back_while_it_is_asked_loses_no_row(door: Door) -> None:
    replies: list[str | CallFailed] = [Unavailable("restarting")] * 5
    assert door.ask(ScriptedTeacher([*replies, "ready", "hello"])).text == "hello"


def test_one_more_failure_of_a_flaky_teacher_is_not_the_end_of_the_run(door: Door) -> None:
    replies: list[str | CallFailed] = [Unavailable("flaky")] * 7
    assert door.ask(ScriptedTeacher([*replies, "ready", "hello"])).text == "hello"


def test_what_the_teacher_takes_of_no_request_is_the_teachers_fault(door: Door) -> None:
    teacher = ScriptedTeacher(lambda request: RequestRefused("no system role") if request.system else "ready")
    with pytest.raises(TeacherError, match="no system role"):
        door.ask(teacher)


def test_an_error_that_is_not_text_is_kept_as_text(door: Door) -> None:
    for teacher in (ScriptedTeacher(always(RequestRefused("half \ud83d"), probe="ready")), ScriptedTeacher([])):
        with pytest.raises(GivenUp) as given_up:
            door.ask(teacher)
        assert given_up.value.verdict.detail == "half \ufffd"


def test_a_refused_key_stops_the_run_at_the_first_call(door: Door) -> None:
    teacher = ScriptedTeacher([TeacherError("401")])
    with pytest.raises(TeacherError):
        door.ask(teacher)
    assert len(teacher.requests) == 1


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_calls_are_in_flight_than_allowed_and_low_orders_go_first(tmp_path: Path, concurrency: int) -> None:
    in_flight, most, order = 0, 0, []

    class Slow(ScriptedTeacher):
        async def send(self, request: Request) -> bytes:
            nonlocal in_flight, most
            order.append(int(request.user))
            in_flight += 1
            most = max(most, in_flight)
            body = await super().send(request)
            in_flight -= 1
            return body

    async def ask_all(ask: Ask) -> None:
        requests = [(number, Request("evolve", "s", str(number), Sampling(100))) for number in reversed(range(12))]
        await asyncio.gather(*(ask(Place(f"s{n}", 1, "evolve"), request, n) for n, request in requests))

    with Journal(tmp_path / "j.db") as journal:
        teachers = dict.fromkeys(ROLES, Slow(lambda _: "ok", latency=0.001))
        asyncio.run(ask_all(Ask(journal, teachers, "recipe", Tally(), Limits(Pace(concurrency)))))
    assert most == concurrency
    assert order[concurrency:] == sorted(order[concurrency:])


def test_what_does_not_fit_is_given_up_without_a_question_to_anybody(door: Door) -> None:
    teacher = ScriptedTeacher([DoesNotFit("5,000 tokens")])
    with pytest.raises(GivenUp, match="5,000 tokens"):
        door.ask(teacher)
    assert len(teacher.requests) == 1


def test_a_reply_that_the_teachers_context_cut_is_no_answer(door: Door) -> None:
    teacher = ScriptedTeacher([completion_body("The Ni", "x" * 40, "scripted", "length")])
    teacher.context = 14  # 11 for the prompt, 2 for the reply
    with pytest.raises(GivenUp, match="context of 14 tokens"):
        door.ask(teacher)


def test_each_try_draws_anew(door: Door) -> None:
    teacher = ScriptedTeacher([BadReply("empty"), BadReply("empty"), "answer"])
    request = replace(REQUEST, sampling=Sampling(100, seed=7))
    door.ask(teacher, request=request)
    assert [asked.sampling.seed for asked in teacher.requests] == [7, 8, 9]
    assert door.ask(ScriptedTeacher([]), request=request).text == "answer"


def outage(seconds: float) -> ScriptedTeacher:
    """A teacher that answers nothing before so many seconds of the loop's time have passed."""

    def reply(_: Request) -> str | CallFailed:
        return "hello" if asyncio.get_running_loop().time() >= seconds else Unavailable("connection reset")

    return ScriptedTeacher(reply)


@pytest.mark.parametrize("seconds", [5, 60, 500])
def test_an_outage_costs_no_row_and_few_calls(door: Door, seconds: float) -> None:
    teacher = outage(seconds)
    assert door.ask(teacher).text == "hello"
    assert len(teacher.requests) < 60
    assert seconds <= door.took < seconds + 45


def test_an_outage_is_met_with_one_small_question_at_a_time(tmp_path: Path) -> None:
    teacher = outage(60)

    async def ask_all(ask: Ask) -> list[Answer]:
        return await asyncio.gather(*(ask(Place(f"s{n}", 1, "evolve"), REQUEST, n) for n in range(100)))

    with Journal(tmp_path / "j.db") as journal:
        ask = Ask(journal, dict.fromkeys(ROLES, teacher), "recipe", Tally(), Limits(Pace(32)))
        answers = virtual_time.run(ask_all(ask), threads=virtual_time.JOURNAL)
    assert [answer.text for answer in answers] == ["hello"] * 100
    asked = [request.user == PROBE for request in teacher.requests]
    assert asked.count(False) <= 32 + 100 + 32  # those in flight when it began, and each once it was over
    assert asked.count(True) < 30


def test_a_teacher_that_stays_down_stops_the_run_when_patience_ends(door: Door) -> None:
    with pytest.raises(TeacherError, match="one-word question: connection reset"):
        door.ask(outage(1e9))
    assert PATIENCE <= door.took < PATIENCE + 90


def test_a_teacher_that_fails_more_often_than_it_answers_stops_the_run(tmp_path: Path) -> None:
    teacher = ScriptedTeacher(lambda request: "ready" if request.user == PROBE else BadReply("empty"))

    async def ask_all(ask: Ask) -> None:
        for number in range(100):
            with contextlib.suppress(GivenUp):
                await ask(Place(f"s{number}", 1, "evolve"), REQUEST)

    with Journal(tmp_path / "j.db") as journal:
        ask = Ask(journal, dict.fromkeys(ROLES, teacher), "recipe", Tally(), FOUR)
        with pytest.raises(TeacherError, match="more often than it answers"):
            virtual_time.run(ask_all(ask), threads=virtual_time.JOURNAL)
    assert len(teacher.requests) < 2 * FAILURES_AT_FIRST


def test_another_form_is_sent_at_once_and_is_no_try(door: Door) -> None:
    teacher = failing_then("hello", *[AskAgain("without a schema")] * 3)
    assert door.ask(teacher, limits=replace(FOUR, tries=1)).text == "hello"
    assert door.took < 0.1
    assert door.tally.failed_tries == 0


def test_a_teacher_that_never_finds_a_form_ends(door: Door) -> None:
    with pytest.raises(GivenUp):
        door.ask(ScriptedTeacher(always(AskAgain("otherwise"), probe="ready")))


def test_who_is_told_to_stop_sends_nothing_and_keeps_what_comes_in(tmp_path: Path) -> None:
    teacher = ScriptedTeacher(lambda _: "hello", latency=5)

    async def ask_all(ask: Ask) -> list[Answer | BaseException]:
        calls = [asyncio.create_task(ask(Place(f"s{n}", 1, "evolve"), REQUEST, n)) for n in range(20)]
        await asyncio.sleep(1)
        ask.stop(TeacherError("401"))
        return await asyncio.gather(*calls, return_exceptions=True)

    with Journal(tmp_path / "j.db") as journal:
        ask = Ask(journal, dict.fromkeys(ROLES, teacher), "recipe", Tally(), FOUR)
        ended = virtual_time.run(ask_all(ask), threads=virtual_time.JOURNAL)
        assert journal.view().count_answers() == 4
    assert len(teacher.requests) == 4
    assert [type(end) for end in ended] == [Answer] * 4 + [Stopped] * 16


def test_who_waits_to_try_again_hears_of_a_stop_at_once(tmp_path: Path) -> None:
    async def ask_and_stop(ask: Ask) -> float:
        call = asyncio.create_task(ask(PLACE, REQUEST))
        await asyncio.sleep(100)
        ask.stop(TeacherError("401"))
        with pytest.raises(Stopped):
            await call
        return asyncio.get_running_loop().time()

    with Journal(tmp_path / "k.db") as journal:
        ask = Ask(journal, dict.fromkeys(ROLES, outage(1e9)), "recipe", Tally(), FOUR)
        assert virtual_time.run(ask_and_stop(ask), threads=virtual_time.JOURNAL) < 101


def test_who_is_told_to_wait_after_the_last_try_is_given_time(door: Door) -> None:
    replies: list[str | CallFailed] = [Unavailable("reset")] * 5
    teacher = ScriptedTeacher([*replies, "ready", RateLimited("slow down", 0.1), "hello"])
    assert door.ask(teacher).text == "hello"


def test_a_teacher_that_asks_for_a_day_is_not_waited_for(door: Door) -> None:
    with pytest.raises(TeacherError, match="for 86,400 s: run the same command again later"):
        door.ask(ScriptedTeacher([RateLimited("daily quota", 86_400)]))
    assert door.took < 1


def test_what_a_teacher_said_of_its_limits_is_heard_once(tmp_path: Path) -> None:
    class Limited(ScriptedTeacher):
        async def send(self, request: Request) -> bytes:
            body = await super().send(request)
            if len(self.requests) == 1:
                self.allowance = Allowance(Left(10, 0, 3.0))
            return body

    async def ask_all(ask: Ask) -> float:
        for number in range(5):
            await ask(Place(f"s{number}", 1, "evolve"), REQUEST)
        return asyncio.get_running_loop().time()

    with Journal(tmp_path / "j.db") as journal:
        ask = Ask(journal, dict.fromkeys(ROLES, Limited(lambda _: "hello", latency=0.1)), "recipe", Tally(), FOUR)
        assert 3.0 <= virtual_time.run(ask_all(ask), threads=virtual_time.JOURNAL) < 6.0
