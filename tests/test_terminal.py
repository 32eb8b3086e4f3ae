"""Nothing that steers a terminal gets there: not from a seed, a reply, a template or a name."""

from __future__ import annotations

import json
import re
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


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_run_that_is_not_there_is_one_line_whatever_its_name(name: str) -> None:
    for noun in ("stats", "show"):
        check((noun, "--", name), (1,), lines=1)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_seed_file_that_is_not_there_is_one_line_whatever_its_name(name: str) -> None:
    check(("run", "--teacher", "demo", f"--seed={name}"), (1, 2), lines=1)


@pytest.mark.parametrize("name", [name for name in NAMES.values() if name], ids=[n for n in NAMES if NAMES[n]])
def test_a_folder_of_any_name_is_made_or_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    Path("seeds.json").write_text('[{"instruction": "a", "output": "b"}]', encoding="utf-8")
    if name.startswith("../../"):
        return  # where that is depends on the machine
    said = check(("run", "--teacher", "demo", "--rounds", "0", "--seed", "seeds.json", f"--out=here/{name}"), (0, 2, 4))
    if "dataset:" in said:
        assert Path("here", name, "dataset.jsonl").is_file()
        check(("stats", "--", f"here/{name}"), (0,))
