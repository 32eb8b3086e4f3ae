"""The OpenAI-compatible teacher, against a real server on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from socket import socket

import pytest

from benchmarks.mock_teacher import Call, MockTeacher, Reply, completion
from evol.errors import CallFailed, EvolError, RateLimited, RequestRefused, TeacherError, Unavailable
from evol.records import Request, Sampling
from evol.teachers import read_completion, send_in_any_form
from evol.teachers.base import Description
from evol.teachers.openai import OpenAITeacher

KEY = "sk-canary-0123456789"
PLAIN = Request("respond", "Be kind.", "Say hello.", Sampling(64, 1.0, 0.9))
SCHEMA = {"type": "object", "properties": {"difficulty": {"type": "integer"}}}
JUDGE = Request("judge", "Judge.", "This.", Sampling(64), schema=SCHEMA)

Handler = Callable[[Call], Reply]


def teacher_of(url: str, *, key: str = KEY, timeout: float = 10.0) -> OpenAITeacher:
    return OpenAITeacher("mock", url, key, timeout, key_variable="OPENAI_API_KEY")


def send(teacher: OpenAITeacher, *requests: Request) -> list[str]:
    """The texts of the replies to these requests, one after the other."""

    async def all_of_them() -> list[str]:
        try:
            bodies = [await send_in_any_form(teacher, request) for request in requests]
        finally:
            await teacher.close()
        return [read_completion(body).text for body in bodies]

    return asyncio.run(all_of_them())


def send_twice(teacher: OpenAITeacher, request: Request) -> str:
    """The text of the reply, if need be to the second try, as the door would do it."""
    try:
        return send(teacher, request)[0]
    except Unavailable:
        return send(teacher, request)[0]


def error(status: int, code: str = "", param: str = "", message: str = "no", **headers: str) -> Reply:
    body = {"error": {"message": message, "code": code or None, "param": param or None}}
    return Reply(status, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def test_the_request_arrives_as_it_was_put() -> None:
    calls: list[Call] = []

    def handle(call: Call) -> Reply:
        calls.append(call)
        return Reply(body=completion("hello", call))

    with MockTeacher(handle) as server:
        assert send(teacher_of(server.url), PLAIN) == ["hello"]
    assert calls[0].body == {
        "model": "mock",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Say hello."}],
        "max_tokens": 64,
        "temperature": 1.0,
        "top_p": 0.9,
    }
    assert calls[0].headers["authorization"] == f"Bearer {KEY}"


CLOCK = "Sat, 21 Nov 2026 12:00:00 GMT"  # of a server that is not right


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after": "-3"}, 0.0),
        ({"retry_after_ms": "250"}, 0.25),
        ({"retry_after_ms": "250", "retry_after": "1"}, 0.25),
        ({"retry_after_ms": "soon", "retry_after": "1"}, 1.0),
        ({"retry_after": "Sat, 21 Nov 2026 12:01:30 GMT", "date": CLOCK}, 90.0),
        ({"retry_after": "Sat, 21 Nov 2026 14:00:30 +0200", "date": CLOCK}, 30.0),
        ({"retry_after": "Sat, 21 Nov 2026 11:00:00 GMT", "date": CLOCK}, 0.0),
        ({"retry_after": "Sat, 01 Jan 2000 00:00:00 GMT"}, 0.0),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "inf"}, None),
        ({"retry_after": ""}, None),
        ({}, None),
    ],
)
def test_the_wait_a_server_asks_for_is_read(headers: dict[str, str], seconds: float | None) -> None:
    with MockTeacher(lambda _: error(429, **headers)) as server, pytest.raises(RateLimited) as failure:
        send(teacher_of(server.url), PLAIN)
    assert failure.value.retry_after == seconds


def test_a_server_that_says_nothing_is_left_when_time_is_up() -> None:
    with MockTeacher(lambda _: Reply(fault="hang")) as server, pytest.raises(Unavailable, match=r"0\.2 s"):
        send(teacher_of(server.url, timeout=0.2), PLAIN)


@pytest.mark.parametrize("fault", ["hang", "drop", "truncated"])
def test_a_call_that_may_have_been_worked_on_may_have_to_be_paid(fault: str) -> None:
    reply = Reply(body=b'{"choices": []}' * 99, fault=fault)
    with MockTeacher(lambda _: reply) as server, pytest.raises(Unavailable) as failure:
        send(teacher_of(server.url, timeout=0.2), PLAIN)
    assert failure.value.billed


def test_a_call_that_never_got_there_costs_nothing() -> None:
    with MockTeacher() as server:
        teacher = teacher_of(server.url)
        send(teacher, PLAIN)
    with pytest.raises(Unavailable) as failure:
        send(teacher, PLAIN)
    assert not failure.value.billed


def test_a_closed_port_is_told_at_once() -> None:
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(TeacherError, match="is the server running"):
        send(teacher_of(f"http://127.0.0.1:{port}/v1"), PLAIN)


def test_without_a_key_the_remedy_is_to_set_it() -> None:
    with MockTeacher(lambda _: error(401)) as server, pytest.raises(TeacherError, match="set OPENAI_API_KEY"):
        send(teacher_of(server.url, key=""), PLAIN)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500])
def test_a_key_that_the_server_repeats_is_not_shown(status: int) -> None:
    expected = (EvolError, CallFailed)
    with MockTeacher(lambda _: error(status, message=f"bad key {KEY}")) as server, pytest.raises(expected) as failure:
        send(teacher_of(server.url), PLAIN)
    assert KEY not in str(failure.value)


def test_a_schema_is_asked_for() -> None:
    calls: list[Call] = []

    def handle(call: Call) -> Reply:
        calls.append(call)
        return Reply(body=completion("{}", call))

    with MockTeacher(handle) as server:
        teacher = teacher_of(server.url)
        send(teacher, JUDGE)
    asked = calls[0].body["response_format"]
    assert (asked["type"], asked["json_schema"]["schema"]) == ("json_schema", SCHEMA)
    assert teacher.takes_schema is True


@pytest.mark.parametrize("status", [400, 422, 500])
def test_a_server_that_takes_no_schema_is_asked_in_plain_text_from_then_on(status: int) -> None:
    with_schema = 0

    def handle(call: Call) -> Reply:
        nonlocal with_schema
        if "response_format" in call.body:
            with_schema += 1
            return error(status)
        return Reply(body=completion("plain", call))

    with MockTeacher(handle) as server:
        teacher = teacher_of(server.url)
        assert [send_twice(teacher, JUDGE) for _ in range(3)] == ["plain"] * 3
    assert with_schema <= 2
    assert len(teacher.notices) == 1
    assert "no JSON schema" in teacher.notices[0]


def test_one_chance_failure_is_not_taken_for_a_missing_schema() -> None:
    def handle(call: Call) -> Reply:
        if "response_format" in call.body and not call.seen:
            return error(500)
        return Reply(body=completion("with" if "response_format" in call.body else "plain", call))

    with MockTeacher(handle) as server:
        teacher = teacher_of(server.url)
        assert [send_twice(teacher, JUDGE) for _ in range(2)] == ["with", "with"]
    assert teacher.notices == []


def test_many_first_judgements_at_once_notice_it_once() -> None:
    def handle(call: Call) -> Reply:
        return error(400) if "response_format" in call.body else Reply(body=completion("plain", call))

    async def many(teacher: OpenAITeacher) -> None:
        requests = [replace(JUDGE, user=f"This {number}.") for number in range(16)]
        await asyncio.gather(*(send_in_any_form(teacher, request) for request in requests))
        await teacher.close()

    with MockTeacher(handle, latency=0.01) as server:
        teacher = teacher_of(server.url)
        asyncio.run(many(teacher))
    assert len(teacher.notices) == 1


def test_a_request_that_moderation_declines_is_refused_alone() -> None:
    body = {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["x"], "flagged_input": "y"}}}

    def handle(call: Call) -> Reply:
        is_flagged = "flagged" in call.body["messages"][-1]["content"]
        return Reply(403, json.dumps(body).encode()) if is_flagged else Reply(body=completion("ok", call))

    with MockTeacher(handle) as server, pytest.raises(RequestRefused, match="403"):
        send(teacher_of(server.url), PLAIN, replace(PLAIN, user="flagged"))


def forms(replies: list[Reply | str], *, requests: list[Request]) -> tuple[list[str], list[str], list[str]]:
    """What became of these requests sent one after the other, once each, in which form they went out; the notices."""
    asked: list[str] = []
    became: list[str] = []

    def handle(call: Call) -> Reply:
        asked.append("schema" if "response_format" in call.body else "plain")
        reply = replies[len(asked) - 1]
        return Reply(body=completion(reply, call)) if isinstance(reply, str) else reply

    async def send_all(teacher: OpenAITeacher) -> None:
        for request in requests:
            try:
                became.append(read_completion(await teacher.send(request)).text)
            except CallFailed as failure:
                became.append(type(failure).__name__)
        await teacher.close()

    with MockTeacher(handle) as server:
        teacher = teacher_of(server.url)
        asyncio.run(send_all(teacher))
    assert len(asked) == len(replies) == len(requests)  # one call for each send
    return became, asked, teacher.notices


SEEDED = [replace(JUDGE, sampling=Sampling(64, seed=seed)) for seed in range(9)]  # the tries of one request


@pytest.mark.parametrize(
    ("replies", "became", "asked", "noticed"),
    [
        ([error(400), "ok", "ok"], ["AskAgain", "ok", "ok"], ["schema", "plain", "plain"], True),
        ([error(422), "ok", "ok"], ["AskAgain", "ok", "ok"], ["schema", "plain", "plain"], True),
        ([error(400), error(400), "ok"], ["AskAgain", "RequestRefused", "ok"], ["schema", "plain", "schema"], False),
        ([error(400), error(429), "ok"], ["AskAgain", "RateLimited", "ok"], ["schema", "plain", "plain"], True),
        ([error(500), "ok", "ok"], ["Unavailable", "ok", "ok"], ["schema"] * 3, False),
        (
            [error(500), error(503), "ok", "ok"],
            ["Unavailable", "AskAgain", "ok", "ok"],
            ["schema", "schema", "plain", "plain"],
            True,
        ),
        (
            [error(500), error(500), error(500), "ok"],
            ["Unavailable", "AskAgain", "Unavailable", "ok"],
            ["schema", "schema", "plain", "schema"],
            False,
        ),
        (
            ["ok", error(500), error(500), error(400)],
            ["ok", *["Unavailable"] * 2, "RequestRefused"],
            ["schema"] * 4,
            False,
        ),
        ([error(400, "context_length_exceeded"), "ok"], ["DoesNotFit", "ok"], ["schema"] * 2, False),
        ([error(400, "content_filter"), "ok"], ["RequestRefused", "ok"], ["schema"] * 2, False),
    ],
    ids=str,
)
def test_a_schema_is_given_up_only_where_the_plain_form_works(
    replies: list[Reply | str], became: list[str], asked: list[str], noticed: bool
) -> None:
    result = forms(replies, requests=SEEDED[: len(replies)])
    assert result[:2] == (became, asked)
    assert bool(result[2]) is noticed


def test_what_happens_to_one_request_is_not_held_against_another() -> None:
    others = [replace(JUDGE, user=f"This {number}.") for number in range(3)]
    assert forms([error(500), error(500), error(500)], requests=others)[0] == ["Unavailable"] * 3


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_headers_that_the_environment_has_for_openai_are_shown_to_no_other_server(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"{name}: Bearer sk-other\nX-Secret: yes\naccept-encoding: br")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-1")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
    seen: list[Call] = []

    def handle(call: Call) -> Reply:
        seen.append(call)
        return Reply(body=completion("hello", call))

    with MockTeacher(handle) as server:
        send(teacher_of(server.url), PLAIN)
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert seen[0].headers["accept-encoding"] == "identity"
    assert not {"x-secret", "openai-organization", "openai-project"} & set(seen[0].headers)
    assert "sk-admin" not in str(seen[0].headers)


def test_a_form_that_no_server_takes_is_given_up() -> None:
    names = iter(["max_tokens", "temperature", "top_p", *["max_tokens"] * 99])
    with MockTeacher(lambda _: error(400, param=next(names))) as server, pytest.raises(RequestRefused):
        send(teacher_of(server.url), PLAIN)


def test_a_key_that_a_reply_repeats_is_not_kept() -> None:
    async def body(url: str) -> bytes:
        teacher = teacher_of(url)
        try:
            return await teacher.send(PLAIN)
        finally:
            await teacher.close()

    with MockTeacher(lambda _: Reply(body=f"<html>Bearer {KEY}</html>".encode())) as server:
        assert KEY.encode() not in asyncio.run(body(server.url))


def test_a_key_at_the_end_of_what_is_shown_is_not_shown_in_part() -> None:
    said = "x" * 290 + KEY
    with MockTeacher(lambda _: error(500, message=said)) as server, pytest.raises(Unavailable) as failure:
        send(teacher_of(server.url), PLAIN)
    assert KEY[:6] not in str(failure.value)


def test_a_teacher_can_be_used_again_after_it_was_closed() -> None:
    with MockTeacher(lambda call: Reply(body=completion("hello", call))) as server:
        teacher = teacher_of(server.url)
        assert [send(teacher, PLAIN) for _ in range(2)] == [["hello"]] * 2


def test_a_server_without_a_list_of_models_is_still_described() -> None:
    async def describe(url: str) -> Description:
        teacher = teacher_of(url + "/nowhere")
        try:
            return await teacher.describe()
        finally:
            await teacher.close()

    with MockTeacher(lambda _: error(404)) as server:
        assert asyncio.run(describe(server.url)).context is None


@pytest.mark.parametrize(
    ("refused", "sent"),
    [("max_tokens", {"max_completion_tokens": 64, "temperature": 1.0, "top_p": 0.9}), ("top_p", {"max_tokens": 64})],
)
def test_a_parameter_the_model_does_not_take_is_sent_otherwise(refused: str, sent: dict[str, float]) -> None:
    calls: list[Call] = []

    def handle(call: Call) -> Reply:
        calls.append(call)
        if refused in call.body:
            return error(400, "unsupported_parameter", refused)
        return Reply(body=completion("hello", call))

    with MockTeacher(handle) as server:
        assert send(teacher_of(server.url), PLAIN, PLAIN) == ["hello", "hello"]
    assert len(calls) == 3
    assert sent.items() <= calls[-1].body.items()


@pytest.mark.parametrize(
    ("models", "context"),
    [
        ([{"id": "mock", "max_model_len": 8192}], 8192),
        ([{"id": "other", "context_length": 1}, {"id": "mock", "context_length": 4096}], 4096),
        ([{"id": "file.gguf", "meta": {"n_ctx": 2048, "n_ctx_train": 8192}}], 2048),
        ([{"id": "file.gguf", "meta": {"n_ctx_train": 8192}}], None),
        ([{"id": "mock"}], None),
        ("nonsense", None),
    ],
)
def test_the_context_is_told_where_the_server_knows_it(models: object, context: int | None) -> None:
    async def describe(url: str) -> Description:
        teacher = teacher_of(url)
        try:
            return await teacher.describe()
        finally:
            await teacher.close()

    with MockTeacher(models=models) as server:
        assert asyncio.run(describe(server.url)).context == context
