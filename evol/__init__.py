"""evol: Evol-Instruct, complete and practical.

import evol

run = evol.run("alpaca.json", rounds=4, teacher="openai:gpt-5-mini")  # what `evol run` does
run = evol.load("outputs/alpaca")                                     # a run that was made before
run.frame(), run.frame(eliminated=True), run.lineage("s0123")
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evol.version import __version__

if TYPE_CHECKING:
    from evol.review import Run
    from evol.teachers import Teacher

__all__ = ["__version__", "load", "run"]


def run(
    seed: str | PathLike[str],
    *,
    teacher: str | Teacher | None = None,
    accept_drift: bool = False,
    retry_failed: bool = False,
    **options: Any,  # noqa: ANN401 - checked by pydantic, with the option's name in the error
) -> Run:
    """Makes the run, or what of it is missing, as `evol run` does; returns it for looking at.

    `teacher` is a name as after `--teacher`, or a `Teacher` for all roles. The other options are those of `evol run`
    with underscores (`rounds`, `out`, `limit`, `concurrency`, ...); `sampling` and `local` are tables, as in evol.toml.
    Works inside of a notebook too. Raises `EvolError`, and `KeyboardInterrupt` where it is interrupted.
    """
    from evol.engine import execute, prepare
    from evol.errors import Interrupted, UsageError
    from evol.recipe import ROLES, resolve
    from evol.review import load as load_run

    if teacher is None or isinstance(teacher, str):
        prepared = prepare(resolve({"seed": Path(seed), "teacher": teacher, **options}))
    else:
        if roles := sorted(set(options) & set(ROLES)):
            raise UsageError(f"a teacher object takes all roles: leave out {', '.join(roles)}, or name all by text")
        recipe = resolve({"seed": Path(seed), "teacher": teacher.model, **options})
        prepared = prepare(recipe, dict.fromkeys(ROLES, teacher))
    try:
        outcome = execute(prepared, accept_drift=accept_drift, retry_failed=retry_failed)
    except Interrupted as interrupted:
        # As Python says it: whoever catches errors, to go on with another run, does not mean this.
        raise KeyboardInterrupt(str(interrupted)) from interrupted
    return load_run(outcome.folder.path)


def load(path: str | PathLike[str]) -> Run:
    """The run in this folder, finished or not. Raises `RunMissing`."""
    from evol.review import load as load_run

    return load_run(path)
