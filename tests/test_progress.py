"""What is said of a run while it goes: lines where nobody is at a terminal, a panel where somebody is."""

from __future__ import annotations

import io
import re
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from evol.cli.progress import FAILURE_SHOWN, LINE_SECONDS, watch
from evol.engine import execute, prepare
from evol.errors import TeacherError, Unavailable
from evol.recipe import ROLES, resolve
from evol.records import Evolution, Request
from evol.tally import Tally
from evol.teachers import ScriptedTeacher
from tests.conftest import SeedFile

LOADING = "loading model.gguf (4.7 GB)"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """A standard error that somebody sits at. `shown` is what was written to it, without colours and movements."""

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        return ESCAPES.sub("", self.getvalue())


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal wide enough for any row; what is to be seen on it is said while standard error is redirected to it."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    return Terminal()


def busy(text: str = LOADING) -> ScriptedTeacher:
    teacher = ScriptedTeacher([])
    teacher.busy_with = text
    return teacher


class WatchedTeacher(ScriptedTeacher):
    """Loading for ever; knows when somebody looked at that."""

    def __init__(self) -> None:
        self.looked_at: list[float] = []
        super().__init__([])

    @property
    def busy_with(self) -> str:
        self.looked_at.append(time.monotonic())
        return LOADING

    @busy_with.setter
    def busy_with(self, text: str) -> None:
        pass


def rows_of(shown: str) -> dict[str, str]:
    """The rows of the panel as it stood last: what stands after each name."""
    last = shown[shown.rindex("done ") :]
    return {line[:12].strip(): line[12:].strip() for line in last.splitlines()}


def panel(tally: Tally, terminal: Terminal) -> dict[str, str]:
    with redirect_stderr(terminal), watch(quiet=False)(tally):
        pass
    return rows_of(terminal.shown)


def said_until(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is on stderr from now until this text is."""
    said, end = "", time.monotonic() + LINE_SECONDS / 2
    while text not in said:
        assert time.monotonic() < end, f"{text!r} was not said: {said!r}"
        time.sleep(0.005)
        said += capsys.readouterr().err
    return said


def test_what_a_teacher_is_busy_with_is_said_at_once_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    idle, loading = ScriptedTeacher([]), WatchedTeacher()
    with watch(quiet=False)(Tally(teachers=[idle, loading])):
        assert said_until(LOADING, capsys) == f"{LOADING}\n"
        said = time.monotonic()
        while loading.looked_at[-1] < said and time.monotonic() < said + LINE_SECONDS / 2:
            time.sleep(0.005)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_what_a_teacher_is_busy_with_next_is_said_too(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = busy("loading one.gguf"), ScriptedTeacher([])
    with watch(quiet=False)(Tally(teachers=[one, other])):
        assert said_until("one.gguf", capsys) == "loading one.gguf\n"
        other.busy_with = "loading other.gguf"
        assert said_until("other.gguf", capsys) == "loading one.gguf; loading other.gguf\n"


def test_an_idle_teacher_is_not_spoken_of(capsys: pytest.CaptureFixture[str]) -> None:
    with watch(quiet=False)(Tally(seeds=3, rounds=1, teachers=[ScriptedTeacher([])])):
        pass
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert "teacher" not in said.err
    assert "last failure" not in said.err


def test_a_line_ends_with_what_the_run_waits_for(capsys: pytest.CaptureFixture[str]) -> None:
    with watch(quiet=False)(Tally(teachers=[busy()], last_failure="no reply\n  in 60 s")):
        pass
    assert capsys.readouterr().err.endswith(f" | teacher: {LOADING} | last failure: no reply in 60 s\n")


def test_a_line_counts_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(seeds=2, rounds=2, calls=1234, in_flight=5, replayed=7, failed_tries=3)
    for number, reason in enumerate(("", "no_gain")):
        tally.count_row(Evolution(f"s-{number}", "s", "s", 1, "deepen", "depth", "Name a river.", reason=reason))
    with watch(quiet=False)(tally):
        pass
    counts = "calls 1,234 (5 in flight, 7 from the journal, 3 failed tries)"
    assert f" 50% | kept 1 | eliminated 1 | {counts} | " in capsys.readouterr().err


def test_a_long_failure_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    with watch(quiet=False)(Tally(last_failure="x" * 1000)):
        pass
    assert capsys.readouterr().err.count("x") == FAILURE_SHOWN


def test_a_quiet_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with watch(quiet=True)(Tally(teachers=[busy()], last_failure="no reply")):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_run_without_a_standard_error_is_watched_by_nobody() -> None:
    with redirect_stderr(None), watch(quiet=False)(Tally(teachers=[busy()])):
        pass


def test_the_panel_has_a_row_for_each_thing_there_is_to_show(terminal: Terminal) -> None:
    names = ["done", "seeds", "rounds", "kept", "eliminated", "calls", "tokens", "time"]
    assert list(panel(Tally(seeds=3, rounds=1, teachers=[ScriptedTeacher([])]), terminal)) == names


@pytest.mark.parametrize(
    ("tally", "shown"),
    [
        (Tally(), {}),
        (Tally(teachers=[busy()]), {"teacher": LOADING}),
        (Tally(teachers=[busy("one"), busy(""), busy("two")]), {"teacher": "one; two"}),
        (Tally(last_failure="no reply\n in 60 s"), {"last failure": "no reply in 60 s"}),
        (Tally(last_failure="x" * 1000), {"last failure": "x" * FAILURE_SHOWN}),
        (Tally(teachers=[busy()], last_failure="no reply"), {"teacher": LOADING, "last failure": "no reply"}),
    ],
)
def test_the_panel_shows_what_the_run_waits_for_where_it_does(
    terminal: Terminal, tally: Tally, shown: dict[str, str]
) -> None:
    rows = panel(tally, terminal)
    assert {name: rows[name] for name in ("teacher", "last failure") if name in rows} == shown


def test_the_panel_drops_what_is_over(terminal: Terminal) -> None:
    teacher = busy()
    tally = Tally(teachers=[teacher], last_failure="no reply")
    with redirect_stderr(terminal), watch(quiet=False)(tally):
        teacher.busy_with, tally.last_failure = "", ""
    assert not {"teacher", "last failure"} & set(rows_of(terminal.shown))


@pytest.mark.parametrize("text", ["the template ends in [/INST]", "refused the key [key]", "loading [bold]m.gguf"])
@pytest.mark.parametrize("row", ["teacher", "last failure"])
def test_the_panel_shows_brackets_as_they_are(terminal: Terminal, row: str, text: str) -> None:
    tally = Tally(teachers=[busy(text)]) if row == "teacher" else Tally(last_failure=text)
    assert panel(tally, terminal)[row] == text


def run_watched(seeds: Path, teacher: ScriptedTeacher) -> None:
    told = {"rounds": 0, "reanswer_seeds": True, "tries": 1, "patience": 0}
    recipe = resolve({"seed": seeds, "teacher": teacher.model, **told})
    execute(prepare(recipe, dict.fromkeys(ROLES, teacher)), watch=watch(quiet=False))


class LoadingTeacher(ScriptedTeacher):
    """Loads before it answers, until somebody has read that it does."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        super().__init__(self._load_and_answer)
        self.said = ""
        self._capsys = capsys

    def _load_and_answer(self, _: Request) -> str:
        self.busy_with = LOADING
        self.said = said_until(LOADING, self._capsys)
        self.busy_with = ""
        return "A proper answer of some words."


def test_a_run_says_that_its_teacher_is_loading(seed_file: SeedFile, capsys: pytest.CaptureFixture[str]) -> None:
    teacher = LoadingTeacher(capsys)
    run_watched(seed_file(1), teacher)
    assert teacher.said == f"{LOADING}\n"
    last = capsys.readouterr().err
    assert last.startswith("100% | kept 1")
    assert "teacher" not in last


def test_a_run_at_a_terminal_ends_with_its_own_error(seed_file: SeedFile, terminal: Terminal) -> None:
    teacher = ScriptedTeacher(lambda _: Unavailable("failed (500): the template ends in [/INST]"))
    with redirect_stderr(terminal), pytest.raises(TeacherError, match="does not answer"):
        run_watched(seed_file(1), teacher)
    assert "[/INST]" in terminal.shown
