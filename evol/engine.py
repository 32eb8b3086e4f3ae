"""A run from its recipe to its files: opened or resumed, its lineages scheduled, finished.

To resume is to run again: the journal answers what was asked before. There is no other path.
"""

from __future__ import annotations

import asyncio
import json
import platform
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

import tomli_w

import evol
from evol.ask import Ask, Limits
from evol.dataset.card import write_card
from evol.dataset.finish import Finished, finish
from evol.dataset.rows import from_json, to_json
from evol.errors import CannotWrite, DriftError, EvolError
from evol.folder import RunFolder, write_whole
from evol.journal import Journal
from evol.lineage import Settings, grow
from evol.packs import Pack, load_pack
from evol.recipe import Recipe
from evol.records import Evolution, Role
from evol.review import summarise
from evol.seeds import Pool, read_alpaca
from evol.stages.context import Context
from evol.stages.judge import JUDGEMENT_SCHEMA, SCORE_SCHEMA
from evol.tally import Tally
from evol.teachers import Teacher, teacher_named

LINEAGES_PER_SLOT = 2  # so many are alive for every call in flight: a commit never leaves a slot of the teacher empty
Watch = Callable[[Tally], AbstractContextManager[object]]


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `seconds` is this process's time, `notices` are the teachers' own remarks."""

    folder: RunFolder
    finished: Finished
    tally: Tally
    pool: Pool
    notices: tuple[str, ...]
    seconds: float
    demo: bool


@dataclass(frozen=True)
class Prepared:
    """A recipe made real: the seeds read, the pack checked, the teachers at hand. Nothing was asked or written."""

    recipe: Recipe
    pool: Pool
    pack: Pack
    teachers: Mapping[Role, Teacher]

    @property
    def parts(self) -> dict[str, str]:
        """Everything that decides what is asked, by name: a run's folder holds answers to one such recipe."""
        recipe, pack = self.recipe, self.pack
        parts = {
            "random seed": str(recipe.random_seed),
            "word budget": f"{pack.words[0]} to {pack.words[1]}",
            "weights": ", ".join(f"{name} {weight:g}" for name, weight in sorted(pack.weights.items())),
            "form of a judgement": _digest(JUDGEMENT_SCHEMA),
        }
        for name, operator in pack.operators.items():
            if operator.choices:
                parts[f"choices of operator {name}"] = json.dumps(operator.choices)
        for name, template in pack.templates.items():
            if name != "score" or recipe.score_seeds:
                parts[f"template {name}"] = template.digest
        for role in recipe.roles():
            parts[f"model of the {role}"] = self.teachers[role].model
            parts[f"sampling of the {role}"] = json.dumps(asdict(recipe.sampling_of(role)))
        if recipe.score_seeds:
            parts["form of a score"] = _digest(SCORE_SCHEMA)
        return parts


def prepare(recipe: Recipe, teachers: Mapping[Role, Teacher] | None = None) -> Prepared:
    """Reads and checks all that a run needs before it makes a folder or asks anything.

    `teachers` are taken instead of those the recipe names. Raises `UsageError`, `SeedError`, `TemplateError`,
    `TeacherError`.
    """
    if teachers is None:
        recipe.check_teachers()
    pack = load_pack(recipe.templates, recipe.words, recipe.weights)
    pool = read_alpaca(recipe.seed, strict=recipe.strict, limit=recipe.limit)
    return Prepared(recipe, pool, pack, teachers if teachers is not None else _named(recipe))


def execute(
    prepared: Prepared,
    *,
    accept_drift: bool = False,
    retry_failed: bool = False,
    watch: Watch = nullcontext,
) -> Outcome:
    """Makes the run, or what of it is missing. `watch` is entered with the tally while teachers are at work.

    Raises any `EvolError`; what was answered until then is in the journal.
    """
    started = time.monotonic()
    recipe, pool = prepared.recipe, prepared.pool
    folder = RunFolder(recipe.folder)
    tally = Tally(seeds=len(pool.seeds), rounds=recipe.rounds)
    with folder.locked(), Journal(folder.journal) as journal:
        about = f"{len(pool.seeds)} seeds of {recipe.seed}, {recipe.rounds} rounds, evol {evol.__version__}"
        _log(folder, f"started: {about}")
        _open(prepared, folder, journal, accept_drift=accept_drift)
        ask = Ask(
            journal,
            prepared.teachers,
            _digest(prepared.parts),
            tally,
            Limits(recipe.concurrency, recipe.tries, retry_failed),
        )
        try:
            with watch(tally):
                _complete(_grow_all(prepared, ask, journal, tally))
        except BaseException as error:
            _log(folder, f"stopped: {type(error).__name__}: {error}")
            raise
        view = journal.view()
        finished = finish(folder, map(from_json, view.rows(recipe.rounds)), recipe.random_seed, recipe.sample)
        stats = summarise(map(from_json, view.rows(recipe.rounds)), len(pool.seeds))
        notices = tuple(notice for teacher in _distinct(prepared.teachers) for notice in teacher.notices)
        demo = any(teacher.demo for teacher in prepared.teachers.values())
        write_card(folder, stats, finished, prepared.parts, demo=demo)
        for notice in notices:
            _log(folder, notice)
        _log(folder, f"finished: {finished.kept} kept, {finished.eliminated} eliminated, {tally.calls} calls")
    return Outcome(folder, finished, tally, pool, notices, time.monotonic() - started, demo)


def _open(prepared: Prepared, folder: RunFolder, journal: Journal, *, accept_drift: bool) -> None:
    """Refuses a folder that holds another recipe's answers; else writes down what this run is."""
    view = journal.view()
    before = view.meta()
    parts = prepared.parts
    if not accept_drift and view.has_answers():
        _refuse_drift(prepared, json.loads(before.get("recipe", "{}")), set(view.pool()), folder)
    made_with = {name: version(name) for name in ("openai", "jinja2", "pydantic")}
    resolved = prepared.recipe.model_dump(mode="json", exclude_none=True)
    versions = {"evol": evol.__version__, "python": platform.python_version(), **made_with}
    written = {"options": resolved, "decides": parts, "versions": versions}
    write_whole(folder.recipe, tomli_w.dumps(written).splitlines())
    meta = {"recipe": json.dumps(parts), "rounds": str(prepared.recipe.rounds)}
    journal.set_pool((seed.id for seed in prepared.pool.seeds), meta)


def _refuse_drift(prepared: Prepared, before: Mapping[str, str], pool_before: set[str], folder: RunFolder) -> None:
    changed = [
        f"{name} (was {before[name]}, is {now})" if len(before[name] + now) < 100 else name
        for name, now in prepared.parts.items()
        if name in before and before[name] != now
    ]
    missing = pool_before - {seed.id for seed in prepared.pool.seeds}
    if missing and prepared.recipe.limit is None:
        changed.append(f"seeds ({len(missing)} of this run are not in {prepared.recipe.seed})")
    if changed:
        raise DriftError(
            f"{folder.path} holds a run that was made with another recipe; changed: {'; '.join(changed)}. "
            "Name another folder with --out, or add --accept-drift to go on here and ask again what has changed"
        )


def _complete(work: Coroutine[Any, Any, None]) -> None:
    """Runs the work on an event loop of its own: in a thread where this one has a loop already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    try:
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(loop.run_until_complete, task)
            try:
                # In short waits: a long one may not hear of an interrupt before it ends.
                while not wait([done], timeout=0.2).done:
                    pass
            except KeyboardInterrupt:
                loop.call_soon_threadsafe(task.cancel)
                raise
            done.result()
    finally:
        loop.close()


async def _grow_all(prepared: Prepared, ask: Ask, journal: Journal, tally: Tally) -> None:
    """All lineages, without a barrier between rounds; those that come first in the pool go first."""
    recipe = prepared.recipe
    settings = Settings(recipe.rounds, recipe.reanswer_seeds, recipe.score_seeds)
    sampling = {role: recipe.sampling_of(role) for role in recipe.roles()}
    seeds = iter(prepared.pool.seeds)

    def keep(row: Evolution) -> None:
        tally.count_row(row)
        journal.put_row(row.seed_id, row.round, to_json(row))

    async def work() -> None:
        for seed in seeds:
            await grow(Context(ask, prepared.pack, sampling, recipe.random_seed, seed.order), seed, settings, keep)
            tally.seeds_done += 1

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(LINEAGES_PER_SLOT * recipe.concurrency, len(prepared.pool.seeds))):
                group.create_task(work())
        await journal.flush()
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    finally:
        for teacher in _distinct(prepared.teachers):
            await teacher.close()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to tell the user about: ours before others, for the others may follow from it."""
    ours = errors.subgroup(EvolError)
    error: BaseException = ours or errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _named(recipe: Recipe) -> dict[Role, Teacher]:
    """One teacher for each role, and one object for all roles that name the same."""
    made: dict[str, Teacher] = {}
    teachers: dict[Role, Teacher] = {}
    for role in recipe.roles():
        spec = recipe.spec(role)
        assert spec is not None, "checked by Recipe.check_teachers"
        if spec not in made:
            made[spec] = teacher_named(spec, recipe.keys, recipe.timeout)
        teachers[role] = made[spec]
    return teachers


def _distinct(teachers: Mapping[Role, Teacher]) -> list[Teacher]:
    return list({id(teacher): teacher for teacher in teachers.values()}.values())


def _digest(value: object) -> str:
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _log(folder: RunFolder, line: str) -> None:
    try:
        with folder.log.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n")
    except OSError as error:
        said = error.strerror or error
        raise CannotWrite(f"{folder.log}: {said}: make room, or choose another folder with --out") from error
