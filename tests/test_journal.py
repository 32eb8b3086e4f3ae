"""The journal: what is recorded is there, whole, for whoever opens it next."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from evol.errors import CannotWrite, DriftError, JournalDamaged
from evol.journal import Entry, Journal, JournalView

ENTRY = Entry("s1/1/0/evolve/0", b"d" * 16, "recipe", b'{"choices": []}\x00\xff', tries=2, seconds=0.5)


def record(path: Path, *entries: Entry) -> None:
    async def all_of_them(journal: Journal) -> None:
        await asyncio.gather(*(journal.record(entry) for entry in entries))

    with Journal(path) as journal:
        asyncio.run(all_of_them(journal))


def test_what_was_recorded_is_found_byte_for_byte(tmp_path: Path) -> None:
    record(tmp_path / "j.db", ENTRY)
    with Journal(tmp_path / "j.db") as journal:
        assert journal.find(ENTRY.place, ENTRY.digest, "recipe") == ENTRY


def test_a_record_is_on_the_disk_before_it_returns(tmp_path: Path) -> None:
    async def record_and_look(journal: Journal) -> int:
        await journal.record(ENTRY)
        with JournalView(tmp_path / "j.db") as other:
            return other.count_answers()

    with Journal(tmp_path / "j.db") as journal:
        assert asyncio.run(record_and_look(journal)) == 1


def test_another_place_is_not_found(tmp_path: Path) -> None:
    record(tmp_path / "j.db", ENTRY)
    with Journal(tmp_path / "j.db") as journal:
        assert journal.find("s1/2/0/evolve/0", ENTRY.digest, "recipe") is None


def test_another_question_at_the_same_place_is_drift(tmp_path: Path) -> None:
    record(tmp_path / "j.db", ENTRY)
    with Journal(tmp_path / "j.db") as journal, pytest.raises(DriftError, match="s1/1/0/evolve/0"):
        journal.find(ENTRY.place, b"x" * 16, "recipe")


def test_under_another_recipe_it_is_a_new_question_and_the_old_answer_stays(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    record(path, ENTRY)
    newer = Entry(ENTRY.place, b"x" * 16, "other recipe", b"new")
    with Journal(path) as journal:
        assert journal.find(newer.place, newer.digest, newer.recipe) is None
    record(path, newer)
    with Journal(path) as journal:
        assert journal.find(ENTRY.place, ENTRY.digest, "recipe") == ENTRY
        assert journal.find(newer.place, newer.digest, newer.recipe) == newer


def test_a_failure_can_be_passed_over_and_replaced(tmp_path: Path) -> None:
    failed = Entry(ENTRY.place, ENTRY.digest, "recipe", b"no reply", "teacher_failed")
    record(tmp_path / "j.db", failed)
    with Journal(tmp_path / "j.db") as journal:
        assert journal.find(ENTRY.place, ENTRY.digest, "recipe", failures=False) is None
    record(tmp_path / "j.db", ENTRY)
    with Journal(tmp_path / "j.db") as journal:
        assert journal.find(ENTRY.place, ENTRY.digest, "recipe") == ENTRY


def test_many_at_once_are_all_there(tmp_path: Path) -> None:
    entries = [Entry(f"s{number}/1/0/evolve/0", b"d" * 16, "recipe", b"x" * 2000) for number in range(1000)]
    record(tmp_path / "j.db", *entries)
    with Journal(tmp_path / "j.db") as journal:
        assert all(journal.find(entry.place, entry.digest, "recipe") == entry for entry in entries)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    record(path, ENTRY)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE answers SET body = ?", (b'{"choices": []}\x00\xfe',))
    connection.close()
    with Journal(path) as journal, pytest.raises(JournalDamaged, match="checksum"):
        journal.find(ENTRY.place, ENTRY.digest, "recipe")
    with Journal(path) as journal:
        assert journal.find(ENTRY.place, ENTRY.digest, "recipe", failures=False) is None


def test_rows_come_in_the_order_of_the_pool_then_of_the_rounds(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        journal.set_pool(["b", "a"], {"rounds": "2"})
        for seed_id, number in (("a", 1), ("b", 2), ("a", 0), ("b", 0), ("gone", 0), ("b", 3)):
            journal.put_row(seed_id, number, f"{seed_id}{number}")
        asyncio.run(journal.flush())
        assert list(journal.view().rows(2)) == ["b0", "b2", "a0", "a1"]
        assert list(journal.view().rows(2, "a")) == ["a0", "a1"]


def test_a_row_that_is_put_again_replaces_the_first(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db") as journal:
        journal.set_pool(["a"], {})
        journal.put_row("a", 0, "old")
        journal.put_row("a", 0, "new")
        asyncio.run(journal.flush())
        assert list(journal.view().rows(0)) == ["new"]


def test_a_row_that_cannot_be_written_is_an_error_and_not_a_wait_for_ever(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError), Journal(tmp_path / "j.db") as journal:
        journal.put_row("a", 0, "half of a character: \ud83d")
        asyncio.run(journal.flush())


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"this is no database, but a text of some length" * 20, JournalDamaged), (None, CannotWrite)],
    ids=["not a database", "a folder that is not there"],
)
def test_what_cannot_be_a_journal_is_refused(tmp_path: Path, content: bytes | None, error: type[Exception]) -> None:
    path = tmp_path / ("j.db" if content else "missing/j.db")
    if content:
        path.write_bytes(content)
    with pytest.raises(error, match=path.name):
        Journal(path)


def test_a_journal_of_a_newer_evol_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    record(path, ENTRY)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(JournalDamaged, match="newer"):
        Journal(path)
