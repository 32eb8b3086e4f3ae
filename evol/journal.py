"""The journal of a run: every answer that was paid for, committed before anything uses it.

One SQLite file in WAL mode with `synchronous=FULL`: what `record` has returned from survives a crash and a power cut.
One thread writes; answers that arrive within a few milliseconds share a commit. An answer is found again by its place
in the run and the digest of what was asked, so that an answer is never overwritten, and a question that changed is
seen. Beside the answers stand the rows derived from them, so that a run can be looked at while it goes.

Beside `salvage.py` this is the only room that knows SQL.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from evol.ballast import Ballast
from evol.errors import CannotWrite, DriftError, JournalDamaged

MAX_BATCH = 256
BALLAST = "journal.ballast"
BATCH_SECONDS = 0.004  # a writer that waits a little for company saves CPU and costs nothing: the gate is already free
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (
    place   TEXT NOT NULL,     -- seed / round / attempt / stage / sample
    digest  BLOB NOT NULL,     -- of the request
    recipe  TEXT NOT NULL,     -- digest of the recipe it was asked under
    failure TEXT NOT NULL,     -- why the call was given up; empty for an answer
    body    BLOB NOT NULL,     -- the reply as it came
    crc     INTEGER NOT NULL,  -- of all the others
    tries   INTEGER NOT NULL,
    seconds REAL NOT NULL,
    PRIMARY KEY (place, digest)
);
CREATE TABLE IF NOT EXISTS rows (seed_id TEXT, round INTEGER, row TEXT NOT NULL, PRIMARY KEY (seed_id, round));
CREATE TABLE IF NOT EXISTS pool (seed_order INTEGER PRIMARY KEY, seed_id TEXT NOT NULL UNIQUE);
"""
VERSION = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal keeps of one call. `failure` is the reason it was given up, with the last words as `body`."""

    place: str
    digest: bytes
    recipe: str
    body: bytes
    failure: str = ""
    tries: int = 1
    seconds: float = 0.0

    @property
    def crc(self) -> int:
        """The checksum of all of it, by which a row is known to be whole wherever it is found."""
        about = (self.place, self.digest.hex(), self.recipe, self.failure, self.tries, self.seconds)
        return zlib.crc32(self.body, zlib.crc32(repr(about).encode()))


class Journal:
    """A run's journal, open for writing. Use it with `with`; one process at a time (the run's folder is locked).

    `check` looks through all of it first, as is needed after a process that ended without a word. `in_trouble` is
    called from the writing thread when the disk is full and nothing more should be paid for: what is recorded after
    that is still kept, as long as the room lasts that was set aside for it. Raises `CannotWrite` and `JournalDamaged`.
    """

    def __init__(self, path: Path, *, check: bool = False) -> None:
        self.path = path
        self.in_trouble: Callable[[CannotWrite], None] = lambda _: None
        _check_log(path)
        try:
            self._reader = _connect(path, read_only=False)
            self._check_version()
            self._reader.executescript(SCHEMA)
            if check:
                self._check_all()
        except sqlite3.Error as error:
            raise _translated(error, path) from error
        self._ballast = Ballast(path.with_name(BALLAST))
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether something that was put could not be written."""
        return self._failed is not None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._work.put(None)
        self._thread.join()
        self._reader.close()
        self._ballast.remove()
        if self._failed and error is None:
            raise self._failed

    def find(self, place: str, digest: bytes, recipe: str, *, failures: bool = True) -> Entry | None:
        """The entry for this question, if it was asked before.

        `failures` False passes over calls that were given up and answers that are damaged: they are asked again.

        Raises `DriftError` where another question was asked at this place under the same recipe, and `JournalDamaged`
        where the body is not what was written.
        """
        query = "SELECT digest, recipe, body, failure, tries, seconds, crc FROM answers WHERE place = ?"
        try:
            found = self._reader.execute(query, (place,)).fetchall()
        except sqlite3.Error as error:
            raise _translated(error, self.path) from error
        for columns in found:
            entry = Entry(place, *columns[:6])
            if entry.digest == digest:
                whole = entry.crc == columns[6]
                if failures and not whole:
                    raise JournalDamaged(
                        f"{self.path}: the answer at {place} is damaged (checksum): `evol repair {self.path.parent}` "
                        "keeps all others, and --retry-failed asks for it again"
                    )
                return entry if whole and (failures or not entry.failure) else None
        if any(columns[1] == recipe for columns in found):
            raise DriftError(
                f"{self.path}: another question was asked at {place} under the same recipe; another version of evol "
                "has made this run: go on with that one, or add --accept-drift to ask again what has changed"
            )
        return None

    async def record(self, entry: Entry) -> None:
        """Commits the entry; when this returns it is on the disk. Raises `CannotWrite`."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        statement = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        values = (entry.place, entry.digest, entry.recipe, entry.failure, entry.body, entry.crc)
        self._work.put(_Work(statement, (*values, entry.tries, entry.seconds), loop, done))
        await done

    def put_row(self, seed_id: str, round_number: int, row: str) -> None:
        """Keeps a derived row; it is written with the next commit, and again by the next run if that never comes."""
        statement = (
            "INSERT INTO rows VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET row = excluded.row WHERE row <> excluded.row"
        )
        self._work.put(_Work(statement, (seed_id, round_number, row)))

    def put_meta(self, key: str, value: str) -> None:
        """Keeps what is known of the run; it is written with the next commit."""
        self._work.put(_Work("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value)))

    async def flush(self) -> None:
        """Returns when all that was put so far is on the disk. Raises `CannotWrite`."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._work.put(_Work("SELECT 1", (), loop, done))
        await done

    def set_pool(self, seed_ids: Iterable[str], meta: dict[str, str], *, forget_rows: bool = False) -> None:
        """Says which seeds are in the run, in their order, and what else is known of it. In one transaction.

        `forget_rows` drops the derived rows, where they would not be derived like that any more.
        """
        try:
            with self._reader:
                if forget_rows:
                    self._reader.execute("DELETE FROM rows")
                self._reader.execute("DELETE FROM pool")
                self._reader.executemany("INSERT INTO pool VALUES (?, ?)", enumerate(seed_ids))
                self._reader.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())
        except sqlite3.Error as error:
            raise _translated(error, self.path) from error

    def view(self) -> JournalView:
        """What can be read of it, through the same connection."""
        return JournalView(self.path, self._reader)

    def _check_version(self) -> None:
        (version,) = self._reader.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise JournalDamaged(f"{self.path}: written by a newer evol (journal version {version}); update evol")
        if 0 < version < VERSION:
            raise JournalDamaged(
                f"{self.path}: written by an evol before its first release (journal version {version}): choose another "
                "folder with --out"
            )
        self._reader.execute(f"PRAGMA user_version = {VERSION}")

    def _check_all(self) -> None:
        problems = [str(problem) for (problem,) in self._reader.execute("PRAGMA quick_check(1)")]
        if problems != ["ok"]:
            raise _damaged(self.path, problems[0])

    def _write(self) -> None:
        connection: sqlite3.Connection | None = None
        closing = False
        while not closing:
            batch, closing = self._next_batch()
            try:
                if self._failed is None:
                    connection = connection or _connect(self.path, read_only=False)
                    self._commit(connection, batch)
            # From here on nothing is written: an answer that cannot be kept must not be followed by one that can.
            except sqlite3.Error as error:
                self._failed = _translated(error, self.path)
            except Exception as error:  # noqa: BLE001 - it is raised again in whoever waits for the batch
                self._failed = error
            _settle(batch, self._failed)
        if connection is not None:
            connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[_Work]) -> None:
        try:
            _execute(connection, batch)
        except sqlite3.Error as error:
            trouble = _translated(error, self.path, "what was answered is kept; ")
            if not isinstance(trouble, CannotWrite) or not self._ballast.give_up():
                raise
            _execute(connection, batch)
            self.in_trouble(trouble)

    def _next_batch(self) -> tuple[list[_Work], bool]:
        first = self._work.get()
        if first is None:
            return [], True
        batch = [first]
        deadline = time.monotonic() + BATCH_SECONDS
        try:
            while len(batch) < MAX_BATCH:
                following = self._work.get(timeout=max(0.0, deadline - time.monotonic()))
                if following is None:
                    return batch, True
                batch.append(following)
        except queue.Empty:
            pass
        return batch, False


class JournalView:
    """A journal open for reading, while a run may be writing to it. Use it with `with` where it was opened by path."""

    def __init__(self, path: Path, connection: sqlite3.Connection | None = None) -> None:
        self.path = path
        try:
            self._connection = connection or _connect(path, read_only=True)
            self._connection.execute("SELECT 1 FROM meta").fetchone()
        except sqlite3.Error as error:
            raise _translated(error, path) from error

    def __enter__(self) -> JournalView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def meta(self) -> dict[str, str]:
        """What is known of the run as a whole."""
        return {key: value for key, value in self._select("SELECT key, value FROM meta")}  # noqa: C416 - typed

    def pool(self) -> list[str]:
        """The ids of the run's seeds in their order."""
        return [seed_id for (seed_id,) in self._select("SELECT seed_id FROM pool ORDER BY seed_order")]

    def rows(self, rounds: int, seed_id: str | None = None) -> Iterator[str]:
        """The rows of the pool's seeds up to this round, in the order of the pool, then of the rounds."""
        query = "SELECT row FROM pool JOIN rows USING (seed_id) WHERE round <= ?"
        if seed_id is not None:
            return (row for (row,) in self._select(f"{query} AND seed_id = ? ORDER BY round", rounds, seed_id))
        return (row for (row,) in self._select(f"{query} ORDER BY seed_order, round", rounds))

    def answers(self) -> Iterator[tuple[str, bytes]]:
        """Every reply as it came, with its place; calls that were given up have none."""
        return ((place, body) for place, body in self._select("SELECT place, body FROM answers WHERE failure = ''"))

    def calls(self) -> Iterator[tuple[str, bytes, int, float]]:
        """Every call that is settled: its place, the reply or why it was given up, its tries and seconds."""
        return (
            (place, body, tries, seconds)
            for place, body, tries, seconds in self._select("SELECT place, body, tries, seconds FROM answers")
        )

    def has_answers(self) -> bool:
        """Whether anything was ever asked."""
        return any(self._select("SELECT place FROM answers LIMIT 1"))

    def count_answers(self) -> int:
        """How many calls are settled, those given up included."""
        return int(next(self._select("SELECT count(*) FROM answers"))[0])

    def _select(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._connection.execute(query, values)
        except sqlite3.Error as error:
            raise _translated(error, self.path) from error


@dataclass(frozen=True, slots=True)
class _Work:
    """One statement for the writer, and whom to tell when it is on the disk."""

    statement: str
    values: tuple[object, ...]
    loop: asyncio.AbstractEventLoop | None = None
    done: asyncio.Future[None] | None = None


def _execute(connection: sqlite3.Connection, batch: list[_Work]) -> None:
    with connection:
        for work in batch:
            connection.execute(work.statement, work.values)


def _settle(batch: list[_Work], failure: BaseException | None) -> None:
    """Tells everybody who waits for this batch, with one wake-up of the loop."""
    waiting = [work.done for work in batch if work.done is not None]
    loop = next((work.loop for work in batch if work.loop is not None), None)
    if loop is None or loop.is_closed():
        return

    def tell() -> None:
        for done in waiting:
            if done.done():  # its task was cancelled
                continue
            if failure is None:
                done.set_result(None)
            else:
                done.set_exception(failure)

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:  # the loop closed in between: nobody waits any more
        return


def _check_log(path: Path) -> None:
    """Raises `JournalDamaged` for an empty file beside a log that is not: SQLite would remove the log."""
    log = path.with_name(f"{path.name}-wal")
    if path.is_file() and log.is_file() and log.stat().st_size and not path.stat().st_size:
        raise _damaged(path, "it is empty, and its log is not")


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    if read_only:
        # A reader makes a file beside the journal, too. Where it may not, and nobody writes, nothing will change.
        still = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if still else ''}", uri=True)
    # Opened in one thread and used in another where a notebook runs it; never in two at a time.
    connection = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _damaged(path: Path, why: object) -> JournalDamaged:
    return JournalDamaged(
        f"{path}: {why}: this is not a journal as evol wrote it; `evol repair {path.parent}` saves what is whole in it"
    )


def _translated(error: sqlite3.Error, path: Path, kept: str = "") -> CannotWrite | JournalDamaged:
    # Extended codes carry the primary one in their low byte. A wrong use of the connection has no code at all.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(path, error)
    remedy = "make room" if code == sqlite3.SQLITE_FULL else "see that evol may write there and nobody else does"
    return CannotWrite(
        f"{path}: {error}: {kept}{remedy}, or choose another folder with --out, and run the command again"
    )
