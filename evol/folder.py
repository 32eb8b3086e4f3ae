"""A run's folder: what is where in it, who is at work in it, and files that are whole or not there."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from evol.errors import CannotWrite, FolderInUse, RunMissing, UsageError
from evol.filesystem import remote_kind

HOLDER = 1000  # bytes at most for the name of who holds a lock
NOTE = 200  # bytes of a note
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


class Lock:
    """Who is at work in a run's folder, and what was in flight when the last who was died without a word.

    The file is empty when nobody is. `unclean` says that it was not, and `left` is what the last process noted. Both
    stay for the next process, until one has taken care of them and said so with `settle`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._note_at = 0
        self._settled = True
        self.unclean = False
        self.left = ""

    def take(self) -> str:
        """Takes it, and returns nothing; or the name of who holds it. Raises `OSError`."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._read()[0] or "another process"
        holder, self.left = self._read()
        self.unclean = bool(holder)
        self._settled = not self.unclean
        here = f"process {os.getpid()} on {socket.gethostname()}\n".encode()
        self._note_at = len(here)
        # Who dies before it has a note of its own leaves that of the one before: nobody has counted it yet. All of the
        # room for a note is taken at once, so that a full disk stops none.
        text = here + self.left.ljust(NOTE).encode()
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))
        os.fsync(self._file)
        return ""

    def note(self, text: str) -> None:
        """Keeps a line of ASCII for whoever comes after a sudden end. Raises `CannotWrite`.

        It is not fsynced: a kill loses none of it, a power cut may.
        """
        self._settled = False
        try:
            os.pwrite(self._file, text[:NOTE].ljust(NOTE).encode(), self._note_at)
        except OSError as error:
            raise CannotWrite(
                f"{self._path}: {error.strerror}: see that evol may write there, and run again"
            ) from error

    def settle(self) -> None:
        """Nothing that was found, or noted since, is left to take care of."""
        self._settled = True

    def release(self) -> None:
        """Leaves it as somebody does who was able to: empty, unless something is left to take care of."""
        if self._settled:
            os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Lets go of the file, and with it of the lock."""
        os.close(self._file)

    def _read(self) -> tuple[str, str]:
        holder, _, note = os.pread(self._file, HOLDER + NOTE, 0).decode("utf-8", "replace").partition("\n")
        return holder.strip(), note.strip()


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
        if kind := remote_kind(self.path):
            raise CannotWrite(
                f"{self.path} is on a remote file system ({kind}), where a journal is not safe: name a folder on a "
                "local disk with --out, and copy it when the run is finished"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = Lock(self._lock)
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            if holder := lock.take():
                raise FolderInUse(
                    f"{self.path} is in use by {holder}: wait for it, or choose another folder with --out"
                )
        except OSError as error:
            lock.close()
            raise self._cannot_write(error) from error
        except FolderInUse:
            lock.close()
            raise
        try:
            yield lock
        finally:
            lock.release()
            lock.close()

    def write_log(self, line: str) -> None:
        """Adds a line to run.log, with the time. Raises `CannotWrite`."""
        try:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n")
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> CannotWrite:
        where, why = error.filename or self.path, error.strerror or error
        remedy = "make room" if error.errno in NO_ROOM else "see that evol may write there"
        return CannotWrite(f"{where}: {why}: {remedy}, or choose another folder with --out")

    def check_it_is_ours(self, seed: Path) -> None:
        """Raises `UsageError` where a run would overwrite what no run of this folder has made.

        That is the seed file itself, and files of the names a run writes beside which there is no journal. Raises
        `CannotWrite` for a name that no folder can have.
        """
        try:
            self.path.exists()
        except OSError as error:
            raise self._cannot_write(error) from error
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
