"""The command line, as a process: exit codes, one line for an error, data on stdout and talk on stderr."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
from typer.testing import CliRunner

import evol
from benchmarks.mock_teacher import Call, MockTeacher, Reply, completion
from evol.cli import app
from evol.shipped import shipped
from evol.teachers import TEACHER_KINDS
from evol.teachers.servers import SERVERS
from tests.conftest import SeedFile

SEEDS = [
    {"instruction": "Name a fruit.", "input": "", "output": "Pear."},
    {"instruction": "Sort these.", "input": "3 1 2", "output": "1 2 3"},
    {
        "instruction": "\u4e00\u3064\u306e\u4fd3\u53e5\u3092\u66f8\u3044\u3066\u304f\u3060\u3055\u3044\u3002",
        "output": "",
    },
]
ROUNDS = 2
DEMO = ("run", "--seed", "seeds.json", "--teacher", "demo")


def command(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What `evol WORDS` does in this folder, or in the working folder. Warnings are errors in it."""
    line = [sys.executable, "-W", "error", "-m", "evol", *words]
    return subprocess.run(line, cwd=cwd, capture_output=True, encoding="utf-8", timeout=60, check=False)


def shown(*words: str | Path) -> str:
    """What a command that only looks prints to stdout, from this process."""
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def closed_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three seeds that the demo teacher made."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "seeds.json").write_text(json.dumps(SEEDS), encoding="utf-8")
    result = command(*DEMO, "--rounds", str(ROUNDS), cwd=folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "NOT BY A MODEL" in result.stderr
    assert "next: evol stats outputs/seeds" in result.stderr
    return folder / "outputs" / "seeds"


def rows_of(run: Path) -> list[dict[str, object]]:
    files = [run / "dataset.jsonl", run / "eliminated.jsonl"]
    lines = [line for file in files if file.exists() for line in file.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines]


# The words after `evol`, the exit code, and what the one line on stderr says.
FAILURES = [
    pytest.param("run --teacher demo", 2, "no seed file: name one with --seed FILE", id="no seed option"),
    pytest.param("run --seed seeds.json --teacher nosuch", 2, "no teacher is called 'nosuch'", id="unknown teacher"),
    pytest.param("run --seed nosuch.json --teacher demo", 1, "nosuch.json: No such file", id="no seed file"),
    pytest.param("run --seed bad.json --teacher demo --strict", 1, "bad.json: row 2: ", id="strict"),
    pytest.param("run --seed seeds.json --teacher demo --templates broken", 1, "only.j2:2: `filter`", id="broken pack"),
    pytest.param("run --seed seeds.json --teacher demo --templates nosuch", 1, "or one of: wizardlm", id="no pack"),
    pytest.param("run --seed seeds.json --teacher demo --words ten", 2, "--words ten: give the least", id="words"),
    pytest.param("run --seed seeds.json --teacher demo --words 20-10", 2, "--words", id="words reversed"),
    pytest.param("run --seed seeds.json --teacher demo --weight breadth", 2, "--weight breadth: give", id="weight"),
    pytest.param(
        "run --seed seeds.json --teacher demo --weight breadth=x", 2, "--weight breadth=x: give", id="no number"
    ),
    pytest.param(
        "run --seed seeds.json --teacher demo --weight breadth=-1", 2, "--weight breadth", id="negative weight"
    ),
    pytest.param("run --seed seeds.json --teacher demo --weight nosuch=1", 2, "no operator `nosuch`", id="no operator"),
    pytest.param("run --seed seeds.json --teacher demo --rounds -1", 2, "--rounds: ", id="negative rounds"),
    pytest.param(
        "run --seed seeds.json --teacher demo --config nosuch.toml", 2, "nosuch.toml: No such", id="no config"
    ),
    pytest.param("run --seed seeds.json --teacher openai:gpt-5-mini", 5, "set OPENAI_API_KEY in the", id="no key"),
    pytest.param("run --seed seeds.json --teacher demo --out seeds.json/run", 4, "choose another folder", id="out"),
    pytest.param("run --seed seeds.json --teacher demo --out taken", 4, "taken/run.log: ", id="no log"),
    pytest.param("stats .", 1, ".: there is no run here; `evol run --seed FILE` makes one", id="stats of no run"),
    pytest.param("show nosuch", 1, "nosuch: there is no run here", id="show of no run"),
    pytest.param("templates check broken", 1, "broken/only.j2:2: `filter` is not allowed", id="check of a broken pack"),
    pytest.param(
        "templates show nosuch", 1, "no template nosuch in wizardlm; it has add_constraints", id="no template"
    ),
    pytest.param("teachers check nosuch", 2, "no teacher is called 'nosuch'", id="check of no teacher"),
]


@pytest.fixture
def workshop(tmp_path: Path) -> None:
    """What the failures need, in the working folder."""
    (tmp_path / "seeds.json").write_text(json.dumps(SEEDS), encoding="utf-8")
    (tmp_path / "bad.json").write_text(json.dumps([SEEDS[0], {"input": "x"}]), encoding="utf-8")
    (tmp_path / "taken" / "run.log").mkdir(parents=True)
    pack = {
        "pack.toml": 'words = [1, 2]\n[operators.only]\nfamily = "depth"\n',
        "only.j2": "{% block system %}Go.{% endblock %}\n{% block user %}{{ instruction|upper }}{% endblock %}\n",
    }
    (tmp_path / "broken").mkdir()
    for name, text in pack.items():
        (tmp_path / "broken" / name).write_text(text, encoding="utf-8")


@pytest.mark.usefixtures("workshop")
@pytest.mark.parametrize(("words", "code", "says"), FAILURES)
def test_a_failure_is_one_line_and_an_exit_code(words: str, code: int, says: str) -> None:
    result = command(*words.split())
    assert (result.returncode, result.stdout) == (code, "")
    assert says in result.stderr
    assert result.stderr.startswith("evol: ")
    assert result.stderr.count("\n") == 1


def test_where_no_teacher_is_named_it_shows_the_choices_and_stops(seed_file: SeedFile) -> None:
    result = command("run", "--seed", str(seed_file()))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("evol: no teacher is named, and there is no evol.toml here that names one.")
    assert all(f"  --teacher {kind}" in result.stderr for kind in ("openai:MODEL ", "openai:MODEL@URL", "demo"))
    assert not Path("outputs").exists()


def test_an_unknown_option_is_refused() -> None:
    result = command("run", "--sede", "seeds.json")
    assert (result.returncode, result.stdout) == (2, "")
    assert "No such option: --sede" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command_line", ["run --seed {seeds} --teacher {spec}", "teachers check {spec}"])
def test_where_nobody_listens_it_says_so_at_once(command_line: str, seed_file: SeedFile) -> None:
    spec = f"openai:m@http://127.0.0.1:{closed_port()}/v1"
    line = command_line.format(seeds=seed_file(), spec=spec)
    result = subprocess.run(
        [sys.executable, "-m", "evol", *line.split()], capture_output=True, text=True, timeout=10, check=False
    )
    assert result.returncode == 5
    assert "cannot connect to http://127.0.0.1" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_keys_that_are_no_table_are_refused_by_every_command() -> None:
    Path("evol.toml").write_text("keys = 5", encoding="utf-8")
    result = command("teachers", "check", f"openai:m@http://127.0.0.1:{closed_port()}/v1")
    assert result.returncode == 2
    assert result.stderr.startswith("evol: evol.toml: keys")


def test_a_seed_file_with_a_name_that_is_not_utf_8_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "\udcff.json"
    try:
        path.write_text(json.dumps(SEEDS), encoding="utf-8")
    except OSError:
        pytest.skip("this file system takes no such name")
    result = command("run", "--seed", path.name, "--teacher", "demo", "--rounds", "0")
    assert "Traceback" not in result.stderr
    assert result.returncode == 2


def test_a_run_makes_its_rows_once(made: Path) -> None:
    rows = rows_of(made)
    assert len(rows) == len(SEEDS) * (1 + ROUNDS)
    assert {row["round"] for row in rows} == set(range(ROUNDS + 1))
    assert len({row["id"] for row in rows}) == len(rows)
    before = (made / "dataset.jsonl").read_bytes()
    again = command(*DEMO, "--rounds", str(ROUNDS), cwd=made.parent.parent)
    assert again.returncode == 0
    assert "cost: 0 calls, " in again.stderr
    assert (made / "dataset.jsonl").read_bytes() == before


def test_the_teacher_of_the_file_here_is_taken_when_none_is_named(seed_file: SeedFile) -> None:
    Path("evol.toml").write_text('teacher = "demo"\nrounds = 1\nout = "there"', encoding="utf-8")
    result = command("run", "--seed", str(seed_file()))
    assert result.returncode == 0
    assert len(rows_of(Path("there"))) == 6


def test_quiet_prints_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(json.dumps([*SEEDS, {"input": "x"}]), encoding="utf-8")
    result = command("run", "--seed", "bad.json", "--teacher", "demo", "--rounds", "1", "--quiet")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert len(rows_of(Path("outputs/bad"))) == 6


def test_rows_of_the_seed_file_that_are_passed_over_are_told(tmp_path: Path) -> None:
    bad = [{"input": str(number)} for number in range(7)]
    (tmp_path / "bad.json").write_text(json.dumps([*SEEDS, *bad]), encoding="utf-8")
    result = command("run", "--seed", "bad.json", "--teacher", "demo", "--rounds", "0")
    assert "passed over: bad.json: row 4: `instruction`: Field required\n" in result.stderr
    assert "passed over: 2 more rows; --strict stops at the first\n" in result.stderr


def test_a_dry_run_counts_and_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "seeds.json").write_text(json.dumps(SEEDS), encoding="utf-8")
    output = shown(*DEMO, "--rounds", "4", "--dry-run")
    calls = {words[0]: words[1] for words in map(str.split, output.splitlines()) if words[0] in ("evolve", "respond")}
    assert output.startswith("3 seeds, 4 rounds, at most:\n")
    assert calls == {"evolve": "12", "respond": "13"}  # the third seed has no answer
    assert [path.name for path in tmp_path.iterdir()] == ["seeds.json"]


def test_a_dry_run_asks_nobody(seed_file: SeedFile) -> None:
    spec = f"openai:m@http://127.0.0.1:{closed_port()}/v1"
    assert "in all" in shown("run", "--seed", seed_file(), "--teacher", spec, "--dry-run")


def test_a_dry_run_says_what_is_answered_already(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.parent.parent)
    assert "outputs/seeds holds 1" in shown(*DEMO, "--dry-run")


def test_stats_counts_every_row(made: Path) -> None:
    output = shown("stats", made)
    assert output.startswith("3 seeds, 9 rows: ")
    assert [line.split()[:2] for line in output.splitlines() if line[:1].isdigit()][1:] == [
        ["0", "3"],
        ["1", "3"],
        ["2", "3"],
    ]


def test_stats_as_json_says_the_same(made: Path) -> None:
    figures = json.loads(shown("stats", made, "--json"))
    assert figures["seeds"] == 3
    assert figures["total"]["attempts"] == 9
    assert figures["total"]["kept"] == len((made / "dataset.jsonl").read_text(encoding="utf-8").splitlines())
    assert {number: group["attempts"] for number, group in figures["by_round"].items()} == {"0": 3, "1": 3, "2": 3}


def test_show_lists_the_lineages(made: Path) -> None:
    lines = shown("show", made).splitlines()
    seed_ids = {row["seed_id"] for row in rows_of(made)}
    assert {line.split()[0] for line in lines} == seed_ids
    assert [line.split(maxsplit=2)[2] for line in lines] == [seed["instruction"] for seed in SEEDS]


@pytest.mark.parametrize("form", ["{seed_id}", "{seed_id}-1", "{start}"])
def test_show_draws_a_lineage_named_by_a_seed_a_row_or_the_start_of_one(made: Path, form: str) -> None:
    seed_id = next(line.split()[0] for line in shown("show", made).splitlines() if "Sort these." in line)
    output = shown("show", made, form.format(seed_id=seed_id, start=seed_id[:8]))
    assert output.startswith(f"{seed_id}  seed\n")
    assert "Sort these." in output
    assert "3 1 2" in output
    assert all(f"round {number}, " in output for number in (1, 2))
    assert "\x1b" not in output


@pytest.mark.parametrize(
    ("row_id", "says"),
    [("s0", "s0: no seed of this run begins with it; `evol show "), ("s", "s: 3 seeds begin with it; `evol show ")],
)
def test_show_of_an_id_that_is_none_or_many_says_where_to_look(made: Path, row_id: str, says: str) -> None:
    result = command("show", str(made), row_id)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"evol: {says}")


@pytest.mark.parametrize("words", [["templates"], ["templates", "list"], ["templates", "show", "wizardlm"]])
def test_templates_lists_the_pack_and_what_is_in_it(words: list[str]) -> None:
    lines = shown(*words).splitlines()
    assert lines[0].startswith("wizardlm: ")
    assert [line.split()[0] for line in lines[1:]][-4:] == ["breadth", "judge", "respond", "score"]
    assert sum("16.7%" in line for line in lines) == 6


@pytest.mark.parametrize("name", ["add_constraints", "wizardlm/add_constraints"])
def test_templates_shows_a_template_and_what_it_extends(name: str) -> None:
    output = shown("templates", "show", name)
    for file in ("add_constraints.j2", "depth.j2"):
        assert (shipped("templates") / "wizardlm" / file).read_text(encoding="utf-8").strip() in output


@pytest.fixture
def my_pack(tmp_path: Path) -> Path:
    """A sound pack in the working folder, as one begins with: without an operator's file it is not."""
    pack = tmp_path / "mine"
    pack.mkdir()
    for file in ("pack.toml", *(path.name for path in (shipped("templates") / "wizardlm").glob("*.j2"))):
        (pack / file).write_bytes((shipped("templates") / "wizardlm" / file).read_bytes())
    return pack


@pytest.mark.usefixtures("my_pack")
@pytest.mark.parametrize("words", ["show mine/breadth", "show ./mine/breadth", "show breadth --pack ./mine"])
def test_templates_shows_a_template_of_a_pack_in_a_folder(words: str) -> None:
    assert "mine/breadth.j2" in shown("templates", *words.split()).splitlines()[0]


@pytest.mark.usefixtures("my_pack")
def test_templates_shows_a_pack_in_a_folder() -> None:
    assert shown("templates", "show", "./mine").startswith("mine: ")


@pytest.mark.parametrize("name", ["wizardlm", "./mine"])
def test_templates_check_says_that_a_pack_is_sound(name: str, my_pack: Path) -> None:
    assert shown("templates", "check", name).endswith("all templates are sound\n")
    (my_pack / "deepen.j2").unlink()
    result = CliRunner().invoke(app, ["templates", "check", str(my_pack)])
    assert "deepen.j2: No such file" in str(result.exception)


def test_a_teacher_that_takes_no_schema_is_checked_in_plain_text() -> None:
    def handle(call: Call) -> Reply:
        return (
            Reply(400, b"{}") if "response_format" in call.body else Reply(body=completion('{"fruit": "pear"}', call))
        )

    with MockTeacher(handle) as server:
        assert "json     no schema is taken, so plain text is asked for, and the reply keeps to it" in shown(
            "teachers", "check", server.spec
        )


@pytest.mark.parametrize("words", [["teachers"], ["teachers", "list"]])
def test_teachers_lists_the_kinds_and_what_may_run_on_this_machine(words: list[str]) -> None:
    kinds, named, here = shown(*words).strip().split("\n\n")
    assert [line.split()[0] for line in kinds.splitlines()] == list(TEACHER_KINDS)
    assert named == "no evol.toml here names one: give --teacher to a run"
    assert [line.split()[0] for line in here.splitlines()[1:]] == list(SERVERS)


def test_teachers_says_which_of_those_named_would_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVOL_API_KEY", "sk-0123456789")
    with MockTeacher(models=[{"id": "mock"}, {"id": "other"}]) as server:
        options = {
            "teacher": "demo",
            "evolver": f"ollama:mock@{server.url}",
            "judge": f"vllm:absent@{server.url}",
            "responder": "openai:gpt-5",
            "scorer": "local:absent.gguf",
        }
        Path("evol.toml").write_text(tomli_w.dumps(options), encoding="utf-8")
        lines = shown("teachers").split("\n\n")[1].splitlines()
    assert [line.partition(": ")[2] for line in lines] == [
        "rules, always there",
        "answers: mock, other",
        "answers, but has no absent; it has mock, other",
        "on another machine; its key in OPENAI_API_KEY is not set",
        lines[4].partition(": ")[2],
    ]
    assert "absent.gguf: no such file" in lines[4]


def test_teachers_says_how_a_server_that_is_not_running_is_started() -> None:
    Path("evol.toml").write_text('teacher = "ollama:qwen@http://127.0.0.1:9/v1"', encoding="utf-8")
    assert "not running; usually started with: ollama serve" in shown("teachers")


def test_teachers_check_says_who_answers() -> None:
    lines = shown("teachers", "check", "demo").splitlines()
    assert [line.split()[0] for line in lines] == ["model", "latency", "json", "context", "reply"]
    assert lines[0].startswith("model    demo ")


def test_version_is_printed() -> None:
    assert shown("--version") == f"evol {evol.__version__}\n"


@pytest.mark.parametrize("words", ["", "run", "stats", "show", "templates", "templates check", "teachers check"])
def test_every_command_has_its_help(words: str) -> None:
    long, short = (shown(*words.split(), option) for option in ("--help", "-h"))
    assert long == short
    assert "Usage: " in long


def test_a_dry_run_needs_no_key(seed_file: SeedFile) -> None:
    assert "in all" in shown("run", "--seed", seed_file(), "--teacher", "openai:gpt-5-mini", "--dry-run")
