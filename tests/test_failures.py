"""The table of failures: every status and code that is known, what follows from it, and what is said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from contextlib import closing
from socket import socket
from typing import Any

import pytest

from benchmarks.mock_teacher import Call, MockTeacher, Reply, completion
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
from evol.records import Request, Sampling
from evol.teachers import read_completion
from evol.teachers.failures import TABLE, Fault, Then, fault_in, read_fault, then_for
from evol.teachers.openai import OpenAITeacher

PLAIN = Request("respond", "Be kind.", "Say hello.", Sampling(64))
FLAGGED = {"code": 403, "message": "no", "metadata": {"reasons": ["violence"], "flagged_input": "…"}}
CASES: list[tuple[int, Any, type[Exception], str]] = [
    # the run stops
    (401, {"code": "invalid_api_key"}, TeacherError, "refused the key for mock (401): check KEY_VARIABLE"),
    (401, "", TeacherError, "refused the key"),
    (
        402,
        {"message": "Insufficient Balance", "type": "unknown_error"},
        TeacherError,
        "(402): Insufficient Balance; what",
    ),
    (402, {"code": 402, "metadata": {"limit_source": "openrouter_credits"}}, TeacherError, "add credit"),
    (403, {"code": "unsupported_country_region_territory"}, TeacherError, "(403)"),
    (403, {"code": 403, "metadata": {"limit_source": "openrouter_key_limit"}}, TeacherError, "add credit"),
    (403, "<html>Forbidden</html>", TeacherError, "<html>"),
    (404, {"code": "model_not_found"}, TeacherError, "knows no model 'mock', or is no such API (404)"),
    (404, "404 page not found", TeacherError, "page not found"),
    (405, "", TeacherError, "(405): without a word"),
    (407, "", TeacherError, "(407)"),
    (410, {"type": "gone"}, TeacherError, "(410)"),
    (426, "", TeacherError, "(426)"),
    (429, {"code": "insufficient_quota"}, TeacherError, "(429)"),
    (429, {"type": "insufficient_quota", "code": "credit_balance_exhausted"}, TeacherError, "add credit"),
    (429, {"type": "insufficient_quota", "code": None}, TeacherError, "add credit"),
    (429, {"code": "billing_hard_limit_reached"}, TeacherError, "add credit"),
    (400, {"code": "billing_hard_limit_reached"}, TeacherError, "add credit"),
    (429, {"code": "billing_not_active"}, TeacherError, "add credit"),
    (429, {"code": "organization_spend_limit_exceeded"}, TeacherError, "add credit"),
    (429, {"code": "project_spend_limit_exceeded"}, TeacherError, "add credit"),
    (429, {"code": "organization_usage_limit_exceeded"}, TeacherError, "add credit"),
    (429, {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}, TeacherError, "add"),
    (429, {"type": "exceeded_current_quota_error"}, TeacherError, "add credit"),
    (400, {"type": "budget_exceeded", "code": "400"}, TeacherError, "add credit"),
    (400, {"code": "Arrearage"}, TeacherError, "add credit"),
    (
        400,
        [{"error": {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}}],
        TeacherError,
        "(400)",
    ),
    (400, {"code": "model_decommissioned"}, TeacherError, "(400)"),
    # the row is given up
    (400, {"message": "bad"}, RequestRefused, "refused the request (400): bad"),
    (400, {"code": "content_filter", "innererror": {"code": "ResponsibleAIPolicyViolation"}}, RequestRefused, "400"),
    (400, {"code": "data_inspection_failed"}, RequestRefused, "400"),
    (403, FLAGGED, RequestRefused, "refused the request (403): no"),
    (403, {"metadata": {"error_type": "content_policy_violation"}}, RequestRefused, "403"),
    (406, "", RequestRefused, "406"),
    (411, "", RequestRefused, "411"),
    (413, {"type": "request_too_large"}, RequestRefused, "413"),
    (413, {"type": "tokens", "code": "rate_limit_exceeded"}, RequestRefused, "413"),
    (414, "", RequestRefused, "414"),
    (415, "", RequestRefused, "415"),
    (418, "", RequestRefused, "418"),
    (422, {"detail": [{"loc": ["body"], "msg": "no"}]}, RequestRefused, '[{"loc": ["body"], "msg": "no"}]'),
    (431, "", RequestRefused, "431"),
    (451, "", RequestRefused, "451"),
    (400, {"code": "context_length_exceeded"}, DoesNotFit, "400"),
    (400, {"type": "exceed_context_size_error", "n_ctx": 256}, DoesNotFit, "400"),
    (500, {"type": "exceed_context_size_error", "code": 500}, DoesNotFit, "500"),
    (400, {"code": 400, "type": "BadRequestError", "param": "input_tokens"}, DoesNotFit, "400"),
    (413, {"code": "tokens_limit_reached"}, DoesNotFit, "413"),
    # the call waits
    (429, {"code": "rate_limit_exceeded"}, RateLimited, "asks to wait (429)"),
    (429, {"type": "rate_limit_error", "code": "slow_down"}, RateLimited, "429"),
    (429, [{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}], RateLimited, "429"),
    (429, "", RateLimited, "429"),
    (402, {"code": 402, "metadata": {"limit_source": "openrouter_in_flight_budget"}}, RateLimited, "402"),
    # the call is tried again
    (408, "", Unavailable, "failed (408)"),
    (409, {"type": "conflict_error"}, Unavailable, "409"),
    (424, "", Unavailable, "424"),
    (425, "", Unavailable, "425"),
    (498, {"code": "capacity_exceeded"}, Unavailable, "498"),
    (499, "", Unavailable, "499"),
    (500, {"type": "api_error"}, Unavailable, "500"),
    (501, "", Unavailable, "501"),
    (502, "<html>bad gateway</html>", Unavailable, "bad gateway"),
    (503, {"type": "service_unavailable_error", "code": "server_is_overloaded"}, Unavailable, "503"),
    (504, "", Unavailable, "504"),
    (524, "", Unavailable, "524"),
    (529, {"type": "overloaded_error"}, Unavailable, "529"),
    (599, "", Unavailable, "599"),
    (999, "", Unavailable, "999"),  # no status at all
]


def body_of(error: object) -> bytes:
    """As a provider would send it."""
    if isinstance(error, str):
        return error.encode()
    wrapped = error if isinstance(error, list) or (isinstance(error, dict) and "detail" in error) else {"error": error}
    return json.dumps(wrapped).encode()


def failure_of(replies: Iterable[Reply], request: Request = PLAIN) -> Exception:
    """What the last of these replies raises."""
    queue = list(replies)

    async def send(teacher: OpenAITeacher) -> None:
        try:
            for _ in range(len(queue)):
                await teacher.send(request)
        finally:
            await teacher.close()

    with MockTeacher(lambda _: queue.pop(0)) as server, pytest.raises((CallFailed, TeacherError)) as failure:
        asyncio.run(send(OpenAITeacher("mock", server.url, "a-long-secret-key", 5.0, key_variable="KEY_VARIABLE")))
    assert not queue
    assert isinstance(failure.value, (CallFailed, TeacherError))
    return failure.value


@pytest.mark.parametrize(("status", "error", "expected", "says"), CASES, ids=str)
def test_each_failure_is_of_the_class_that_says_what_to_do(
    status: int, error: object, expected: type[Exception], says: str
) -> None:
    failure = failure_of([Reply(status, body_of(error))])
    assert type(failure) is expected
    assert says in str(failure)
    assert "\n" not in str(failure)
    assert failure.__cause__ is None
    assert failure.__context__ is None
    # A gateway that gives up waiting does not know whether the model was at work.
    assert getattr(failure, "billed", False) is (status in (408, 499, 504, 522, 524))


@pytest.mark.parametrize("status", range(400, 600))
def test_every_error_status_has_exactly_one_row(status: int) -> None:
    general = [row for row in TABLE if not row.labels]
    assert [row.fits(Fault(status)) for row in general].count(True) == 1
    assert TABLE[-len(general) :] == tuple(general)


def test_no_label_is_in_two_rows() -> None:
    labels = [label for row in TABLE for label in row.labels]
    assert len(labels) == len(set(labels))
    assert all(label == label.lower() for label in labels)


def test_a_word_in_a_message_decides_nothing() -> None:
    said = "insufficient_quota context_length_exceeded content_filter invalid_api_key 401"
    for status, then in ((429, Then.WAIT), (500, Then.TRY_AGAIN), (400, Then.GIVE_UP)):
        assert then_for(read_fault(status, json.dumps({"error": {"message": said}}).encode())) is then
        assert then_for(read_fault(status, said.encode())) is then


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_stops_a_run_stops_it_also_in_the_middle(status: int) -> None:
    call = Call("", {}, {"messages": []}, b"", 0)
    assert type(failure_of([Reply(body=completion("ok", call)), Reply(status)])) is TeacherError


INSIDE: list[tuple[dict[str, Any], type[Exception], bool]] = [
    ({"error": {"code": 402, "message": "no credit"}}, TeacherError, False),
    ({"error": {"code": "401"}}, TeacherError, False),
    ({"error": {"code": 429}}, RateLimited, False),
    ({"error": {"code": 502}}, Unavailable, False),
    ({"error": FLAGGED}, RequestRefused, False),
    ({"error": {"code": 400, "type": "exceed_context_size_error"}}, DoesNotFit, False),
    ({"object": "error", "error": None, "code": 400, "message": "no"}, RequestRefused, False),
    ({"error": "boom"}, Unavailable, False),
    ({"error": {"code": "odd", "message": ["x"]}}, Unavailable, False),
    ({"choices": [{"error": {"code": 502}, "finish_reason": "error"}]}, BadReply, True),
    ({"choices": [{"error": {"code": 502}, "message": {"content": "half"}}]}, BadReply, True),
    ({"choices": [{"error": {"code": 403}}]}, TeacherError, False),
    ({"choices": [{"error": {"code": "content_filter"}}]}, RequestRefused, True),
    ({"choices": [{"error": {"code": 429}}]}, RateLimited, False),
]


@pytest.mark.parametrize(("body", "expected", "billed"), INSIDE, ids=str)
def test_an_error_inside_of_a_reply_goes_through_the_same_table(
    body: dict[str, Any], expected: type[Exception], billed: bool
) -> None:
    failure = failure_of([Reply(body=json.dumps(body).encode())])
    assert type(failure) is expected
    assert getattr(failure, "billed", False) is billed


@pytest.mark.parametrize(
    "body",
    [
        {"error": None, "choices": [{"message": {"content": "fine"}}]},
        {"error": {}, "choices": [{"message": {"content": "fine"}, "error": None}]},
        {"choices": [{"message": {"content": 'an "error" in the text'}}]},
    ],
)
def test_a_reply_that_speaks_of_errors_is_a_reply(body: dict[str, Any]) -> None:
    content = json.dumps(body).encode()
    assert fault_in(content) is None
    assert read_completion(content).text


@pytest.mark.parametrize("content", [b'"error"', b'["error"]', b'{"error": ', b'{"choices": ["error"]}', b"[" * 9999])
def test_nonsense_is_left_to_the_door(content: bytes) -> None:
    assert fault_in(content) is None
    with pytest.raises(BadReply):
        read_completion(content)


@pytest.mark.parametrize("location", ["https://elsewhere.example/v1/chat/completions", "/v2/chat/completions"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_names_the_new_address(status: int, location: str) -> None:
    failure = failure_of([Reply(status, headers={"location": location})])
    assert type(failure) is TeacherError
    assert location in str(failure)


@pytest.mark.parametrize(
    ("reply", "billed"),
    [(Reply(fault="drop"), True), (Reply(body=b"{}" * 99, fault="truncated"), True), (Reply(500), False)],
)
def test_a_call_that_may_have_to_be_paid_says_so(reply: Reply, billed: bool) -> None:
    failure = failure_of([reply])
    assert isinstance(failure, Unavailable)
    assert failure.billed is billed


def test_a_server_that_is_gone_in_the_middle_is_tried_again_and_not_paid() -> None:
    async def send(teacher: OpenAITeacher, server: MockTeacher) -> None:
        try:
            with server:
                await teacher.send(PLAIN)
            await teacher.send(PLAIN)
        finally:
            await teacher.close()

    server = MockTeacher(lambda call: Reply(body=completion("ok", call), headers={"connection": "close"}))
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        server.port = free.getsockname()[1]
    teacher = OpenAITeacher("mock", server.url, "", 5.0, key_variable="K")
    with pytest.raises(Unavailable, match="cannot connect") as failure:
        asyncio.run(send(teacher, server))
    assert failure.value.billed is False


def test_a_server_without_tls_is_told_from_one_that_is_not_there() -> None:
    async def send() -> None:
        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 -\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        teacher = OpenAITeacher("mock", f"https://127.0.0.1:{port}/v1", "", 5.0, key_variable="K")
        try:
            await teacher.send(PLAIN)
        finally:
            await teacher.close()
            server.close()

    with pytest.raises(TeacherError, match="no connection by TLS that can be trusted"):
        asyncio.run(send())


def test_one_send_is_one_call() -> None:
    """Whatever the server finds wrong with the form of a request, the next form goes out with the next call."""
    refused = Reply(400, body_of({"code": "unsupported_parameter", "param": "max_tokens"}))
    assert type(failure_of([refused])) is AskAgain
