"""The local teacher, on a real llama.cpp: a model of random weights, made here, that talks noise and valid JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import evol
from benchmarks.random_model import CHAT_TEMPLATE, write_model
from evol.engine import Outcome, execute, prepare
from evol.errors import DoesNotFit, TeacherError, Unavailable
from evol.journal import JournalView
from evol.recipe import resolve
from evol.records import Reason, Request, Sampling
from evol.stages.judge import JUDGEMENT_SCHEMA, Judgement
from evol.teachers import LocalOptions, check_cut, read_completion, teacher_named
from evol.teachers.local import CRASHES, CRASHES_IN_A_ROW, LocalTeacher
from tests.conftest import SeedFile

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="the processes are looked up in /proc")
OPTIONS = {"threads": 1, "cache_ram": 256}
SOON = 5.0  # seconds in which a process that has lost its parent is gone
PLAIN = Request("respond", "Be kind.", "Say hello.", Sampling(64, 1.0, 0.9))


@pytest.fixture(autouse=True)
def _no_server_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + SOON
    while (left := servers_of(os.getpid())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def servers_of(parent: int) -> list[int]:
    """The process ids of llama.cpp's processes that this process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            born_of = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # it has ended in between
        if born_of == parent and b"llama_child" in command:
            found.append(int(folder.name))
    return found


def is_there(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


def teacher_of(model: Path, timeout: float = 60.0, **options: object) -> LocalTeacher:
    return LocalTeacher(model, LocalOptions.model_validate({"slots": 2, **OPTIONS, **options}), timeout)


def send(teacher: LocalTeacher, *requests: Request) -> list[bytes]:
    """The replies to these requests, asked at once."""

    async def all_of_them() -> list[bytes]:
        try:
            return list(await asyncio.gather(*map(teacher.send, requests)))
        finally:
            await teacher.close()

    return asyncio.run(all_of_them())


def run(model: Path, seeds: Path, rounds: int = 2, **options: object) -> Outcome:
    told = {"seed": seeds, "rounds": rounds, "teacher": f"local:{model}", "local": OPTIONS, **options}
    return execute(prepare(resolve(told)))


def command(model: Path, seeds: Path, *words: str) -> list[str]:
    line = [sys.executable, "-W", "error", "-m", "evol", "run", "--seed", str(seeds), "--teacher", f"local:{model}"]
    return [*line, "--out", "out", "--threads", "1", *words]


def answers(folder: Path = Path("out")) -> int:
    """How many answers are on the disk."""
    try:
        with JournalView(folder / "journal.db") as journal:
            return journal.count_answers()
    except (OSError, evol.errors.EvolError):
        return 0  # not there yet


def test_a_run_on_a_real_model_from_seeds_to_dataset(model: Path, seed_file: SeedFile) -> None:
    outcome = run(model, seed_file(20))
    rows = list(evol.load(outcome.folder.path).rows())
    assert len(rows) == 20 * 3
    assert outcome.finished.kept + outcome.finished.eliminated == len(rows)
    reasons = {value for name, value in vars(Reason).items() if name.isupper()}
    assert all(row.reason in reasons and row.stage for row in rows if not row.kept)
    assert all(row.evolver.startswith("tiny.gguf#") for row in rows if row.round)
    with JournalView(outcome.folder.journal) as journal:
        judged = [body for place, body in journal.answers() if place.split("/")[3] == "judge"]
    assert len(judged) >= 20
    for body in judged:
        Judgement.model_validate_json(read_completion(body).text)
    again = run(model, seed_file(20))
    assert (again.tally.calls, again.finished) == (0, outcome.finished)


def test_a_run_inside_of_a_running_loop(model: Path, seed_file: SeedFile) -> None:
    async def cell() -> int:
        run = evol.run(seed_file(2), rounds=1, teacher=f"local:{model}", local=OPTIONS)
        return len(list(run.rows()))

    assert asyncio.run(cell()) == 4


@pytest.mark.parametrize(
    ("stop", "code", "seconds"),
    [
        (signal.SIGINT, 130, 3.0),
        (signal.SIGTERM, 130, 3.0),
        (signal.SIGHUP, 130, 3.0),
        (signal.SIGKILL, -signal.SIGKILL, SOON),
    ],
)
def test_whatever_stops_evol_stops_the_server_and_costs_no_answer(
    model: Path, seed_file: SeedFile, stop: signal.Signals, code: int, seconds: float
) -> None:
    line = command(model, seed_file(30), "--rounds", "3")
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: answers() > 10)
    (server,) = servers_of(process.pid)
    started = time.monotonic()
    process.send_signal(stop)
    _, said = process.communicate(timeout=30)
    wait_for(lambda: not is_there(server), SOON)
    assert time.monotonic() - started < seconds
    assert process.returncode == code
    assert b"Traceback" not in said
    kept = answers()
    resumed = subprocess.run(line, capture_output=True, text=True, check=True)
    assert f"{kept} answered from the journal" in resumed.stderr


def test_evol_killed_while_the_model_is_loading_leaves_no_server(model: Path, seed_file: SeedFile) -> None:
    process = subprocess.Popen(command(model, seed_file(3)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: servers_of(process.pid))
    servers = servers_of(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(is_there, servers)), SOON)


def test_a_server_that_hangs_goes_with_evol_too(model: Path, seed_file: SeedFile) -> None:
    process = subprocess.Popen(command(model, seed_file(9)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: answers() > 3)
    (server,) = servers_of(process.pid)
    os.kill(server, signal.SIGSTOP)
    process.kill()
    process.wait()
    wait_for(lambda: not is_there(server), SOON)


def test_a_run_whose_server_is_killed_ends_with_every_row(model: Path, seed_file: SeedFile) -> None:
    line = command(model, seed_file(20), "--rounds", "2")
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for wanted in (5, 20):
        wait_for(lambda wanted=wanted: answers() >= wanted)  # type: ignore[misc]
        os.kill(servers_of(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.count("llama.cpp ended by SIGKILL and was started again") == 2
    assert len(list(evol.load("out").rows())) == 20 * 3


def test_a_server_that_does_nothing_but_crash_stops_the_run(model: Path) -> None:
    async def crash() -> int:
        teacher, crashes = teacher_of(model), 0
        try:
            while True:
                await teacher.describe()
                os.kill(servers_of(os.getpid())[0], signal.SIGKILL)
                crashes += 1
                with pytest.raises(Unavailable, match="SIGKILL"):
                    await teacher.send(PLAIN)
        except TeacherError as error:
            assert "--context" in str(error)
        finally:
            await teacher.close()
        return crashes

    assert asyncio.run(crash()) == CRASHES_IN_A_ROW + 1


def test_a_teacher_can_be_used_again_after_it_was_closed(model: Path) -> None:
    teacher = teacher_of(model)
    assert all(json.loads(*send(teacher, PLAIN))["usage"]["prompt_tokens"] for _ in range(2))


def test_many_requests_share_the_slots_and_every_judgement_is_valid(model: Path) -> None:
    judge = Request("judge", "Judge these.", "This and that.", Sampling(256), schema=JUDGEMENT_SCHEMA)
    replies = send(teacher_of(model, slots=4), *[judge] * 20)
    assert all(Judgement.model_validate_json(read_completion(reply).text) for reply in replies)


BAD_INPUTS = {
    # name: what stands after local: ({model} is a good one), further options, what the error says
    "no place for a file": ("x" * 300 + ".gguf", "", "File name too long"),
    "device": ("{null}", "", "is not a file"),
    "short training": ("short.gguf", "", "has a context of 512 tokens: too small"),
    "empty template": ("{model}", "--chat-template-file empty.jinja", r"empty\.jinja is empty"),
    "no file": ("absent.gguf", "", r"absent\.gguf: no such file"),
    "text": ("text.gguf", "", "not a GGUF file"),
    "nothing": ("empty.gguf", "", "not a GGUF file"),
    "truncated": ("cut.gguf", "", "corrupted or incomplete"),
    "broken": ("broken.gguf", "", "llama.cpp cannot load it"),
    "folder": ("{folder}", "", r"is a folder: name a GGUF file in it \(tiny\.gguf\)"),
    "tiny context": ("{model}", "--context 10", "a context of 10 tokens is too small"),
    "bad template": ("{model}", "--chat-template-file bad.jinja", r"bad\.jinja:1: not a chat template"),
    "mute template": ("{model}", "--chat-template-file mute.jinja", r"mute\.jinja leaves out the user message"),
    "no template": ("{model}", "--chat-template-file absent.jinja", r"absent\.jinja: No such file"),
    "port taken": ("{model}", "--config port.toml", "port .* cannot be had"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_is_one_line_and_exit_code_5(model: Path, seed_file: SeedFile, tmp_path: Path, case: str) -> None:
    files = {
        "text.gguf": b"not a model",
        "empty.gguf": b"",
        "empty.jinja": b" \n",
        "cut.gguf": model.read_bytes()[:-100_000],
        "broken.gguf": b"GGUF" + bytes(range(200)),
        "bad.jinja": b"{% for message in messages %}",
        "mute.jinja": b"{{ bos_token }}Hello.",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    write_model(tmp_path / "short.gguf", context=512)
    named, words, says = BAD_INPUTS[case]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (tmp_path / "port.toml").write_text(f"[local]\nport = {taken.getsockname()[1]}\n")
        path = Path(named.format(model=model, folder=model.parent, null=os.devnull))
        line = command(path, seed_file(2), "--quiet", *words.split())
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5
    assert re.fullmatch(rf"evol: .*{says}.*\n", done.stderr), done.stderr


def test_without_llama_cpp_the_error_is_the_command_that_installs_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(TeacherError, match=r"pip install 'evol-instruct\[local\]'"):
        teacher_of(model)


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(model: Path) -> None:
    long = Request("respond", "Be kind.", "word " * 2000, Sampling(64))
    with pytest.raises(DoesNotFit, match=r"prompt is [\d,]+ tokens long and the context 1,024"):
        send(teacher_of(model, context=1024), long)


def test_a_reply_that_the_context_cuts_does_not_fit(model: Path) -> None:
    # As much as llama.cpp's grammar takes in one string; five of them are more than the context.
    strings = {name: {"type": "string", "minLength": 2000} for name in "abcde"}
    endless = {"type": "object", "properties": strings, "required": list(strings)}
    teacher = teacher_of(model, context=1024)
    answer = read_completion(*send(teacher, replace(PLAIN, sampling=Sampling(100_000), schema=endless)))
    assert answer.truncated
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens in (1023, 1024)
    with pytest.raises(DoesNotFit, match=r"--context .* --retry-failed"):
        check_cut(answer, 100_000, teacher.context)


def test_what_did_not_fit_fits_with_more_context(model: Path, seed_file: SeedFile) -> None:
    seeds = seed_file(2, output="")
    Path(seeds).write_text(json.dumps([{"instruction": "word " * 1500}, {"instruction": "Name a fruit."}]))
    cost = []
    for context, retry in ((1024, False), (4096, False), (4096, True)):
        told = {"seed": seeds, "rounds": 0, "teacher": f"local:{model}", "local": {**OPTIONS, "context": context}}
        outcome = execute(prepare(resolve(told)), retry_failed=retry)
        cost.append((outcome.finished.eliminated, outcome.tally.eliminated["request_refused"]))
    assert cost[0] == cost[1] == (1, 1)
    assert cost[2][1] == 0


def test_a_context_beyond_the_models_training_is_said(model: Path) -> None:
    teacher = teacher_of(model, context=100_000)
    send(teacher, PLAIN)
    assert teacher.context == 8192
    assert "8,192" in teacher.notices[0]


def test_a_stop_text_ends_a_reply(model: Path) -> None:
    stopped = Request("respond", "Be kind.", "Say hello.", Sampling(200, 1.0, stop=("e", "a"), top_k=50, min_p=0.001))
    texts = [json.loads(reply)["choices"][0]["message"]["content"] for reply in send(teacher_of(model), *[stopped] * 8)]
    assert not any(set("ea") & set(text) for text in texts)


def test_another_file_or_chat_template_is_another_model(model: Path, tmp_path: Path) -> None:
    other = tmp_path / model.name
    other.write_bytes(model.read_bytes()[:-1] + b"\x7f")
    template = tmp_path / "template.jinja"
    template.write_text(CHAT_TEMPLATE.replace("assistant", "teacher"))
    names = {teacher.model for teacher in (teacher_of(model), teacher_of(other))}
    names.add(teacher_of(model, chat_template_file=template).model)
    assert len(names) == 3
    assert teacher_of(model).model in names


def test_a_chat_template_of_ones_own_is_what_the_model_reads(model: Path, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(CHAT_TEMPLATE.replace("assistant\n", "assistant\n" + "A word before. " * 20))

    def prompt_tokens(teacher: LocalTeacher) -> int:
        return int(json.loads(*send(teacher, PLAIN))["usage"]["prompt_tokens"])

    own = prompt_tokens(teacher_of(model, chat_template_file=template))
    assert own > prompt_tokens(teacher_of(model)) + 40


def test_it_says_what_it_is_busy_with_while_it_loads(model: Path) -> None:
    async def look() -> set[str]:
        teacher, seen = teacher_of(model), set()
        sending = asyncio.create_task(teacher.send(PLAIN))
        while not sending.done():
            seen.add(teacher.busy_with)
            await asyncio.sleep(0.001)
        await teacher.close()
        return seen

    assert asyncio.run(look()) == {"", "loading tiny.gguf (1.2 MB)"}


def test_an_interrupt_while_the_model_is_loading_ends_it(model: Path) -> None:
    async def interrupted() -> None:
        teacher = teacher_of(model)
        sending = asyncio.create_task(teacher.send(PLAIN))
        while not teacher.busy_with:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await teacher.close()

    asyncio.run(interrupted())


def test_no_proxy_stands_between_evol_and_its_own_server(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert read_completion(*send(teacher_of(model), PLAIN)).text


def test_all_parts_of_a_model_are_what_it_is_named_by(model: Path, tmp_path: Path) -> None:
    first, second = (tmp_path / f"big-0000{number}-of-00002.gguf" for number in (1, 2))
    first.write_bytes(model.read_bytes())
    names = set()
    for content in (b"GGUF one", b"GGUF two"):
        second.write_bytes(content)
        names.add(teacher_of(first).model)
    assert len(names) == 2


def test_nothing_is_downloaded_for_a_machine_that_could_not_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TeacherError, match="a context of 10 tokens"):
        teacher_named("local:org/repo", {}, local=LocalOptions(context=10))


@pytest.mark.parametrize("delay", [0.0, 0.005, 0.02])
def test_a_server_killed_as_soon_as_it_is_there_costs_a_try_and_no_more(model: Path, delay: float) -> None:
    async def scene() -> list[bytes | BaseException]:
        teacher = teacher_of(model)
        sending = [asyncio.create_task(teacher.send(PLAIN)) for _ in range(4)]
        try:
            while not (server := servers_of(os.getpid())):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
            while teacher.busy_with:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await asyncio.sleep(delay)
            os.kill(server[0], signal.SIGKILL)
            return await asyncio.gather(*sending, return_exceptions=True)
        finally:
            await teacher.close()

    assert all(isinstance(outcome, bytes | Unavailable) for outcome in asyncio.run(scene()))


@pytest.mark.parametrize(
    ("change", "says"), [(Path.unlink, "no such file"), (lambda path: path.write_bytes(b"GGUF other"), "has changed")]
)
def test_a_model_that_is_another_when_the_server_starts_again_is_not_asked(
    model: Path, tmp_path: Path, change: Callable[[Path], object], says: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(model.read_bytes())

    async def scene() -> None:
        teacher = teacher_of(path)
        try:
            await teacher.send(PLAIN)
            change(path)
            os.kill(servers_of(os.getpid())[0], signal.SIGKILL)
            for _ in range(2):
                with contextlib.suppress(Unavailable):
                    await teacher.send(PLAIN)
        finally:
            await teacher.close()

    with pytest.raises(TeacherError, match=says):
        asyncio.run(scene())


def test_what_is_printed_when_python_starts_is_no_answer(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('Welcome to this machine.')\nprint('{}')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert send(teacher_of(model), PLAIN)


def test_llama_cpp_may_say_much_of_an_error(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "strange.gguf"
    name = b"general.architecture"
    content = model.read_bytes()
    start = content.index(name) + len(name) + 4  # after the type of the value
    long = b"a" * 200_000
    path.write_bytes(content[:start] + len(long).to_bytes(8, "little") + long + content[start + 8 + len("llama") :])
    with pytest.raises(TeacherError, match=r"llama\.cpp cannot load it") as error:
        send(teacher_of(path), PLAIN)
    assert len(str(error.value)) < 1000


def test_the_last_words_of_a_crash_are_told(model: Path) -> None:
    async def scene() -> LocalTeacher:
        teacher = teacher_of(model)
        await teacher.send(PLAIN)
        (server,) = servers_of(os.getpid())
        Path(f"/proc/{server}/fd/2").write_text("CUDA error: out of memory\n")  # noqa: ASYNC240 - a pipe
        os.kill(server, signal.SIGABRT)
        with pytest.raises(Unavailable):
            await teacher.send(PLAIN)
        await teacher.send(PLAIN)
        await teacher.close()
        return teacher

    assert asyncio.run(scene()).notices == [
        "llama.cpp ended by SIGABRT (CUDA error: out of memory) and was started again"
    ]


def test_the_watcher_is_not_the_only_one_who_ends_the_server(model: Path, seed_file: SeedFile) -> None:
    process = subprocess.Popen(command(model, seed_file(9)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: answers() > 3)
    (server,) = servers_of(process.pid)
    (watcher,) = servers_of(server)
    os.kill(watcher, signal.SIGKILL)
    process.kill()
    process.wait()
    wait_for(lambda: not is_there(server), SOON)


def test_a_server_that_crashes_again_and_again_stops_the_run_whatever_it_does_in_between(model: Path) -> None:
    async def crash() -> int:
        teacher, crashes = teacher_of(model), 0
        try:
            while True:
                with contextlib.suppress(Unavailable):
                    await teacher.send(PLAIN)
                    os.kill(servers_of(os.getpid())[0], signal.SIGKILL)
                    crashes += 1
        except TeacherError as error:
            assert "--slots" in str(error)
        finally:
            await teacher.close()
        return crashes

    assert asyncio.run(crash()) == CRASHES + 1
