"""A run's folder: what is where in it, who is at work in it, and files that are whole or not there."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from evol.errors import CannotWrite, FolderInUse, RunMissing, UsageError


class Lock:
    """dev"""

    def __init__(self) -> None:
        self.unclean = False
        self.left = ""

    def note(self, text: str) -> None:
        """dev"""


class RunFolder:
    """The files of one run. Nothing is made or read before it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.toml"
        self.journal = path / "journal.db"
        self.dataset = path / "dataset.jsonl"
        self.eliminated = path / "eliminated.jsonl"
        self.card = path / "README.md"
        self.log = path / "run.log"
        self._lock = path / "run.lock"

    @contextmanager
    def locked(self) -> Iterator[Lock]:
        """Makes the folder and keeps every other process out while inside.

        Raises `FolderInUse` where one is in already, and `CannotWrite` where the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = self._lock.open("a+")
        except OSError as error:
            raise self._cannot_write(error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                lock.truncate(0)
                lock.write(f"process {os.getpid()} on {socket.gethostname()}")
                lock.flush()
            except BlockingIOError as error:
                lock.seek(0)
                holder = lock.read().strip() or "another process"
                raise FolderInUse(
                    f"{self.path} is in use by {holder}: wait for it, or choose another folder with --out"
                ) from error
            except OSError as error:
                raise self._cannot_write(error) from error
            yield Lock()

    def write_log(self, line: str) -> None:
        """Adds a line to run.log, with the time. Raises `CannotWrite`."""
        try:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n")
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> CannotWrite:
        where, why = error.filename or self.path, error.strerror or error
        return CannotWrite(f"{where}: {why}: make room, or choose another folder with --out")

    def check_it_is_ours(self, seed: Path) -> None:
        """Raises `UsageError` where a run would overwrite what no run of this folder has made.

        That is the seed file itself, and files of the names a run writes beside which there is no journal.
        """
        derived = (self.recipe, self.dataset, self.eliminated, self.card)
        if seed.resolve() in {path.resolve() for path in derived}:
            raise UsageError(f"{seed} would be overwritten by the run in {self.path}: choose another folder with --out")
        has_journal = self.journal.is_file() and self.journal.stat().st_size
        found = [path.name for path in derived if path.exists()]
        if found and not has_journal:
            raise UsageError(
                f"{self.path} holds {', '.join(found)} and no journal of a run: nothing is overwritten. "
                "Choose another folder with --out, or put the journal.db back that belongs there"
            )

    def existing(self) -> RunFolder:
        """This folder, if there is a run in it. Raises `RunMissing`."""
        if self.journal.is_file():
            return self
        siblings = sorted(path.parent.name for path in self.path.parent.glob("*/journal.db"))
        others = f"; runs beside it: {', '.join(siblings)}" if siblings else "; `evol run --seed FILE` makes one"
        raise RunMissing(f"{self.path}: there is no run here{others}")


def write_whole(path: Path, lines: Iterable[str]) -> int:
    """Writes the lines to a file that is either the old one or the new one, whole. Returns how many there were.

    Without a line there is no file: an empty one breaks its readers. Raises `CannotWrite`.
    """
    temporary = path.with_name(path.name + ".part")
    written = 0
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for line in lines:
                file.write(line + "\n")
                written += 1
            file.flush()
            os.fsync(file.fileno())
        if written:
            temporary.replace(path)
        else:
            temporary.unlink()
            path.unlink(missing_ok=True)
    except OSError as error:
        raise CannotWrite(f"{path}: {error.strerror or error}: make room and run the command again") from error
    return written
