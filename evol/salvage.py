"""What can be saved of a damaged journal: every answer whose checksum is right, wherever it stands.

The pages are read one by one (`pages.py`), in all their versions, since SQLite ends at the first that is wrong. The
checksum of an answer is over all of its columns, so nothing else need be trusted. A new journal is made beside the
damaged one and takes its place when it is whole and on the disk; the damaged one stays, under another name.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import tomllib
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from evol.errors import CannotWrite, JournalDamaged
from evol.folder import RunFolder
from evol.journal import SCHEMA, VERSION, Entry, JournalView
from evol.pages import Cell, Pages, Value, column_types, column_values, leaf_cells, sizes

Columns = tuple[Value, ...]
# place, digest, recipe, failure, body, crc, tries, seconds; an integral float is stored as an integer
KINDS: tuple[type | tuple[type, ...], ...] = (str, bytes, str, str, bytes, int, int, (int, float))
NAMES = "place, digest, recipe, failure, body, crc, tries, seconds"
PLACE = re.compile(r"[\w.-]+(?:/[\w.-]+)+")  # what is readable enough to be shown
BESIDE = ("-wal", "-shm")
FRESH = 1_000_000  # a generation that no run has reached by counting

Account = Callable[[JournalView], Mapping[str, str]]


@dataclass
class Salvage:
    """What came of it.

    `damaged` are the places of answers that could be read in part only, in their order. `unreadable` counts pages.
    `kept_as` is where the damaged journal is now, None where nothing was wrong. `account_lost` says that what was
    spent on the run had to be reckoned from the answers.
    """

    answers: int = 0
    damaged: list[str] = field(default_factory=list)
    unreadable: int = 0
    kept_as: Path | None = None
    account_lost: bool = False


def salvage(folder: RunFolder, account: Account) -> Salvage:
    """Puts a whole journal with all answers that can be saved in the place of a damaged one; leaves a whole one alone.

    `account` tells what is to be noted of what was spent, from the answers, where the journal does not tell any more.
    To be called by whoever holds the folder's lock. Raises `JournalDamaged` where there is nothing to save, and
    `CannotWrite`; all is as it was then.
    """
    path = folder.journal
    made = _free_name(path.with_name(path.name + ".salvaged"))
    try:
        left = sorted(path.parent.glob(f"{path.name}.salvaged*"))  # of a repair that was cut short
        sources = [path, *(file for file in left if not file.name.endswith(BESIDE))]
        if (held := _count_if_whole(sources)) is not None:
            _remove(*left)
            return Salvage(answers=held)
        try:
            result = _make(made, sources, folder, account)
        except BaseException:
            _remove(made)
            raise
        result.kept_as = _exchange(path, made)
        _remove(*left)
    except sqlite3.Error as error:
        raise CannotWrite(f"{made}: {error}: make room and run the command again; all is as it was") from error
    except OSError as error:
        where = error.filename or path
        raise CannotWrite(f"{where}: {error.strerror}: see that evol may write there and run it again") from error
    return result


def _count_if_whole(sources: list[Path]) -> int | None:
    """How many answers there are, where all are right and SQLite finds every one that is in the pages; else None."""
    try:
        with _looking(sources[0]) as connection:
            if connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
                return None
            JournalView(sources[0], connection).meta()
            rows = connection.execute(f"SELECT {NAMES} FROM answers")
            held = 0
            for row in rows:
                held += 1
                if _entry(row) is None:
                    return None
            return held if all(_has(connection, entry) for entry in _entries(sources, set())) else None
    except (sqlite3.Error, JournalDamaged, CannotWrite):
        return None


def _has(connection: sqlite3.Connection, entry: Entry) -> bool:
    query = "SELECT failure FROM answers WHERE place = ? AND digest = ?"
    row = connection.execute(query, (entry.place, entry.digest)).fetchone()
    return row is not None and (not row[0] or bool(entry.failure))


def _make(made: Path, sources: list[Path], folder: RunFolder, account: Account) -> Salvage:
    """Makes the new journal, whole and on the disk."""
    damaged: set[str] = set()
    with closing(sqlite3.connect(made, isolation_level=None)) as connection:
        # It is thrown away if anything happens before it is whole: no journal of its own, and one fsync at the end.
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("BEGIN")
        for entry in _entries(sources, damaged):
            _keep(connection, entry)
        connection.execute("COMMIT")
        (answers,) = connection.execute("SELECT count(*) FROM answers").fetchone()
        unreadable = sum(map(_count_unreadable, sources[:1]))
        if not answers:
            raise JournalDamaged(
                f"{folder.journal}: no answer in it can be saved, and it is left as it was: put a copy in its place, "
                "or begin anew in another folder with --out"
            )
        lost = _keep_about(connection, made, sources, folder, account)
        whole = {place for (place,) in connection.execute("SELECT place FROM answers") if place in damaged}
    _fsync(made)
    return Salvage(answers, sorted(damaged - whole), unreadable, account_lost=lost)


def _keep(connection: sqlite3.Connection, entry: Entry) -> None:
    """Keeps the first that is found, which is the newest; but an answer rather than a call that was given up."""
    values = (entry.place, entry.digest, entry.recipe, entry.failure, entry.body, entry.crc, entry.tries, entry.seconds)
    connection.execute(
        "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET recipe = excluded.recipe, "
        "failure = excluded.failure, body = excluded.body, crc = excluded.crc, tries = excluded.tries, "
        "seconds = excluded.seconds WHERE answers.failure <> '' AND excluded.failure = ''",
        values,
    )


def _keep_about(
    connection: sqlite3.Connection, made: Path, sources: list[Path], folder: RunFolder, account: Account
) -> bool:
    """Keeps what is known of the run beside its answers. Returns whether that was lost.

    An answer that is missing is given anew, in other words perhaps, and then the questions after it are other ones:
    no drift. So the run goes on under a generation it never had.
    """
    pool, meta = _read_about(sources)
    lost = not meta
    if lost:
        recipes = sorted(recipe for (recipe,) in connection.execute("SELECT DISTINCT recipe FROM answers"))
        meta = {"recipe": json.dumps(_recipe_of(folder)), **account(JournalView(made, connection))}
        meta["generation"] = str(FRESH + zlib.crc32(repr(recipes).encode()))
    else:
        before = meta.get("generation", "0")
        meta["generation"] = str(int(before) + 1 if before.isascii() and before.isdigit() else FRESH)
    with suppress(sqlite3.Error):  # ids that occur twice are no pool; the next run writes it anew
        connection.executemany("INSERT INTO pool VALUES (?, ?)", enumerate(pool))
    connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    return lost


def _read_about(sources: list[Path]) -> tuple[list[str], dict[str, str]]:
    """The pool and what else is known of the run, from the first journal that still tells it."""
    for path in sources:
        try:
            with _looking(path) as connection:
                view = JournalView(path, connection)
                if (meta := view.meta()) and isinstance(json.loads(meta["recipe"]), dict):
                    return view.pool(), meta
        except (sqlite3.Error, JournalDamaged, CannotWrite, ValueError, TypeError, KeyError):
            continue
    return [], {}


def _recipe_of(folder: RunFolder) -> dict[str, str]:
    """What decided the run's questions, from its recipe.toml, so that another recipe is still refused."""
    try:
        decides = tomllib.loads(folder.recipe.read_text(encoding="utf-8")).get("decides")
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in decides.items()} if isinstance(decides, dict) else {}


def _entries(sources: list[Path], damaged: set[str]) -> Iterator[Entry]:
    """Every answer that is right in any version of any page; `damaged` is given the places of those that are not."""
    for path in sources:
        for size, reserved in sizes(path):
            with Pages(path, size, reserved) as pages:
                for number, page in pages.every():
                    for cell in leaf_cells(page, number, pages.usable) or ():
                        yield from _read(pages, cell, damaged)


def _read(pages: Pages, cell: Cell, damaged: set[str]) -> Iterator[Entry]:
    types = column_types(cell.begin, cell.size)
    if types is None or not _are_an_answers(types):
        return
    for record in pages.records(cell):
        if entry := _entry(_values(record, types)):
            yield entry
            return
    place = next(iter(_values(cell.begin, types)), None)
    if isinstance(place, str) and PLACE.fullmatch(place):
        damaged.add(place)


def _are_an_answers(types: list[int]) -> bool:
    """Whether columns of these serial types can be an answer's: text, bytes or a number, each in its place."""
    if len(types) != len(KINDS):
        return False
    return all(
        kind >= 12 and kind % 2 == (wanted is str) if wanted in (str, bytes) else 0 < kind < 10
        for kind, wanted in zip(types, KINDS, strict=True)
    )


def _values(record: bytes, types: list[int]) -> Columns:
    try:
        return tuple(column_values(record, types))
    except UnicodeDecodeError:
        return ()


def _entry(columns: Columns) -> Entry | None:
    """The answer in these columns, if its checksum is right."""
    if len(columns) != len(KINDS):
        return None
    if not all(isinstance(column, kind) for column, kind in zip(columns, KINDS, strict=True)):
        return None
    place, digest, recipe, failure, body, crc, tries, seconds = columns
    entry = Entry(place, digest, recipe, body, failure, tries, float(seconds))  # type: ignore[arg-type]
    return entry if entry.crc == crc else None


def _count_unreadable(path: Path) -> int:
    counts = []
    for size, reserved in sizes(path):
        with Pages(path, size, reserved) as pages:
            counts.append(pages.unreadable())
    return min(counts)


@contextmanager
def _looking(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, and leaves no file behind that was not there."""
    if not path.stat().st_size:  # SQLite would delete the log of an empty database, even if told to read only
        raise JournalDamaged(f"{path}: it is empty; `evol repair {path.parent}` saves what its log holds")
    beside = [path.with_name(path.name + ending) for ending in BESIDE]
    ours = [file for file in beside if not file.exists()]
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    finally:
        _remove(*ours)


def _exchange(path: Path, made: Path) -> Path:
    """Puts the new journal into the place of the damaged one, and returns where that is now.

    There is a journal at every moment, and never one with the log of another.
    """
    kept = _free_name(path.with_name(path.name + ".damaged"))
    try:
        os.link(path, kept)
    except OSError:  # a file system without links
        path.rename(kept)
    for ending in BESIDE:
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(kept.with_name(kept.name + ending))
    _fsync(path.parent)
    made.replace(path)
    _fsync(path.parent)
    return kept


def _free_name(path: Path) -> Path:
    """The path, or with a number from 2 on, so that neither it nor its log is there."""
    number, free = 1, path
    while any(free.with_name(free.name + ending).exists() for ending in ("", *BESIDE)):
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
