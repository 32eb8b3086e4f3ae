"""`evol repair`: what is whole in a damaged journal is saved, nothing wrong is, and the run goes on from there."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import evol
from evol.errors import CannotWrite, JournalDamaged
from evol.folder import RunFolder
from evol.journal import Entry, Journal, JournalView
from evol.salvage import Salvage, salvage
from evol.teachers import ScriptedTeacher
from tests.conftest import SeedFile
from tests.test_engine import script

PAGE = 4096
SMALL, LARGE = 1500, 200_000  # bytes of a body
REPAIR = [sys.executable, "-m", "evol", "repair"]


def entries(count: int, size: int, seed: int = 0) -> list[Entry]:
    chance = random.Random(seed)
    return [
        Entry(
            f"s{number}/1/0/evolve/0",
            chance.randbytes(16),
            "recipe",
            chance.randbytes(chance.randrange(size)),
            "teacher_failed" if number % 17 == 16 else "",
            chance.randrange(1, 4),
            chance.choice([0.0, 3.0, 1.25]),
        )
        for number in range(count)
    ]


def write(folder: RunFolder, kept: list[Entry], *, in_log: bool = False) -> None:
    """A journal with these answers; with `in_log` as a process leaves it that was killed, the last half in the log."""

    async def record(journal: Journal, some: list[Entry]) -> None:
        for at in range(0, len(some), 50):
            await asyncio.gather(*(journal.record(entry) for entry in some[at : at + 50]))

    folder.path.mkdir(exist_ok=True)
    half = len(kept) // 2 if in_log else len(kept)
    with Journal(folder.journal) as journal:
        journal.set_pool(["s0", "s1"], {"recipe": '{"part": "x"}', "generation": "3", "spent": '[9, 99, "1.5"]'})
        asyncio.run(record(journal, kept[:half]))
    if not in_log:
        return
    with Journal(folder.journal) as journal:
        asyncio.run(record(journal, kept[half:]))
        aside = folder.path / "aside"
        aside.mkdir()
        for file in folder.path.glob("journal.db*"):
            shutil.copy(file, aside)
    for file in aside.iterdir():
        file.replace(folder.path / file.name)
    aside.rmdir()


def read(path: Path) -> dict[tuple[str, bytes], Entry]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT place, digest, recipe, body, failure, tries, seconds, crc FROM answers")
        found = {(row[0], row[1]): Entry(*row[:7]) for row in rows}
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return found


def by_key(kept: list[Entry]) -> dict[tuple[str, bytes], Entry]:
    return {(entry.place, entry.digest): entry for entry in kept}


def no_account(_: JournalView) -> dict[str, str]:
    return {"spent": "reckoned"}


def repaired(folder: RunFolder) -> Salvage:
    with folder.locked():
        return salvage(folder, no_account)


def pages_of(path: Path, entry: Entry) -> set[int]:
    """On which pages of the file the body stands: where parts of it are found, overflow pages and the leaf."""
    content = path.read_bytes()
    found, last = set(), 0
    for at in range(0, max(1, len(entry.body) - 8), 500):
        piece = entry.body[at : at + 8]
        last = max(content.find(piece, last), 0) or max(content.find(piece), 0)
        found |= {last // PAGE, (last + len(piece) - 1) // PAGE}
    for piece in (entry.place.encode(), entry.digest):
        last = content.find(piece)
        while last >= 0:
            found |= {last // PAGE, (last + len(piece) - 1) // PAGE}
            last = content.find(piece, last + 1)
    return found


Damage = Callable[[bytearray, random.Random], set[int]]


def flip_bytes(content: bytearray, chance: random.Random) -> set[int]:
    places = [chance.randrange(PAGE, len(content)) for _ in range(12)]
    for at in places:
        content[at] ^= 1 << chance.randrange(8)
    return {at // PAGE for at in places}


def zero_bytes(content: bytearray, chance: random.Random) -> set[int]:
    places = [chance.randrange(PAGE, len(content) - 64) for _ in range(6)]
    for at in places:
        content[at : at + 64] = bytes(64)
    return {(at + more) // PAGE for at in places for more in (0, 63)}


def zero_pages(content: bytearray, chance: random.Random) -> set[int]:
    pages = set(chance.sample(range(1, len(content) // PAGE), 5))
    for page in pages:
        content[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    return pages


def fill_pages_with_garbage(content: bytearray, chance: random.Random) -> set[int]:
    pages = set(chance.sample(range(1, len(content) // PAGE), 5))
    for page in pages:
        content[page * PAGE : (page + 1) * PAGE] = chance.randbytes(PAGE)
    return pages


def truncate(content: bytearray, chance: random.Random) -> set[int]:
    end, before = chance.randrange(len(content) // 2, len(content)), len(content)
    del content[end:]
    return set(range(end // PAGE, before // PAGE + 1))


def spoil_header(content: bytearray, chance: random.Random) -> set[int]:
    content[:100] = chance.randbytes(100)
    return {0}


def spoil_first_page(content: bytearray, _: random.Random) -> set[int]:
    content[:PAGE] = bytes(PAGE)
    return {0}


def spoil_roots(content: bytearray, chance: random.Random) -> set[int]:
    """The pages that the schema names: the roots of all trees."""
    roots = set(range(1, 8))
    for page in roots:
        content[page * PAGE : page * PAGE + 12] = chance.randbytes(12)
    return roots


DAMAGES = (
    flip_bytes,
    zero_bytes,
    zero_pages,
    fill_pages_with_garbage,
    truncate,
    spoil_header,
    spoil_first_page,
    spoil_roots,
)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.torture) for seed in range(1, 8))])
@pytest.mark.parametrize(("count", "size"), [(200, SMALL), (20, LARGE)], ids=["small", "large"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_every_answer_on_pages_that_were_not_touched_is_saved(
    tmp_path: Path, damage: Damage, count: int, size: int, seed: int
) -> None:
    folder, kept = RunFolder(tmp_path / "run"), entries(count, size, seed)
    write(folder, kept)
    content = bytearray(folder.journal.read_bytes())
    pages = {entry.place: pages_of(folder.journal, entry) for entry in kept}
    touched = damage(content, random.Random(seed))
    folder.journal.write_bytes(content)
    result = repaired(folder)
    found = read(folder.journal)
    assert found.items() <= by_key(kept).items()
    untouched = {key for key, entry in by_key(kept).items() if not pages[entry.place] & touched}
    assert untouched <= found.keys()
    assert result.answers == len(found)
    assert not set(result.damaged) & {place for place, _ in found}
    if result.kept_as:
        assert result.kept_as.read_bytes() == content


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.torture) for seed in range(1, 8))])
@pytest.mark.parametrize(("count", "size"), [(200, SMALL), (24, LARGE)], ids=["small", "large"])
@pytest.mark.parametrize("damage", [flip_bytes, zero_bytes, fill_pages_with_garbage, truncate, spoil_header])
def test_a_damaged_log_costs_only_what_stood_in_the_damage(
    tmp_path: Path, damage: Damage, count: int, size: int, seed: int
) -> None:
    folder, kept = RunFolder(tmp_path / "run"), entries(count, size, seed)
    write(folder, kept, in_log=True)
    log = folder.path / "journal.db-wal"
    content = bytearray(log.read_bytes())
    first = by_key(kept[: count // 2])
    pages = {entry.place: pages_of(log, entry) for entry in kept[count // 2 :]}
    touched = damage(content, random.Random(seed))
    log.write_bytes(content)
    repaired(folder)
    found = read(folder.journal)
    assert found.items() <= by_key(kept).items()
    assert first.items() <= found.items()
    near = {page + more for page in touched for more in (-1, 0, 1)}  # frames are longer than pages
    untouched = {(entry.place, entry.digest) for entry in kept[count // 2 :] if not pages[entry.place] & near}
    assert untouched <= found.keys()


def test_a_log_whose_header_is_gone_costs_nothing(tmp_path: Path) -> None:
    folder, kept = RunFolder(tmp_path / "run"), entries(200, SMALL)
    write(folder, kept, in_log=True)
    log = folder.path / "journal.db-wal"
    log.write_bytes(bytes(32) + log.read_bytes()[32:])
    assert repaired(folder).answers == 200
    assert read(folder.journal) == by_key(kept)


def test_what_the_log_of_an_emptied_journal_holds_is_saved(tmp_path: Path) -> None:
    folder, kept = RunFolder(tmp_path / "run"), entries(200, SMALL)
    write(folder, kept, in_log=True)
    folder.journal.write_bytes(b"")
    assert repaired(folder).answers > 50
    assert read(folder.journal).items() <= by_key(kept).items()


def test_what_is_known_of_the_run_is_saved_and_a_new_generation_begun(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    write(folder, entries(300, SMALL))
    content = bytearray(folder.journal.read_bytes())
    zero_pages(memory := bytearray(content[40 * PAGE :]), random.Random(1))
    folder.journal.write_bytes(content[: 40 * PAGE] + memory)
    assert not repaired(folder).account_lost
    with JournalView(folder.journal) as view:
        assert view.meta() == {"recipe": '{"part": "x"}', "generation": "4", "spent": '[9, 99, "1.5"]'}
        assert view.pool() == ["s0", "s1"]


@pytest.mark.parametrize("in_log", [False, True])
def test_a_whole_journal_is_left_alone(tmp_path: Path, in_log: bool) -> None:
    folder = RunFolder(tmp_path / "run")
    write(folder, entries(100, SMALL), in_log=in_log)
    before = {path.name: path.read_bytes() for path in folder.path.glob("journal.db*") if path.suffix != ".db-shm"}
    result = repaired(folder)
    assert (result.answers, result.kept_as) == (100, None)
    after = {path.name: path.read_bytes() for path in folder.path.glob("journal.db*") if path.suffix != ".db-shm"}
    assert before == after


@pytest.mark.parametrize("content", [b"", b"no database", bytes(50_000), os.urandom(50_000)])
def test_where_nothing_can_be_saved_all_is_left_as_it_was(tmp_path: Path, content: bytes) -> None:
    folder = RunFolder(tmp_path)
    folder.journal.write_bytes(content)
    if not content:
        folder.journal.with_name("journal.db-wal").write_bytes(bytes(9000))
    before = {path.name: path.read_bytes() for path in tmp_path.glob("journal.db*")}
    with pytest.raises(JournalDamaged, match="no answer in it can be saved"):
        repaired(folder)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("journal.db*")} == before


def test_a_damaged_journal_is_never_overwritten(tmp_path: Path) -> None:
    folder, kept = RunFolder(tmp_path), entries(100, SMALL)
    names = []
    for _ in range(3):
        write(folder, kept)
        content = bytearray(folder.journal.read_bytes())
        spoil_header(content, random.Random(1))
        folder.journal.write_bytes(content)
        result = repaired(folder)
        assert result.kept_as
        names.append(result.kept_as.name)
        assert result.kept_as.read_bytes() == content
    assert names == ["journal.db.damaged", "journal.db.damaged-2", "journal.db.damaged-3"]
    assert not list(tmp_path.glob("*.salvaged*"))


def test_a_repair_that_was_cut_short_is_taken_up_again(tmp_path: Path) -> None:
    folder, kept = RunFolder(tmp_path), entries(100, SMALL)
    write(folder, kept)
    whole = folder.journal.read_bytes()
    # As it is when the damaged log has been moved already, and the new journal not yet.
    folder.journal.with_name("journal.db.salvaged").write_bytes(whole)
    folder.journal.write_bytes(whole[: len(whole) // 2])
    assert repaired(folder).answers == 100
    assert read(folder.journal) == by_key(kept)
    assert not list(tmp_path.glob("*.salvaged*"))


def test_an_answer_comes_before_the_failure_it_replaced(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    failed = Entry("s/1/0/evolve/0", b"d" * 16, "recipe", b"no", "teacher_failed")
    answer = Entry("s/1/0/evolve/0", b"d" * 16, "recipe", b"yes")
    write(folder, [failed, answer], in_log=True)
    log = folder.path / "journal.db-wal"
    log.write_bytes(bytes(32) + log.read_bytes()[32:])
    repaired(folder)
    assert read(folder.journal) == by_key([answer])


def test_without_room_all_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    write(folder, entries(100, SMALL))
    spoiled = bytes(100) + folder.journal.read_bytes()[100:]
    folder.journal.write_bytes(spoiled)

    def no_room(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("evol.salvage._keep", no_room)
    with pytest.raises(CannotWrite, match="make room"):
        repaired(folder)
    assert folder.journal.read_bytes() == spoiled
    assert not list(tmp_path.glob("*.salvaged*"))


def run(seeds: Path, teacher: ScriptedTeacher, out: Path) -> tuple[bytes, bytes]:
    made = evol.run(seeds, teacher=teacher, rounds=3, out=out)
    return (made.path / "dataset.jsonl").read_bytes(), (made.path / "journal.db").read_bytes()


@pytest.mark.parametrize("damage", [zero_pages, spoil_first_page, spoil_roots, truncate])
def test_a_run_over_a_repaired_journal_comes_to_the_same_and_asks_only_for_what_was_lost(
    seed_file: SeedFile, tmp_path: Path, damage: Damage
) -> None:
    seeds, out = seed_file(20), tmp_path / "out"
    first = script()
    dataset, journal = run(seeds, first, out)
    content = bytearray(journal)
    damage(content, random.Random(7))
    (out / "journal.db").write_bytes(content)
    for name in ("journal.db-wal", "journal.db-shm"):
        (out / name).unlink(missing_ok=True)
    done = subprocess.run([*REPAIR, str(out)], capture_output=True, text=True, check=True)
    assert "next: the `evol run` command" in done.stderr
    assert "Traceback" not in done.stderr
    saved = len(read(out / "journal.db"))
    again = script()
    assert run(seeds, again, out)[0] == dataset
    assert len(again.requests) == len(first.requests) - saved
    whole = subprocess.run([*REPAIR, str(out)], capture_output=True, text=True, check=True)
    assert f"nothing is wrong with it; it holds {len(first.requests):,} answers" in whole.stderr


def test_nothing_is_repaired_where_a_run_is_at_work_or_there_is_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    missing = subprocess.run([*REPAIR, str(tmp_path)], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    folder.journal.write_bytes(b"damaged")
    with folder.locked():
        busy = subprocess.run([*REPAIR, str(tmp_path)], capture_output=True, text=True, check=False)
    assert busy.returncode == 3
    hopeless = subprocess.run([*REPAIR, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (hopeless.returncode, len(hopeless.stderr.splitlines())) == (1, 1)
