"""A key is shown to nobody: a canary is looked for in every byte that comes out, in every form it may have taken."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from socket import socket
from urllib.parse import quote

import pytest

from benchmarks.mock_teacher import Call, MockTeacher, Reply, completion
from evol.errors import CallFailed, TeacherError, UsageError
from evol.recipe import resolve
from evol.records import Request, Sampling
from evol.teachers import LocalOptions, parse_spec, teacher_named
from evol.teachers.keys import Secrets, read_key
from evol.teachers.llama import LlamaServer
from evol.teachers.openai import OpenAITeacher
from tests.conftest import SeedFile

CANARY = "sk-canary/Zx9+Qw7_abcdefghijKLM="  # of letters that JSON, URLs and base64 write in other ways
PASSWORD = "proxy-canary-87654321"
PLAIN = Request("respond", "Be kind.", "Say hello.", Sampling(64))
Handler = Callable[[Call], Reply]


def escaped(key: str) -> str:
    return "".join(f"\\u{ord(letter):04X}" for letter in key)


def cores(key: str) -> Iterator[str]:
    """What is the same in base64 wherever in a longer text the key stands."""
    for before in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"x" * before + key.encode()).decode()[before + 2 : -4][2:]


FORMS = {
    "plain": CANARY,
    "after Bearer": f"Bearer {CANARY}",
    "JSON, every letter": escaped(CANARY),
    "JSON in JSON": escaped(CANARY).replace("\\", "\\\\"),
    "JSON, slashes": CANARY.replace("/", "\\/"),
    "URL": quote(CANARY, safe=""),
    "URL, every letter": "".join(f"%{ord(letter):02x}" for letter in CANARY),
    "URL twice": quote(quote(CANARY, safe=""), safe=""),
    "HTML": "".join(f"&#{ord(letter)};" for letter in CANARY),
    "HTML, hexadecimal": "".join(f"&#x{ord(letter):X};" for letter in CANARY),
    "Python": "".join(f"\\x{ord(letter):02x}" for letter in CANARY),
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "base64 after Bearer": base64.b64encode(f"Bearer {CANARY}".encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(f"x{CANARY}".encode()).decode(),
}


def assert_clean(content: bytes, where: object) -> None:
    text = content.decode("latin-1")
    for form in (CANARY, CANARY[:14], CANARY[-12:], PASSWORD, *list(FORMS.values())[2:11], *cores(CANARY)):
        assert form.lower() not in text.lower(), f"{form!r} is in {where}"


def everything_about(error: BaseException) -> str:
    """All that a handler, a log or a debugger without locals may show of it, and of what it came from."""
    shown = "".join(traceback.format_exception(error))
    todo: list[BaseException | None] = [error]
    while todo:
        if one := todo.pop():
            shown += f"{one}{one!r}{one.args!r}{getattr(one, '__notes__', '')}{vars(one)!r}"
            todo += [one.__cause__, one.__context__]
    return shown


# What a misbehaving server makes of the headers that it was sent. `said` is the key in one of its forms.
LEAKS: dict[str, Callable[[str], Reply]] = {
    "401": lambda said: Reply(401, json.dumps({"error": {"message": f"Incorrect API key: {said}"}}).encode()),
    "400": lambda said: Reply(400, f'{{"error": {{"message": "bad {said}", "param": "{CANARY}"}}}}'.encode()),
    "403 html": lambda said: Reply(403, f"<html>{said}</html>".encode()),
    "429": lambda said: Reply(429, said.encode(), {"retry-after": said, "x-ratelimit-limit-requests": said}),
    "500 at the cut": lambda said: Reply(500, ("x" * 290 + said).encode()),
    "code": lambda _: Reply(400, json.dumps({"error": {"code": CANARY, "type": CANARY}}).encode()),
    "redirect": lambda said: Reply(307, headers={"location": f"https://elsewhere.example/?key={said}"}),
    "headers of a reply": lambda said: Reply(body=b"", headers={"x-echo": said, "set-cookie": said}),
    "encoding": lambda said: Reply(body=b"x", headers={"content-encoding": said}),
    "not JSON": lambda said: Reply(body=f"{said} <html>".encode()),
    "error in a reply": lambda said: Reply(body=f'{{"error": {{"code": 500, "message": "{CANARY} {said}"}}}}'.encode()),
    "status line": lambda said: Reply(raw=[f"HTTP/1.1 500 {said}\r\ncontent-length: 0\r\n\r\n".encode()]),
    "no HTTP": lambda said: Reply(raw=[f"{said}\r\n\r\n".encode()]),
    "a long header": lambda said: Reply(raw=[f"HTTP/1.1 200 -\r\nx: {said}{'x' * 9000}\r\n\r\n".encode()]),
    "half a reply": lambda said: Reply(body=said.encode() * 9, fault="truncated"),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_no_exception_and_no_reply_holds_the_key(leak: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    forms = iter(FORMS.values())

    async def shown(teacher: OpenAITeacher) -> str:
        try:
            return f"{await teacher.send(PLAIN)!r}{teacher.allowance}"
        except (CallFailed, TeacherError) as error:
            return everything_about(error)

    async def send(url: str) -> None:
        teacher = OpenAITeacher("mock", url, CANARY, 5.0, key_variable="K")
        for form in FORMS:
            assert_clean((await shown(teacher)).encode(), f"{leak}, {form}")
        await teacher.close()

    with MockTeacher(lambda _: LEAKS[leak](next(forms))) as server:
        asyncio.run(send(server.url))
    assert_clean(caplog.text.encode(), "the log")


@pytest.mark.parametrize("form", FORMS)
def test_what_is_left_of_a_reply_is_json_still(form: str) -> None:
    text = Secrets(CANARY).hidden_in(f'{{"a": "before {FORMS[form]} after"}}'.encode())
    try:
        value = json.loads(text)["a"]
    except ValueError:
        assert form == "Python"  # which was none before
        return
    assert value.startswith("before ")
    assert value.endswith(" after")
    assert "[key]" in value


@pytest.mark.parametrize("key", ["", "none", "EMPTY", "test"])
def test_a_key_that_is_none_is_not_cut_out_of_texts(key: str) -> None:
    assert Secrets(key).hidden("none of the tests is EMPTY") == "none of the tests is EMPTY"


def evol(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """evol as a process that logs all it can."""
    code = "import logging; logging.basicConfig(level=logging.DEBUG); from evol.cli import main; main()"
    given = {"EVOL_API_KEY": CANARY, "OPENAI_LOG": "debug", "PYTHONASYNCIODEBUG": "1", "COLUMNS": "400"}
    proxies = {"HTTPS_PROXY": f"http://user:{PASSWORD}@127.0.0.1:9", "NO_PROXY": ""}
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", "-c", code, *arguments],
        env=os.environ | given | proxies | environment,
        capture_output=True,
        timeout=60,
        check=False,
    )


def assert_no_leak(done: subprocess.CompletedProcess[bytes], folder: Path) -> None:
    assert_clean(done.stdout, "stdout")
    assert_clean(done.stderr, "stderr")
    for path in folder.rglob("*"):
        if path.is_file():
            assert_clean(path.read_bytes(), path)


def is_probe(call: Call) -> bool:
    return "Reply with one word" in str(call.body["messages"])


def test_a_run_among_servers_that_repeat_the_key_leaves_it_nowhere(seed_file: SeedFile, tmp_path: Path) -> None:
    """Texts, reasoning and errors with the key in them, in every form, in a run that comes to its end."""
    forms = itertools.cycle(FORMS.values())
    leaks = itertools.cycle(LEAKS[name] for name in ("400", "code", "500 at the cut", "not JSON", "half a reply"))

    def handle(call: Call) -> Reply:
        said = next(forms)
        if is_probe(call):
            return Reply(body=completion("ready", call))
        if call.seen:
            return next(leaks)(said)
        if "response_format" in call.body:
            verdict = {"explanation": said, "no_gain": False, "answerable": True, "difficulty": 5}
            return Reply(body=completion(json.dumps(verdict), call))
        body = json.loads(completion(f"Describe {said} as well as {next(forms)} can.", call))
        body["choices"][0]["message"]["reasoning"] = f"The header was {next(forms)}."
        return Reply(body=json.dumps(body).encode(), headers={"x-echo": "a"})

    seeds = seed_file(8, output="")
    with MockTeacher(handle) as server:
        arguments = ("run", "--seed", str(seeds), "--out", "out", "--rounds", "2", "--tries", "1", "--reanswer-seeds")
        done = evol(*arguments, "--teacher", f"openai:mock@{server.url}")
    assert done.returncode == 0, done.stderr.decode()
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"dataset.jsonl", "eliminated.jsonl", "journal.db", "recipe.toml", "README.md", "run.log"} <= names
    assert b"[key]" in (tmp_path / "out/dataset.jsonl").read_bytes()
    assert_no_leak(done, tmp_path / "out")


@pytest.mark.parametrize("leak", ["401", "redirect", "400"])
def test_a_run_that_is_stopped_says_why_without_the_key(leak: str, seed_file: SeedFile, tmp_path: Path) -> None:
    forms = itertools.cycle(FORMS.values())
    with MockTeacher(lambda _: LEAKS[leak](next(forms))) as server:
        done = evol(
            *("run", "--seed", str(seed_file(3)), "--out", "out", "--tries", "2"),
            "--teacher",
            f"openai:mock@{server.url}",
        )
    assert done.returncode == 5, done.stderr.decode()
    assert_no_leak(done, tmp_path)


def test_teachers_shows_no_key_that_a_server_names_as_a_model(tmp_path: Path) -> None:
    with MockTeacher(models=[{"id": form} for form in FORMS.values()]) as server:
        Path("evol.toml").write_text(f'teacher = "openai:mock@{server.url}"')
        done = evol("teachers")
    assert b"[key]" in done.stdout
    assert_no_leak(done, tmp_path)


def test_a_teacher_and_its_client_do_not_show_their_key() -> None:
    teacher = OpenAITeacher("mock", "http://127.0.0.1:1/v1", CANARY, 5.0, key_variable="K")
    assert_clean(
        repr([teacher, str(teacher), teacher._open(), teacher._open()._client, teacher._secrets]).encode(), "repr"
    )
    asyncio.run(teacher.close())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of aiohttp's ways, by the openai package
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_is_told_without_its_password(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv(f"{scheme}_proxy", f"http://user:{PASSWORD}@127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "")
    teacher = OpenAITeacher("mock", f"{scheme}://host.invalid/v1", CANARY, 5.0, key_variable="K")

    async def send() -> None:
        try:
            await teacher.send(PLAIN)
        finally:
            await teacher.close()

    with pytest.raises(TeacherError, match="the proxy that the environment names does not answer") as error:
        asyncio.run(send())
    assert_clean(everything_about(error.value).encode(), "the error")


# Where a key comes from, and where it does not belong.


def test_a_key_may_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_text(f"\ufeff{CANARY}\r\n", encoding="utf-8")
    monkeypatch.setenv("EVOL_API_KEY_FILE", str(path))
    seen: list[str] = []

    def handle(call: Call) -> Reply:
        seen.append(call.headers["authorization"])
        return Reply(body=completion("hello", call))

    async def send(spec: str) -> None:
        teacher = teacher_named(spec, {})
        await teacher.send(PLAIN)
        await teacher.close()

    with MockTeacher(handle) as server:
        asyncio.run(send(server.spec))
        monkeypatch.setenv("EVOL_API_KEY", " another-key\n")
        asyncio.run(send(server.spec))
    assert seen == [f"Bearer {CANARY}", "Bearer another-key"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "which holds no key"),
        (b" \n", "which holds no key"),
        (b"\xff\xfe", "which holds no key"),
        (CANARY.encode() * 999, "which holds no key"),
        (f"{CANARY} {CANARY}".encode(), "holds characters that no key has"),
        (f"{CANARY}\nmore".encode(), "holds characters that no key has"),
    ],
)
def test_a_file_without_a_key_is_named_and_not_quoted(
    content: bytes | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("HOUSE_KEY_FILE", str(path))
    with pytest.raises(TeacherError, match=says) as error:
        read_key("HOUSE_KEY")
    assert str(path) in str(error.value)
    assert "HOUSE_KEY_FILE" in str(error.value)
    assert_clean(everything_about(error.value).encode(), "the error")


def test_a_key_in_the_place_of_a_path_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_KEY_FILE", "sk-SECRETINFILE123")
    with pytest.raises(TeacherError, match="HOUSE_KEY_FILE names something") as error:
        read_key("HOUSE_KEY")
    assert "SECRET" not in str(error.value)


def test_a_folder_is_no_file_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_KEY_FILE", str(tmp_path))
    with pytest.raises(TeacherError, match="Is a directory"):
        read_key("HOUSE_KEY")


KEYS = ["sk-proj-abcdefgh0123456789", "gsk_abcdefghij0123456789", "hf_AbcdefghIjklmnopqrstuv", "AIza" + "x" * 35]


@pytest.mark.parametrize("key", [*KEYS, "9f8e7d6c5b4a39281706f5e4d3c2b1a0"])
@pytest.mark.parametrize("spec", ["{}", "openai:{}", "openai:m@https://h/v1?key={}", "openai:m@https://u:{}@h/v1"])
def test_a_key_in_the_place_of_a_teacher_is_refused_without_repeating_it(spec: str, key: str) -> None:
    if spec == "openai:{}" and key not in KEYS:
        return  # it may well be the name of a model
    with pytest.raises(UsageError, match="put it into the environment") as error:
        parse_spec(spec.format(key))
    assert key not in str(error.value)


def test_a_key_that_the_environment_holds_is_known_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_KEY", "looks-like-nothing-at-all")
    with pytest.raises(UsageError, match="looks like a key") as error:
        parse_spec("openai:looks-like-nothing-at-all")
    assert "nothing-at-all" not in str(error.value)


@pytest.mark.parametrize(
    "spec",
    ["openai:gpt-5-mini", "local:hf_cache/model-7b.gguf", "vllm:skt/A.X-4.0-Light", "openai:xai-org/grok-2-1212"],
)
def test_a_model_is_not_taken_for_a_key(spec: str) -> None:
    assert parse_spec(spec)


@pytest.mark.parametrize("key", [*KEYS, "9f8e7d6c5b4a39281706f5e4d3c2b1a0"])
@pytest.mark.parametrize(
    "line",
    ['[keys]\n"h:1" = "{}"', 'teacher = "{}"', 'api_key = "{}"', "api_key = {}", 'timeout = "{}"', 'keys = "{}"'],
)
def test_a_key_in_the_options_is_refused_without_repeating_it(line: str, key: str) -> None:
    Path("evol.toml").write_text(line.format(key))
    with pytest.raises(UsageError) as error:
        resolve({"seed": "s.json"}).check_teachers()
    assert key not in everything_about(error.value)


# The processes beside evol.


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc to look into")
def test_the_process_of_llama_cpp_shows_no_key(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HOUSE_KEY", "HF_TOKEN", "MY_PASSWORD", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, CANARY)
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PASSWORD}@127.0.0.1:9")

    async def look() -> tuple[bytes, str]:
        server = await LlamaServer.start(model, LocalOptions(context=1024, slots=1, cache_ram=0))
        try:
            await asyncio.sleep(0)
            folder = Path(f"/proc/{server.pid}")
            return (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes(), server.key
        finally:
            await server.stop()

    shown, own = asyncio.run(look())
    assert b"PATH=" in shown
    assert_clean(shown, "/proc")
    assert own.encode() not in shown


def test_a_key_never_delays_a_reply_by_much() -> None:
    """Replies that are all escapes, or all beginnings of the key, as long as replies may be."""
    secrets = Secrets(CANARY)
    for piece in (b"\\", b"%25", b"sk-canary", b"\\u0073", b"&#0"):
        started = time.process_time()
        secrets.hidden_in(b"%41" + piece * (1_200_000 // len(piece)))
        assert time.process_time() - started < 2
