"""Presets for kinds of servers, and what the OpenAI-compatible teacher makes of them, on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from socket import socket
from typing import Any

import pytest

from benchmarks.mock_teacher import Call, MockTeacher, Reply, completion
from evol.errors import RequestRefused, TeacherError, UsageError
from evol.records import Request, Sampling
from evol.teachers import Endpoint, Teacher, parse_spec, send_in_any_form, teacher_named
from evol.teachers.base import Description
from evol.teachers.openai import TOP_LOGPROBS
from evol.teachers.servers import ANY_SERVER, SERVERS

PLAIN = Request("respond", "Be kind.", "Say hello.", Sampling(64))
SCHEMA = {"type": "object", "properties": {"difficulty": {"type": "integer"}}}
JUDGE = Request("judge", "Judge.", "This.", Sampling(64), schema=SCHEMA)
KINDS = ("openai", *SERVERS)
USUAL = {"max_tokens", "messages", "model"}

Json = dict[str, Any]


def run(teacher: Teacher, *requests: Request) -> list[bytes]:
    """The bodies of the replies to these requests, one after the other."""

    async def all_of_them() -> list[bytes]:
        try:
            return [await send_in_any_form(teacher, request) for request in requests]
        finally:
            await teacher.close()

    return asyncio.run(all_of_them())


def named(kind: str, server: MockTeacher) -> Teacher:
    return teacher_named(f"{kind}:mock@{server.url}", {}, 10.0)


def asked(kind: str, *requests: Request, answer: Callable[[Call], Reply] | None = None) -> list[Call]:
    """The calls by which a server of this kind is asked."""
    calls: list[Call] = []

    def handle(call: Call) -> Reply:
        calls.append(call)
        return answer(call) if answer else Reply(body=completion("hello", call))

    with MockTeacher(handle) as server:
        run(named(kind, server), *requests)
    return calls


def sent(kind: str, request: Request) -> Json:
    """What a server of this kind is sent besides model, messages and the cap."""
    body = asked(kind, request)[0].body
    return {name: value for name, value in body.items() if name not in USUAL}


@pytest.mark.parametrize(
    ("spec", "model", "url", "kind"),
    [
        ("llama-server:qwen", "qwen", "http://localhost:8080/v1", "llama-server"),
        ("ollama:qwen3:8b", "qwen3:8b", "http://localhost:11434/v1", "ollama"),
        ("ollama:hf.co/org/repo:Q4_K_M", "hf.co/org/repo:Q4_K_M", "http://localhost:11434/v1", "ollama"),
        (" ollama:qwen3\n", "qwen3", "http://localhost:11434/v1", "ollama"),
        ("ollama:m@http://h:1/v1", "m", "http://h:1/v1", "ollama"),
        ("ollama:qwen3:8b@https://example.org/v1/", "qwen3:8b", "https://example.org/v1", "ollama"),
        ("lmstudio:qwen/qwen3-8b", "qwen/qwen3-8b", "http://localhost:1234/v1", "lmstudio"),
        ("vllm:Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "http://localhost:8000/v1", "vllm"),
        ("vllm:Qwen/Qwen3-8B@http://10.0.0.7:9000/v1", "Qwen/Qwen3-8B", "http://10.0.0.7:9000/v1", "vllm"),
        ("textgen:any", "any", "http://localhost:5000/v1", "textgen"),
        ("openai:m@http://localhost:11434/v1", "m", "http://localhost:11434/v1", ""),
    ],
)
def test_a_spec_names_a_kind_of_server_a_model_and_where_it_is(spec: str, model: str, url: str, kind: str) -> None:
    endpoint = parse_spec(spec)
    assert endpoint == Endpoint(model, url, kind)
    assert endpoint.server is SERVERS.get(kind, ANY_SERVER)


@pytest.mark.parametrize("spec", ["ollama", "ollama:", "ollama: ", "Ollama:m", "llamaserver:m"])
def test_a_spec_of_a_server_without_a_model_is_refused_with_the_choices(spec: str) -> None:
    with pytest.raises(UsageError, match="ollama:MODEL"):
        parse_spec(spec)


@pytest.mark.parametrize(
    "spec", ["ollama:m@localhost:11434/v1", "vllm:m@10.0.0.7:8000", "vllm:m@http://u:p@h:1/v1", "vllm:@http://h/v1"]
)
def test_an_address_of_a_server_is_held_to_the_same_form(spec: str) -> None:
    with pytest.raises(UsageError, match="address"):
        parse_spec(spec)


ALL = Sampling(64, 0.7, 0.9, top_k=20, min_p=0.05, repeat_penalty=1.1, seed=7, stop=("END", "STOP"))
COMMON = {"temperature": 0.7, "top_p": 0.9, "seed": 7, "stop": ["END", "STOP"]}


@pytest.mark.parametrize(
    ("kind", "sampling", "expected"),
    [
        ("openai", ALL, {"top_k": 20, "min_p": 0.05, "repeat_penalty": 1.1}),
        ("llama-server", ALL, {"top_k": 20, "min_p": 0.05, "repeat_penalty": 1.1}),
        ("ollama", replace(ALL, top_k=None, min_p=None, repeat_penalty=None), {}),
        ("lmstudio", replace(ALL, min_p=None), {"top_k": 20, "repeat_penalty": 1.1}),
        ("vllm", ALL, {"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1}),
        ("textgen", ALL, {"top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1}),
    ],
    ids=KINDS,
)
def test_sampling_is_sent_under_the_servers_own_names(kind: str, sampling: Sampling, expected: Json) -> None:
    assert sent(kind, replace(PLAIN, sampling=sampling)) == COMMON | expected


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("openai", lambda thinking: {"chat_template_kwargs": {"enable_thinking": thinking}}),
        ("llama-server", lambda thinking: {"chat_template_kwargs": {"enable_thinking": thinking}}),
        ("vllm", lambda thinking: {"chat_template_kwargs": {"enable_thinking": thinking}}),
        ("textgen", lambda thinking: {"enable_thinking": thinking}),
        ("ollama", lambda thinking: {"reasoning_effort": "medium" if thinking else "none"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_thinking_is_told_in_the_servers_own_way(kind: str, expected: Callable[[bool], Json], thinking: bool) -> None:
    request = replace(PLAIN, sampling=Sampling(64, enable_thinking=thinking))
    assert sent(kind, request) == expected(thinking)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_given_is_not_sent(kind: str) -> None:
    assert sent(kind, PLAIN) == {}


@pytest.mark.parametrize(
    ("kind", "given", "remedy"),
    [
        ("ollama", {"top_k": 20}, "set it in the model's Modelfile"),
        ("ollama", {"min_p": 0.05}, "set it in the model's Modelfile"),
        ("ollama", {"repeat_penalty": 1.1}, "set it in the model's Modelfile"),
        ("lmstudio", {"min_p": 0.0}, "set it in the settings of the loaded model"),
        ("lmstudio", {"enable_thinking": False}, "set it in the settings of the loaded model"),
    ],
)
@pytest.mark.parametrize("request_", [PLAIN, JUDGE], ids=["plain", "with a schema"])
def test_a_parameter_the_server_would_pass_over_stops_before_it_is_asked(
    kind: str, given: Json, remedy: str, request_: Request
) -> None:
    request = replace(request_, sampling=Sampling(64, **given))
    with MockTeacher() as server, pytest.raises(TeacherError) as error:
        run(named(kind, server), request)
    assert server.requests == 0
    (name,) = given
    assert str(error.value) == f"{server.url} passes over `{name}` without a word: leave it out, and {remedy}"


FIELDS = [
    ("temperature", 0.0),
    ("top_p", 1.0),
    ("top_k", 20),
    ("top_k", 0),
    ("min_p", 0.05),
    ("min_p", 0.0),
    ("repeat_penalty", 1.1),
    ("seed", 7),
    ("seed", 0),
    ("stop", ("END",)),
]


@pytest.mark.parametrize(("name", "value"), FIELDS)
def test_a_sampling_parameter_is_sent_when_it_is_given_and_alone(name: str, value: float | tuple[str, ...]) -> None:
    sampling = replace(PLAIN.sampling, **{name: value})  # type: ignore[arg-type]
    said = list(value) if isinstance(value, tuple) else value
    assert sent("openai", replace(PLAIN, sampling=sampling)) == {name: said}


@pytest.mark.parametrize(("name", "value"), [*FIELDS, ("enable_thinking", False), ("enable_thinking", True)])
def test_a_sampling_parameter_makes_another_request(name: str, value: float | tuple[str, ...]) -> None:
    other = replace(PLAIN, sampling=replace(PLAIN.sampling, **{name: value}))  # type: ignore[arg-type]
    assert other.digest("m") != PLAIN.digest("m")


def test_two_values_of_a_sampling_parameter_are_two_requests() -> None:
    given: list[Json] = [{}, *({name: value} for name, value in FIELDS), {"stop": ("END", "STOP")}, {"seed": 8}]
    digests = {replace(PLAIN, sampling=Sampling(64, **fields)).digest("m") for fields in given}
    assert len(digests) == len(given)


def test_a_parameter_that_is_none_is_one_that_was_never_named() -> None:
    none = Sampling(
        64,
        temperature=None,
        top_p=None,
        top_k=None,
        min_p=None,
        repeat_penalty=None,
        seed=None,
        stop=(),
        enable_thinking=None,
    )
    assert replace(PLAIN, sampling=none).digest("m") == PLAIN.digest("m")


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_asked_for_where_they_are_wanted(kind: str) -> None:
    assert sent(kind, replace(PLAIN, probabilities=True)) == {"logprobs": True, "top_logprobs": TOP_LOGPROBS}


def test_a_request_for_probabilities_is_another_request() -> None:
    assert replace(PLAIN, probabilities=True).digest("m") != PLAIN.digest("m")


@pytest.mark.parametrize("refused", ["logprobs", "top_logprobs"])
def test_a_model_that_tells_no_probabilities_is_asked_without(refused: str) -> None:
    def answer(call: Call) -> Reply:
        if refused in call.body and call.seen < 5:
            error = {"message": "no", "code": "unsupported_parameter", "param": refused}
            return Reply(400, json.dumps({"error": error}).encode())
        return Reply(body=completion("hello", call))

    calls = asked("openai", replace(PLAIN, probabilities=True), answer=answer)
    assert refused not in calls[-1].body
    assert len(calls) <= 3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "textgen"])
def test_a_schema_is_sent_to_servers_that_hold_to_it(kind: str) -> None:
    calls = asked(kind, JUDGE)
    assert [call.body["response_format"]["json_schema"]["schema"] for call in calls] == [SCHEMA]


def test_a_server_that_passes_over_a_schema_is_never_sent_one() -> None:
    calls = asked("textgen", JUDGE, PLAIN, JUDGE)
    assert [call.body.get("response_format") for call in calls] == [None] * 3


def test_a_server_that_passes_over_a_schema_is_described_so_without_trying() -> None:
    async def describe(teacher: Teacher) -> Description:
        try:
            return await teacher.describe()
        finally:
            await teacher.close()

    with MockTeacher() as server:
        teacher = named("textgen", server)
        assert asyncio.run(describe(teacher)).json_mode == "no schema is taken, so plain text is asked for"
        assert (server.requests, teacher.notices) == (0, [])


LONG = replace(PLAIN, system="x" * 3000, user="y" * 5000)  # bytes; a token has eight at most, on the average
GREEK = replace(PLAIN, system="", user="ω" * 4000)


def having_read(tokens: int | None) -> Callable[[Call], Reply]:
    """The reply of a server that counted so many tokens in the prompt."""

    def answer(call: Call) -> Reply:
        body = json.loads(completion("hello", call))
        body["usage"] = {} if tokens is None else {"prompt_tokens": tokens, "completion_tokens": 2}
        return Reply(body=json.dumps(body).encode())

    return answer


@pytest.mark.parametrize("request_", [LONG, GREEK, replace(LONG, schema=SCHEMA)], ids=["long", "greek", "schema"])
@pytest.mark.parametrize("tokens", [1, 999])
def test_a_prompt_that_ollama_cut_is_refused_with_the_remedy(request_: Request, tokens: int) -> None:
    with MockTeacher(having_read(tokens)) as server, pytest.raises(RequestRefused) as error:
        run(named("ollama", server), request_)
    assert f"read {tokens} tokens of a prompt of 8000 bytes" in str(error.value)
    assert "start it with a larger OLLAMA_CONTEXT_LENGTH" in str(error.value)


@pytest.mark.parametrize(
    ("kind", "request_", "tokens"),
    [
        ("ollama", LONG, 1000),
        ("ollama", LONG, 2500),
        ("ollama", GREEK, 1000),
        ("ollama", PLAIN, 12),
        pytest.param("ollama", LONG, 0, id="ollama that says nothing read"),
        pytest.param("ollama", LONG, None, id="ollama that counts nothing"),
        pytest.param("llama-server", LONG, 1, id="a server that does not cut"),
    ],
)
def test_an_honest_count_of_the_prompt_is_accepted(kind: str, request_: Request, tokens: int | None) -> None:
    assert asked(kind, request_, answer=having_read(tokens))


def test_a_reply_of_no_use_is_left_to_the_door_also_where_prompts_may_be_cut() -> None:
    with MockTeacher(lambda _: Reply(body=b"<html>")) as server:
        assert run(named("ollama", server), LONG) == [b"<html>"]


@pytest.mark.parametrize("kind", SERVERS)
def test_where_nobody_listens_it_says_how_the_server_is_started(kind: str) -> None:
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(TeacherError) as error:
        run(teacher_named(f"{kind}:mock@{url}", {}), PLAIN)
    assert f"cannot connect to {url} for mock: is the server running there?" in str(error.value)
    assert str(error.value).endswith(f" It is usually started with: {SERVERS[kind].start}")


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_of_openai_is_shown_to_no_other_server(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    monkeypatch.setenv("EVOL_API_KEY", "sk-other-0123456789")
    assert asked(kind, PLAIN)[0].headers["authorization"] == "Bearer sk-other-0123456789"


@pytest.mark.parametrize(("kind", "context"), [("llama-server", 4096), ("vllm", 4096), ("openai", None)])
def test_the_context_of_a_server_on_this_machine_is_known_with_the_first_reply(kind: str, context: int | None) -> None:
    with MockTeacher(models=[{"id": "mock", "meta": {"n_ctx": 4096}}]) as server:
        teacher = named(kind, server)
        run(teacher, PLAIN)
    assert teacher.context == context
