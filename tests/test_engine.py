"""A run as a whole: what comes out, what is never lost, and what a resume asks."""

from __future__ import annotations

import _thread
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

import evol
from benchmarks.mock_teacher import MockTeacher
from evol.ask import PROBE
from evol.errors import CannotWrite, DriftError, FolderInUse, TeacherError, Unavailable, UsageError
from evol.folder import RunFolder
from evol.records import Request
from evol.review import Run
from evol.teachers import ScriptedTeacher
from tests.conftest import SeedFile

GOOD = {"explanation": "more is asked", "no_gain": False, "answerable": True, "difficulty": 6}
RUN = [sys.executable, "-c", "from evol.cli import main; main()", "run"]


def script(**texts: str | Exception | Callable[[Request], str | Exception]) -> ScriptedTeacher:
    """A teacher that plays all roles well, but for the stages named here."""

    def reply(request: Request) -> str | Exception:
        special = None if request.user == PROBE else texts.get(request.stage)
        if special is not None:
            return special(request) if callable(special) else special
        if request.stage == "evolve":
            return request.values["instruction"] + " Give two reasons, and say which of them weighs more and why."
        if request.stage in ("judge", "score"):
            return json.dumps(GOOD)
        return "A proper answer of some words."

    return ScriptedTeacher(reply)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def reasons(run: Run) -> set[str]:
    return set(run.frame(eliminated=True)["reason"])


def test_every_seed_and_every_attempt_is_found_again(seed_file: SeedFile) -> None:
    run = evol.run(seed_file(10), teacher=script(), rounds=4)
    rows = list(run.rows())
    assert len({row.seed_id for row in rows}) == 10
    assert len(rows) == 10 * 5
    assert len(run.frame()) + len(run.frame(eliminated=True)) == len(rows)
    assert len(lines(run.path / "dataset.jsonl")) == len(run.frame())


def test_a_kept_child_is_the_next_parent_and_an_eliminated_one_is_not(seed_file: SeedFile) -> None:
    def no_gain_in_round_two(request: Request) -> str:
        return json.dumps(GOOD | {"no_gain": request.values["child"].count("Give two reasons") == 2})

    rows = evol.run(seed_file(1), teacher=script(judge=no_gain_in_round_two), rounds=3, weights={"breadth": 0}).lineage(
        "s"
    )
    assert [row.kept for row in rows] == [True, True, False, False]
    assert rows[2].parent_id == rows[1].id
    assert rows[3].parent_id == rows[1].id
    assert rows[2].reason == "no_gain"


def test_a_seeds_input_is_evolved_with_it_and_its_own_row_stays_as_it_was(seed_file: SeedFile) -> None:
    seed, child = evol.run(seed_file(1), teacher=script(), rounds=1).lineage("s")
    assert (seed.instruction, seed.input) == ("Describe number 0 as a craftsman would.", "number,0")
    assert child.instruction.startswith("Describe number 0 as a craftsman would.\nnumber,0")
    assert (child.input, seed.output) == ("", "An answer.")


def test_a_row_knows_where_it_comes_from(seed_file: SeedFile) -> None:
    child = evol.run(seed_file(1), teacher=script(), rounds=1).lineage("s")[1]
    assert (child.evolver, child.judge, child.responder) == ("scripted",) * 3
    assert (child.difficulty, child.round, child.parent_id) == (6.0, 1, child.seed_id)
    assert child.template
    assert child.prompt_tokens > 0
    assert child.completion_tokens > 0


@pytest.mark.parametrize(
    ("stage", "reply", "reason", "calls"),
    [
        ("evolve", "I'm sorry, but I can't help with that.", "refused", 1),
        ("evolve", "#Rewritten Prompt#: Tell me of the rewritten prompt.", "scaffold_leak", 1),
        ("evolve", "word " * 900, "over_budget", 1),
        ("evolve", "...", "empty", 1),
        ("judge", json.dumps(GOOD | {"no_gain": True}), "no_gain", 2),
        ("judge", json.dumps(GOOD | {"answerable": False}), "unanswerable", 2),
        ("judge", "Seven out of ten, I would say.", "unjudged", 4),
        ("judge", json.dumps(GOOD | {"difficulty": 11}), "unjudged", 4),
        ("respond", "Sorry, that is beyond me.", "hard_to_answer", 3),
        ("respond", "The of and.", "degenerate_response", 3),
    ],
)
def test_a_row_that_falls_costs_what_was_asked_until_then(
    seed_file: SeedFile, stage: str, reply: str, reason: str, calls: int
) -> None:
    teacher = script(**{stage: reply})
    run = evol.run(seed_file(1), teacher=teacher, rounds=1)
    assert reasons(run) == {reason}
    assert len(teacher.requests) == calls
    assert [row["reason"] for row in lines(run.path / "eliminated.jsonl")] == [reason]


def test_an_unreadable_judgement_is_asked_for_again(seed_file: SeedFile) -> None:
    asked_again = "could not be read"
    teacher = script(judge=lambda r: json.dumps(GOOD) if asked_again in r.user else "Seven.")
    assert len(evol.run(seed_file(1), teacher=teacher, rounds=1).frame()) == 2


def test_a_row_that_keeps_failing_is_eliminated_and_the_run_goes_on(seed_file: SeedFile) -> None:
    def fail_on_one(request: Request) -> str | Exception:
        return Unavailable("reset") if "number 1 " in request.user else "An answer."

    run = evol.run(seed_file(3), teacher=script(respond=fail_on_one), rounds=1, tries=2, weights={"breadth": 0})
    fallen = run.frame(eliminated=True)
    assert fallen["reason"].tolist() == ["teacher_failed"]
    assert fallen["detail"].tolist() == ["reset"]


def test_a_teacher_that_is_gone_stops_the_run_and_the_next_goes_on(seed_file: SeedFile) -> None:
    seeds = seed_file(4)
    first = script()
    with pytest.raises(TeacherError):
        evol.run(seeds, teacher=ScriptedTeacher(lambda _: Unavailable("reset")), rounds=1, tries=1, patience=0)
    assert len(evol.run(seeds, teacher=first, rounds=1).frame()) == 8


def test_a_finished_run_asks_nothing_again(seed_file: SeedFile) -> None:
    seeds = seed_file(3)
    before = (evol.run(seeds, teacher=script()).path / "dataset.jsonl").read_bytes()
    again = evol.run(seeds, teacher=ScriptedTeacher([]))
    assert (again.path / "dataset.jsonl").read_bytes() == before


def test_more_rounds_ask_for_those_only(seed_file: SeedFile) -> None:
    seeds = seed_file(3)
    evol.run(seeds, teacher=script(), rounds=4)
    teacher = script()
    run = evol.run(seeds, teacher=teacher, rounds=6)
    assert len(teacher.requests) == 3 * 2 * 3
    assert {row.round for row in run.rows()} == set(range(7))


def test_fewer_rounds_give_fewer_rows_and_lose_nothing(seed_file: SeedFile) -> None:
    seeds = seed_file(3)
    evol.run(seeds, teacher=script(), rounds=4)
    assert len(evol.run(seeds, teacher=ScriptedTeacher([]), rounds=1).frame()) == 6
    assert len(evol.run(seeds, teacher=ScriptedTeacher([]), rounds=4).frame()) == 15


def test_added_seeds_move_no_other_seed(seed_file: SeedFile) -> None:
    evol.run(seed_file(3), teacher=script(), rounds=2)
    teacher = script()
    evol.run(seed_file(5), teacher=teacher, rounds=2)
    assert len(teacher.requests) == 2 * 2 * 3


def mine(folder: Path) -> str:
    """A copy of the shipped pack that may be changed."""
    import shutil

    from evol.shipped import shipped

    shutil.copytree(shipped("templates") / "wizardlm", folder / "mine")
    return str(folder / "mine")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"random_seed": 7}, "random seed"),
        ({"words": (10, 30)}, "word budget"),
        ({"weights": {"breadth": 2}}, "weights"),
        ({"sampling": {"responder": {"temperature": 0.5}}}, "sampling of the responder"),
        ({"teacher": ScriptedTeacher([], model="other")}, "model of the judge"),
        ({"templates": "mine"}, "template deepen"),
        ({"seed": "others.json"}, "seeds"),
        ({"seed": "others.json", "limit": 1}, "seeds"),
    ],
)
def test_a_changed_recipe_is_refused_by_name(
    seed_file: SeedFile, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    options: dict[str, Any] = {"seed": seed_file(2), "teacher": script(), "rounds": 1, "out": "outputs/x"}
    seed_file(1, output="Another.", name="others.json")
    if "templates" in change:
        path = Path(mine(tmp_path)) / "deepen.j2"
        path.write_text(path.read_text(encoding="utf-8").replace("exception", "exemption"), encoding="utf-8")
    evol.run(**options)
    with pytest.raises(DriftError, match=named):
        evol.run(**(options | change))


def test_accepted_drift_asks_what_changed_and_nothing_else(seed_file: SeedFile) -> None:
    seeds = seed_file(3)
    evol.run(seeds, teacher=script(), rounds=1)
    warmer: dict[str, Any] = {"sampling": {"responder": {"temperature": 0.5}}, "rounds": 1}
    teacher = script()
    evol.run(seeds, teacher=teacher, accept_drift=True, **warmer)
    assert {request.stage for request in teacher.requests} == {"respond"}
    evol.run(seeds, teacher=ScriptedTeacher([]), **warmer)
    evol.run(seeds, teacher=ScriptedTeacher([]), rounds=1, accept_drift=True)


def test_calls_given_up_are_asked_again_on_demand_and_the_folder_stays_usable(seed_file: SeedFile) -> None:
    def fail_in_round_one(request: Request) -> str | Exception:
        return Unavailable("reset") if request.user.count("Give two reasons") == 1 else "A proper answer."

    options: dict[str, Any] = {"rounds": 3, "tries": 1, "weights": {"breadth": 0}}
    seeds = seed_file(2)
    first = evol.run(seeds, teacher=script(respond=fail_in_round_one), **options)
    assert reasons(first) == {"teacher_failed"}
    again = evol.run(seeds, teacher=script(), retry_failed=True, **options)
    assert reasons(again) == set()
    before = (again.path / "dataset.jsonl").read_bytes()
    plain = evol.run(seeds, teacher=ScriptedTeacher([]), **options)
    assert (plain.path / "dataset.jsonl").read_bytes() == before


@pytest.mark.parametrize("concurrency", [1, 8, 32])
def test_a_teacher_that_dies_in_the_middle_costs_no_row(seed_file: SeedFile, concurrency: int) -> None:
    seeds, dying = seed_file(40), script()
    alive = dying._reply
    dying._reply = lambda request: alive(request) if len(dying.requests) < 100 else Unavailable("gone")
    with pytest.raises(TeacherError):
        evol.run(seeds, teacher=dying, rounds=2, tries=1, concurrency=concurrency, patience=0)
    assert reasons(evol.run(seeds, teacher=script(), rounds=2)) == set()


def test_accepted_drift_that_was_interrupted_goes_on_without_being_accepted_again(seed_file: SeedFile) -> None:
    seeds = seed_file(4)
    other: dict[str, Any] = {"sampling": {"evolver": {"temperature": 0.5}}, "rounds": 2}

    def another_way(request: Request) -> str | Exception:
        if len(stopping.requests) > 6:
            return TeacherError("401")
        return request.values["instruction"] + " Name one case where it is otherwise, and what follows from it."

    evol.run(seeds, teacher=script(), rounds=2)
    stopping = script(evolve=another_way)
    with pytest.raises(TeacherError):
        evol.run(seeds, teacher=stopping, accept_drift=True, **other)
    run = evol.run(seeds, teacher=script(), **other)
    assert len(run.frame()) == 12
    assert run.frame()["instruction"].str.contains("Name one case").any()


def test_the_order_of_a_packs_operators_decides_nothing(seed_file: SeedFile, tmp_path: Path) -> None:
    pack = Path(mine(tmp_path)) / "pack.toml"
    head, *operators = pack.read_text(encoding="utf-8").split("[operators.")
    seeds = seed_file(4)
    evol.run(seeds, teacher=script(), templates="mine", rounds=2)
    pack.write_text(head + "".join(f"[operators.{text}\n" for text in reversed(operators)), encoding="utf-8")
    evol.run(seeds, teacher=ScriptedTeacher([]), templates="mine", rounds=2)


def test_nothing_drifts_before_the_first_answer(seed_file: SeedFile) -> None:
    seeds = seed_file(1)
    with pytest.raises(TeacherError):
        evol.run(seeds, teacher=ScriptedTeacher([TeacherError("401")]))
    assert len(evol.run(seeds, teacher=script(), rounds=1, random_seed=7).frame()) == 2


def test_seeds_without_output_are_answered_and_others_only_on_demand(seed_file: SeedFile) -> None:
    bare, full = seed_file(2, output="", name="bare.json"), seed_file(2)
    assert (
        evol.run(bare, teacher=script(), rounds=0).frame()["output"].tolist() == ["A proper answer of some words."] * 2
    )
    assert evol.run(full, teacher=ScriptedTeacher([]), rounds=0).frame()["output"].tolist() == ["An answer."] * 2
    again = evol.run(full, teacher=script(), rounds=0, reanswer_seeds=True)
    assert again.frame()["output"].tolist() == ["A proper answer of some words."] * 2


def test_seeds_are_scored_on_demand_and_unscored_is_no_number(seed_file: SeedFile) -> None:
    scored = evol.run(seed_file(2), teacher=script(), rounds=0, score_seeds=True)
    assert scored.stats().by_round[0].mean_difficulty == 6.0
    unread = evol.run(seed_file(2, name="b.json"), teacher=script(score="hard"), rounds=0, score_seeds=True)
    assert unread.frame()["difficulty"].isna().all()
    assert len(unread.frame()) == 2


def test_a_sample_is_the_beginning_of_the_shuffled_whole(seed_file: SeedFile) -> None:
    seeds = seed_file(5)
    whole = lines(evol.run(seeds, teacher=script(), rounds=2).path / "dataset.jsonl")
    part = lines(evol.run(seeds, teacher=ScriptedTeacher([]), rounds=2, sample=4).path / "dataset.jsonl")
    assert part == whole[:4]
    assert [row["id"] for row in whole] != sorted(row["id"] for row in whole)


def test_roles_may_have_teachers_of_their_own(seed_file: SeedFile) -> None:
    with MockTeacher(trouble=0) as one, MockTeacher(trouble=0) as other:
        run = evol.run(seed_file(2), teacher=one.spec, judge=other.spec.replace("mock", "strict"), rounds=1)
        assert (one.requests, other.requests) == (4, 2)
    assert set(run.frame()["judge"]) == {"", "strict"}


def test_the_result_is_read_by_datasets_and_by_pandas(seed_file: SeedFile, tmp_path: Path) -> None:
    run = evol.run(seed_file(5), teacher=script(), rounds=2)
    path = str(run.path / "dataset.jsonl")
    loaded = datasets.load_dataset("json", data_files=path, split="train", cache_dir=str(tmp_path / "cache"))
    frame = pandas.read_json(path, lines=True)
    assert loaded.num_rows == len(frame) == 15
    assert {"instruction", "input", "output", "difficulty", "round", "operator"} <= set(loaded.column_names)
    assert str(frame["id"].iloc[0]).startswith("s")


def test_the_frame_has_the_same_types_whatever_is_in_it(seed_file: SeedFile) -> None:
    run = evol.run(seed_file(2), teacher=script(), rounds=0)
    full, empty = run.frame(), run.frame(eliminated=True)
    assert empty.empty
    for name in full.columns:
        assert full[name].dtype == empty[name].dtype
    assert full["difficulty"].dtype == "float64"


def test_the_finished_dataset_is_one_for_datasets(seed_file: SeedFile) -> None:
    assert evol.run(seed_file(2), teacher=script(), rounds=1).dataset().num_rows == 4


def test_a_teacher_object_and_named_roles_are_not_mixed(seed_file: SeedFile) -> None:
    with pytest.raises(UsageError, match="judge"):
        evol.run(seed_file(1), teacher=script(), judge="openai:m@http://127.0.0.1:1/v1")


def test_bad_rows_of_the_seed_file_are_in_the_log(seed_file: SeedFile) -> None:
    seeds = seed_file(1)
    seeds.write_text(json.dumps([*json.loads(seeds.read_text()), {"instruction": ""}]))
    run = evol.run(seeds, teacher=script(), rounds=0)
    assert "row 2: `instruction`: is empty" in (run.path / "run.log").read_text(encoding="utf-8")


def test_a_run_can_be_looked_at_while_it_goes(seed_file: SeedFile) -> None:
    seen: list[int] = []

    def look(_: Request) -> str:
        if RunFolder(Path("outputs/seeds")).journal.is_file():
            seen.append(sum(1 for _ in evol.load("outputs/seeds").rows()))
        return json.dumps(GOOD)

    evol.run(seed_file(20), teacher=script(judge=look), rounds=1, concurrency=1)
    assert max(seen) > 10
    assert not (Path("outputs/seeds/dataset.jsonl.part")).exists()


def test_what_no_run_has_made_is_not_overwritten(seed_file: SeedFile) -> None:
    mine = seed_file(1, name="dataset.jsonl")
    before = mine.read_bytes()
    with pytest.raises(UsageError, match="would be overwritten"):
        evol.run(mine, teacher=script(), out=".")
    with pytest.raises(UsageError, match="nothing is overwritten"):
        evol.run(seed_file(1), teacher=script(), out=".")
    assert mine.read_bytes() == before


def test_a_run_without_its_journal_is_not_paid_again(seed_file: SeedFile) -> None:
    seeds = seed_file(1)
    run = evol.run(seeds, teacher=script(), rounds=1)
    (run.path / "journal.db").unlink()
    with pytest.raises(UsageError, match="journal"):
        evol.run(seeds, teacher=ScriptedTeacher([]), rounds=1)


def test_a_run_that_nobody_listens_to_still_makes_its_dataset(seed_file: SeedFile) -> None:
    command = [*RUN, "--seed", str(seed_file(2)), "--teacher", "demo"]
    subprocess.run(["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *command], check=True)
    Path("outputs/seeds/dataset.jsonl").unlink()
    with Path("/dev/full").open("w") as full:
        subprocess.run(command, stderr=full, check=True)
    assert Path("outputs/seeds/dataset.jsonl").is_file()


def test_a_second_process_is_kept_out(seed_file: SeedFile) -> None:
    with RunFolder(Path("outputs/seeds")).locked(), pytest.raises(FolderInUse, match=str(os.getpid())):
        evol.run(seed_file(1), teacher=script())


def test_a_notebook_with_a_running_loop_can_run_it(seed_file: SeedFile) -> None:
    async def cell() -> int:
        return len(evol.run(seed_file(1), teacher=script(), rounds=1).frame())

    assert asyncio.run(cell()) == 2


def test_an_interrupted_notebook_stops_asking_at_once(seed_file: SeedFile) -> None:
    def interrupt_at_the_fifth(_: Request) -> str:
        judged.append(len(teacher.requests))
        if len(judged) == 5:
            _thread.interrupt_main()
        return json.dumps(GOOD)

    async def cell() -> None:
        evol.run(seed_file(200), teacher=teacher, concurrency=2)

    judged: list[int] = []
    teacher = script(judge=interrupt_at_the_fifth)
    teacher.latency = 0.005
    loop = asyncio.new_event_loop()  # as a notebook's, which leaves Ctrl-C to the cell
    with closing(loop), pytest.raises(KeyboardInterrupt, match="goes on from there"):
        loop.run_until_complete(cell())
    assert (
        len(teacher.requests) - judged[4] < 600
    )  # of 2,400: what is asked in the quarter of a second until it is heard


def test_an_interrupted_run_exits_130_and_says_how_to_go_on(seed_file: SeedFile) -> None:
    with MockTeacher(latency=0.05) as server:
        command = [*RUN, "--seed", str(seed_file(40)), "--teacher", server.spec]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while server.requests < 20:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "the same command goes on" in said
    assert "Traceback" not in said


def test_a_full_disk_exits_4_in_one_line_and_the_run_goes_on_later(seed_file: SeedFile) -> None:
    seeds = str(seed_file(40))
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        "from evol.cli import main; main()"
    )
    options = ["run", "--seed", seeds, "--teacher", "demo", "-q"]
    full = subprocess.run([sys.executable, "-c", limited, *options], capture_output=True, text=True, check=False)
    assert (full.returncode, len(full.stderr.splitlines())) == (CannotWrite.exit_code, 1)
    subprocess.run([*RUN, *options[1:]], check=True)
    assert len(list(evol.load("outputs/seeds").rows())) == 40 * 5


def test_a_sampling_seed_gives_each_call_one_of_its_own_and_the_same_again(seed_file: SeedFile) -> None:
    drawn = []
    for out in ("a", "b"):
        teacher = script()
        evol.run(seed_file(3), teacher=teacher, rounds=2, out=out, sampling={"evolver": {"seed": 7}})
        evolving = [asked for asked in teacher.requests if asked.stage == "evolve"]
        drawn.append(sorted(str(asked.sampling.seed) for asked in evolving))
        assert all(asked.sampling.seed is None for asked in teacher.requests if asked.stage != "evolve")
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 3 * 2
