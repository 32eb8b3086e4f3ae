"""The door: journal first, then the teacher, as often as the failure's class allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evol.ask import LONGEST_WAIT, PROBE, Ask, GivenUp, Limits
from evol.errors import BadReply, CallFailed, DoesNotFit, RateLimited, RequestRefused, TeacherError, Unavailable
from evol.journal import Journal
from evol.recipe import ROLES
from evol.records import Answer, Place, Request, Sampling
from evol.tally import Tally
from evol.teachers import ScriptedTeacher, completion_body

PLACE = Place("s1", 1, "evolve")
REQUEST = Request("evolve", "system", "user", Sampling(100))


class Door:
    """A door on a journal of its own, that notes how long it was told to sleep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.slept: list[float] = []
        self.tally = Tally()

    def ask(self, teacher: ScriptedTeacher, *, request: Request = REQUEST, **limits: bool | int) -> Answer:
        """Opens the journal, asks once, closes it."""

        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        options = {"concurrency": 4, "tries": 5, "retry_failed": False} | limits
        with Journal(self.path) as journal:
            ask = Ask(
                journal,
                dict.fromkeys(ROLES, teacher),
                "recipe",
                self.tally,
                Limits(options["concurrency"], options["tries"], bool(options["retry_failed"]), sleep),
            )
            return asyncio.run(ask(PLACE, request))


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
    assert door.ask(failing_then("hello", failure, failure)).text == "hello"
    assert len(door.slept) == 2


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
    assert 7.0 <= door.slept[0] <= 8.0


def test_being_told_to_wait_is_no_try(door: Door) -> None:
    teacher = failing_then("hello", *[RateLimited("slow down", 1.0)] * 20)
    assert door.ask(teacher, tries=2).text == "hello"


def test_a_teacher_that_never_stops_telling_to_wait_stops_the_run(door: Door) -> None:
    with pytest.raises(TeacherError, match="--concurrency"):
        door.ask(ScriptedTeacher(always(RateLimited("slow down", 600.0), probe=None)))


@pytest.mark.parametrize(("tries", "sent"), [(5, 7), (2, 4)])
def test_a_call_that_keeps_failing_is_given_up_when_the_teacher_answers_others(
    door: Door, tries: int, sent: int
) -> None:
    teacher = ScriptedTeacher(always(Unavailable("reset"), probe="ready"))
    with pytest.raises(GivenUp) as given_up:
        door.ask(teacher, tries=tries)
    assert given_up.value.verdict.reason == "teacher_failed"
    assert len(teacher.requests) == sent


def test_a_call_that_was_given_up_is_not_asked_again_unless_wanted(door: Door) -> None:
    with pytest.raises(GivenUp):
        door.ask(ScriptedTeacher(always(Unavailable("reset"), probe="ready")))
    with pytest.raises(GivenUp, match="reset"):
        door.ask(ScriptedTeacher([]))
    assert door.ask(ScriptedTeacher(["hello"]), retry_failed=True).text == "hello"


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
    assert sum(door.slept) > 60
    assert max(door.slept) <= LONGEST_WAIT


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
    assert not door.slept


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
        asyncio.run(ask_all(Ask(journal, teachers, "recipe", Tally(), Limits(concurrency))))
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
