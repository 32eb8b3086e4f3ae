"""Runs evol's command line and sends itself a signal at a named point of it: SIGKILL, or one that asks it to end.

    python tests/die_at.py SIGKILL POINT TIMES run --seed ...

It is sent when the point is reached for the TIMES-th time. Nothing of evol is changed for it: what it
calls is wrapped, in a process that does not outlive the wrapping.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from evol import folder
from evol.budget import Budget
from evol.cli import main
from evol.dataset import finish as finishing
from evol.journal import Journal
from evol.records import Request
from evol.teachers.openai import OpenAITeacher

LONGEST_TIMER = 0.004  # seconds: about as long as a commit or a checkpoint takes
Step = Callable[[], None]


class Death:
    """A signal that comes the n-th time that it is called."""

    def __init__(self, number: signal.Signals, times: int) -> None:
        self._number = number
        self._left = times

    def now(self) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), self._number)

    def soon(self) -> None:
        """In the middle of what follows, whoever does it: the kernel's timer asks no interpreter."""
        self._left -= 1
        if not self._left:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, LONGEST_TIMER))


def nothing() -> None:
    """What is done on the other side of a point."""


def around(owner: Any, name: str, before: Step = nothing, after: Step = nothing) -> None:  # noqa: ANN401 - any class
    """Does a step before a method, and one after it."""
    inner = getattr(owner, name)

    @wraps(inner)
    def outer(*values: Any, **named: Any) -> Any:  # noqa: ANN401 - of any method
        before()
        result = inner(*values, **named)
        after()
        return result

    setattr(owner, name, outer)


def after_a_reply(death: Death) -> None:
    inner = OpenAITeacher.send

    async def send(self: OpenAITeacher, request: Request) -> bytes:
        body = await inner(self, request)
        death.now()
        return body

    OpenAITeacher.send = send  # type: ignore[method-assign]


def dying_connection(
    before: Step = nothing, after: Step = nothing, stored: Step = nothing, pool: Step = nothing
) -> None:
    """Has every connection do these steps: around the writer's commits, after an answer, and for each row of a pool."""

    class Connection(sqlite3.Connection):
        def __exit__(self, *error: Any) -> Any:  # noqa: ANN401 - as the method's
            if threading.current_thread().name != "journal":
                return super().__exit__(*error)
            before()
            result = super().__exit__(*error)
            after()
            return result

        def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:  # noqa: ANN401 - as the method's
            result = super().execute(statement, *values)
            if "INTO answers" in statement:
                stored()
            return result

        def executemany(self, statement: str, rows: Iterable[Any]) -> sqlite3.Cursor:
            return super().executemany(statement, each(rows, pool) if "INTO pool" in statement else rows)

    connect = sqlite3.connect
    sqlite3.connect = lambda *values, **named: connect(*values, factory=Connection, **named)  # type: ignore[assignment]


def each(values: Iterable[Any], step: Step) -> Iterator[Any]:
    for value in values:
        step()
        yield value


def around_a_rename(name: str, before: Step = nothing, after: Step = nothing) -> None:
    inner = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if target.name != name:
            return inner(path, target)
        before()
        result = inner(path, target)
        after()
        return result

    Path.replace = replace  # type: ignore[assignment, method-assign]


def while_written(name: str, step: Step) -> None:
    inner = folder.write_whole

    def write_whole(path: Path, lines: Iterable[str]) -> int:
        return inner(path, each(lines, step) if path.name == name else lines)

    vars(finishing)["write_whole"] = write_whole


POINTS: dict[str, Callable[[Death], None]] = {
    "a call is about to be sent": lambda death: around(OpenAITeacher, "send", before=death.now),
    "a reply has arrived": after_a_reply,
    "a call was settled": lambda death: around(Budget, "settle", after=death.now),
    "a commit is about to be made": lambda death: dying_connection(before=death.now),
    "an answer was put and not committed": lambda death: dying_connection(stored=death.now),
    "a commit is being made": lambda death: dying_connection(before=death.soon),
    "a commit was made and nobody was told": lambda death: dying_connection(after=death.now),
    "a row is about to be put": lambda death: around(Journal, "put_row", before=death.now),
    "the pool is being set": lambda death: dying_connection(pool=death.now),
    "the recipe is about to be renamed": lambda death: around_a_rename("recipe.toml", before=death.now),
    "the recipe was renamed": lambda death: around_a_rename("recipe.toml", after=death.now),
    "the dataset is being written": lambda death: while_written("dataset.jsonl", death.now),
    "the dataset was written": lambda death: around_a_rename("dataset.jsonl", after=death.now),
    "the eliminated are being written": lambda death: while_written("eliminated.jsonl", death.now),
    "the journal is being closed": lambda death: around(Journal, "__exit__", before=death.soon),
}

if __name__ == "__main__":
    _, number, point, times, *sys.argv[1:] = sys.argv
    POINTS[point](Death(signal.Signals[number], int(times)))
    main()
