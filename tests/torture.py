"""What the torture tests share: the command, what a journal holds, and what a kill left of it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

from benchmarks.mock_teacher import MockTeacher
from evol.journal import Entry

EVOL = [sys.executable, "-m", "evol"]
NEEDED = ("dataset.jsonl", "eliminated.jsonl")
Held = dict[tuple[str, bytes], int]


def run(seeds: Path, server: MockTeacher, out: str, *options: str) -> list[str]:
    """What follows `evol` to run these seeds, without a word."""
    return ["run", "--seed", str(seeds), "--teacher", server.spec, "--out", out, "-q", *options]


def answers(folder: Path) -> Held:
    """The checksum of every answer that is committed, each found to be right."""
    if not (folder / "journal.db").is_file():
        return {}
    connection = sqlite3.connect(f"{(folder / 'journal.db').absolute().as_uri()}?mode=ro", uri=True)
    try:
        if not connection.execute("SELECT name FROM sqlite_master WHERE name = 'answers'").fetchall():
            return {}
        query = "SELECT place, digest, recipe, body, failure, tries, seconds, crc FROM answers"
        held = {Entry(*columns): crc for *columns, crc in connection.execute(query)}
    finally:
        connection.close()
    assert all(entry.crc == crc for entry, crc in held.items()), "torn"
    return {(entry.place, entry.digest): crc for entry, crc in held.items()}


def failures(folder: Path) -> int:
    """How many calls were given up."""
    with sqlite3.connect(folder / "journal.db") as connection:
        return int(connection.execute("SELECT count(*) FROM answers WHERE failure <> ''").fetchone()[0])


def files(folder: Path) -> list[bytes]:
    """What a run is made for."""
    return [(folder / name).read_bytes() for name in NEEDED]


def whole(seeds: Path, *options: str) -> list[bytes]:
    """The files of a run that nothing happened to."""
    with MockTeacher() as server:
        subprocess.run([*EVOL, *run(seeds, server, "outputs/whole", *options)], check=True)
    return files(Path("outputs/whole"))


class Victim:
    """A run that is killed again and again, and what it may cost."""

    def __init__(self, server: MockTeacher, out: str) -> None:
        self.folder = Path(out)
        self.kills = 0
        self.owed = 0  # calls that may be paid for again, by the notes that were left
        self._server = server
        self._seen = 0  # calls, when it was looked at before
        self._held: Held = {}

    @property
    def paid_twice(self) -> int:
        """Calls whose answers were sent for nothing."""
        return self._server.requests - len(self._held)

    def look(self, *, killed: bool = True) -> None:
        """Nothing that was committed is gone or other than it was; what is missing was in flight, and noted so."""
        held = answers(self.folder)
        assert self._held.items() <= held.items()
        self._held = held
        if killed:
            self.kills += 1
            # A process that sent nothing leaves the note of the one before, which is counted already.
            self.owed += self._noted() if self._server.requests > self._seen else 0
        self._seen = self._server.requests
        assert 0 <= self.paid_twice <= self.owed

    def _noted(self) -> int:
        lock = self.folder / "run.lock"
        _, _, note = (lock.read_text(encoding="utf-8") if lock.is_file() else "").partition("\n")
        return int(note.split()[0]) if note.strip() else 0
