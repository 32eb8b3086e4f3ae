"""What the README says is what happens: its commands, their output, its tables."""

from __future__ import annotations

import doctest
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import evol
from evol import errors
from evol.records import Reason
from evol.shipped import shipped

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What differs between two runs of the same thing: seconds, and what is a rate of them.
TIMES = ((r"\d+ s$", "0 s"), (r"[\d,]+ out/s \| [\d:]+", "0 out/s | 0:00"))


THREADS = " --threads 1"  # a test leaves the other cores alone


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def timeless(text: str) -> str:
    for pattern, instead in TIMES:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.splitlines()).strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a checkout has."""
    path = tmp_path_factory.mktemp("checkout")
    (path / "seeds").mkdir()
    shutil.copy(shipped("seeds") / "alpaca.json", path / "seeds")
    shutil.copy(ROOT / "evol.toml", path)
    return path


def output_of(command: str, folder: Path) -> str:
    """What the command prints, both streams as on a terminal."""
    words = [sys.executable, "-m", *shlex.split(command)]
    return subprocess.run(
        words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
    ).stdout


def test_its_commands_print_what_it_shows(folder: Path) -> None:
    sessions = blocks("console")
    assert len(sessions) == 3
    for session in sessions:
        command, _, shown = session.removeprefix("$ ").partition("\n")
        assert timeless(output_of(command, folder)) == timeless(shown), command


def test_its_python_does_what_it_shows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    session = next(block for block in blocks("python") if ">>>" in block)
    test = doctest.DocTestParser().get_doctest(session, {}, "README", "README.md", 0)
    assert doctest.DocTestRunner().run(test).failed == 0


def test_its_commands_for_a_local_model_work(model: Path, tmp_path: Path) -> None:
    section = README.partition("\n## A model on this machine\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^evol .*local:model\.gguf.*$", section, re.MULTILINE)
    assert len(commands) == 3
    shutil.copy(model, tmp_path / "model.gguf")
    seeds = json.loads((shipped("seeds") / "alpaca.json").read_text(encoding="utf-8"))[:4]
    (tmp_path / "alpaca.json").write_text(json.dumps(seeds), encoding="utf-8")
    said = [output_of(f"{command}{THREADS}" if " run " in command else command, tmp_path) for command in commands]
    assert "a JSON schema is taken, and the reply keeps to it" in said[0]
    assert all("dataset: outputs/alpaca/dataset.jsonl" in text for text in said[1:])
    assert "cost: 0 calls" in said[2]
    assert len(list(evol.load(tmp_path / "outputs/alpaca").rows())) == 4 * 5


def test_its_flags_are_flags_of_the_command(folder: Path) -> None:
    commands = ("run", "teachers check", "templates check")
    helps = {command: output_of(f"evol {command} --help", folder) for command in commands}
    used = re.findall(rf"^evol ({'|'.join(commands)})\b(.*)$", "".join(blocks("sh")), re.MULTILINE)
    assert used
    for command, rest in used:
        assert all(flag in helps[command] for flag in re.findall(r"--[a-z-]+", rest)), rest
    assert all(flag in helps["run"] for flag in re.findall(r"`(--[a-z-]+)", README))


def test_its_table_of_exit_codes_is_complete() -> None:
    table = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)}
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert {error.exit_code for error in classes if issubclass(error, errors.EvolError)} | {0, 6} == table


def test_its_table_of_reasons_is_complete() -> None:
    table = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", README, re.MULTILINE))))
    assert table == {value for name, value in vars(Reason).items() if name.isupper()}
