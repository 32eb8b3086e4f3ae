"""Nothing that steers a terminal gets there: not from a seed, a reply, a template or a name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.mock_teacher import MockTeacher, Reply, completion
from evol.words import one_line, printable
from tests.test_cli import command

HOSTILE = "Name\x1b[2J\x1b]0;owned\x07 a\r river\x9b31m\x08\x7f \u202eten\u2066 \u2028now\x00."
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
NAMES = {
    "line break": "a\nb",
    "escape": "a\x1b[2Jb",
    "CSI": "a\x9b31mb",
    "override": "a\u202eb",
    "dash": "-a",
    "two dashes": "--out",
    "300 characters": "a" * 300,
    "up": "../up",
    "far up": "../" * 50 + "proc/nowhere",
    "spaces": " a  b ",
    "quotes": "a'\"b`$(touch x)",
    "markup": "[bold]a[/bold]",
    "percent": "%s{0}{{ a }}",
    "tilde": "~a",
    "not UTF-8": "a\udcffb",
    "no character": "",
}

# Runs the command lines that it is given as JSON, one after the other.
MANY = """
import contextlib, io, json, sys
from evol.cli import main
done = []
for line in json.loads(sys.stdin.read()):
    sys.argv = ["evol", *line]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    done.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(done))
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe\n\t日本 \U0001f469\u200d\U0001f680", "Größe\n\t日本 \U0001f469\u200d\U0001f680"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb\x00\x7f\x9b", "a\\x0db\\x00\\x7f\\x9b"),
        ("\u202eten\u2028", "\\u202eten\\u2028"),
        ("half \ud83d", "half \\ud83d"),
    ],
)
def test_what_steers_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert not STEERING.search(shown)


@pytest.mark.parametrize(
    ("text", "length", "line"),
    [
        (" a\n\n b\t", None, "a b"),
        ("abcdef", 4, "abc\u2026"),
        ("abcd", 4, "abcd"),
        ("\x1b\x1b", 6, "\\x1b\\\u2026"),
        ("", 4, ""),
    ],
)
def test_a_line_is_one(text: str, length: int | None, line: str) -> None:
    assert one_line(text, length) == line


def check(words: tuple[str, ...], codes: tuple[int, ...], lines: int | None = None) -> str:
    """What a command prints; it ends by one of these codes, without a traceback and without steering."""
    result = command(*words)
    said = result.stdout + result.stderr
    assert result.returncode in codes, said
    assert not STEERING.search(said), ascii(said)
    assert "Traceback" not in said
    assert lines is None or len(result.stderr.splitlines()) == lines, said
    return said


def test_the_texts_of_seeds_and_rules_steer_nothing() -> None:
    seeds = [{"instruction": HOSTILE, "input": HOSTILE, "output": HOSTILE}, {HOSTILE: 1}, {"instruction": HOSTILE}]
    Path("seeds.json").write_text(json.dumps(seeds), encoding="utf-8")
    check(("run", "--seed", "seeds.json", "--teacher", "demo", "--rounds", "2"), (0,))
    listed = check(("show", "outputs/seeds"), (0,))
    assert "Name\\x1b[2J\\x1b]0;owned\\x07 a" in listed
    for line in listed.splitlines()[:2]:
        assert "\\x1b" in check(("show", "outputs/seeds", line.split()[0]), (0,))
    check(("stats", "outputs/seeds"), (0,))
    assert not STEERING.search(Path("outputs/seeds/run.log").read_text(encoding="utf-8"))


def test_the_replies_of_a_server_steer_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOL_API_KEY", "none")
    with MockTeacher(lambda call: Reply(body=completion(HOSTILE, call))) as server:
        assert "\\x1b[2J" in check(("teachers", "check", f"openai:a\x1b[2J@{server.url}"), (0,))
    with MockTeacher(lambda _: Reply(400, json.dumps({"error": {"message": HOSTILE}}).encode())) as server:
        check(("teachers", "check", f"openai:mock@{server.url}"), (5,), lines=1)


def test_the_templates_of_a_pack_steer_nothing() -> None:
    Path("mine").mkdir()
    pack = f'description = "{HOSTILE.encode("unicode_escape").decode()}"\nwords = [1, 2]\n[operators."o\\u001b[2J"]\n'
    pack = re.sub(r"\\x(..)", r"\\u00\1", pack) + 'family = "depth"\ntemplate = "o.j2"\n'
    Path("mine/pack.toml").write_text(pack, encoding="utf-8")
    text = "{% block system %}\x1b[2JRewrite.{% endblock %}{% block user %}{{ instruction }}{% endblock %}"
    Path("mine/o.j2").write_text(text, encoding="utf-8")
    assert "\\x1b" in check(("templates", "check", "mine"), (0,))
    assert "\\x1b" in check(("templates", "show", "--pack", "mine", "o\x1b[2J"), (0,))
    check(("templates", "show", "--pack", "mine", "\x1b[2J"), (1,))


def outcomes(*lines: tuple[str, ...]) -> list[tuple[int, str, str]]:
    """For each command line its exit code, stdout and stderr: one process for all of them."""
    given = json.dumps(lines)
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", MANY],
        input=given,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [(code, out, err) for code, out, err in json.loads(result.stdout)]


def is_sound(code: int, codes: tuple[int, ...], said: str, name: str) -> None:
    assert code in codes, (ascii(name), said)
    assert not STEERING.search(said), (ascii(name), ascii(said))
    assert "Traceback" not in said, (ascii(name), said)


@pytest.mark.parametrize("noun", ["stats", "show"])
def test_a_run_that_is_not_there_is_one_line_whatever_its_name(noun: str) -> None:
    for name, (code, out, err) in zip(
        NAMES.values(), outcomes(*((noun, "--", name) for name in NAMES.values())), strict=True
    ):
        is_sound(code, (1,), out + err, name)
        assert len(err.splitlines()) == 1


def test_a_seed_file_that_is_not_there_is_one_line_whatever_its_name() -> None:
    lines = [("run", "--teacher", "demo", f"--seed={name}") for name in NAMES.values()]
    for name, (code, out, err) in zip(NAMES.values(), outcomes(*lines), strict=True):
        is_sound(code, (1, 2), out + err, name)
        assert len(err.splitlines()) == 1


def test_a_folder_of_any_name_is_made_or_refused() -> None:
    Path("here").mkdir()
    Path("seeds.json").write_text('[{"instruction": "a", "output": "b"}]', encoding="utf-8")
    names = [name for name in NAMES.values() if name and not name.startswith("../../")]
    run = ("run", "--teacher", "demo", "--rounds", "0", "--seed", "seeds.json")
    made = outcomes(*((*run, f"--out=here/{name}") for name in names))
    for name, (code, out, err) in zip(names, made, strict=True):
        is_sound(code, (0, 2, 4), out + err, name)
        assert code or Path("here", name, "dataset.jsonl").is_file()
    there = [name for name, (code, _, _) in zip(names, made, strict=True) if not code]
    assert len(there) > 5
    for name, (code, out, err) in zip(there, outcomes(*(("stats", f"here/{name}") for name in there)), strict=True):
        is_sound(code, (0,), out + err, name)
