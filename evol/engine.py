"""A run from its recipe to its files: opened or resumed, its lineages scheduled, finished.

To resume is to run again: the journal answers what was asked before. There is no other path.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import version

import tomli_w

from evol.accounts import check_prices, last_end, open_budget, unpriced
from evol.ask import Ask, Limits
from evol.dataset.card import write_card
from evol.dataset.finish import Finished, finish
from evol.dataset.rows import from_json, to_json
from evol.drift import changes, decisive_parts, digest_of, missing_seeds
from evol.errors import CannotWrite, DriftError
from evol.folder import Lock, RunFolder, write_whole
from evol.journal import Journal, JournalView
from evol.limiter import Pace
from evol.lineage import Settings, grow
from evol.packs import Pack, load_pack
from evol.recipe import Recipe
from evol.records import Evolution, Role, Seed
from evol.review import summarise
from evol.schedule import Schedule
from evol.seeds import Pool, read_alpaca
from evol.stages.context import Context
from evol.tally import Tally
from evol.teachers import LocalModel, Teacher, parse_spec, teacher_named
from evol.version import __version__

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


def prepare(recipe: Recipe, teachers: Mapping[Role, Teacher] | None = None) -> Prepared:
    """Reads and checks all that a run needs before it makes a folder or asks anything.

    `teachers` are taken instead of those the recipe names. Raises `UsageError`, `SeedError`, `TemplateError`,
    `TeacherError`.
    """
    if teachers is None:
        recipe.check_teachers()
    pack = load_pack(recipe.templates, recipe.words, recipe.weights)
    pool = read_alpaca(recipe.seed, strict=recipe.strict, limit=recipe.limit)
    prepared = Prepared(recipe, pool, pack, teachers if teachers is not None else _named(recipe))
    check_prices(recipe, prepared.teachers.values())
    return prepared


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
    tally = Tally(
        seeds=len(pool.seeds),
        rounds=recipe.rounds,
        teachers=_distinct(prepared.teachers),
        unpriced=unpriced(recipe, prepared.teachers.values()),
    )
    folder.check_it_is_ours(recipe.seed)
    with _open_journal(folder) as (lock, journal), open_budget(recipe, tally.teachers, journal, lock) as budget:
        tally.opening = last_end(lock)
        for line in (*_first_lines(prepared), *tally.opening):
            folder.write_log(line)
        asked_under = _open(prepared, folder, journal, accept_drift=accept_drift, retry_failed=retry_failed)
        ask = Ask(journal, prepared.teachers, asked_under, tally, _limits(recipe, retry_failed=retry_failed), budget)
        try:
            with watch(tally):
                _schedule(prepared, ask, journal, tally, folder).complete()
        except BaseException as error:
            with suppress(CannotWrite):  # the reason it stopped is what counts
                folder.write_log(f"stopped: {type(error).__name__}: {error}")
            raise
        finished = _finish(prepared, folder, journal)
    notices = (*tally.notices, *budget.notices, *_unrated(recipe, tally))
    for line in (*notices, f"finished: {finished.kept} kept, {finished.eliminated} eliminated, {tally.calls} calls"):
        folder.write_log(line)
    return Outcome(folder, finished, tally, pool, notices, time.monotonic() - started, _is_demo(prepared))


def _first_lines(prepared: Prepared) -> list[str]:
    recipe, pool = prepared.recipe, prepared.pool
    about = f"{len(pool.seeds)} seeds of {recipe.seed}, {recipe.rounds} rounds, evol {__version__}"
    lines = [f"started: {about}", *(f"passed over: {line}" for line in pool.bad_rows)]
    if (more := pool.bad_count - len(pool.bad_rows)) > 0:
        lines.append(f"passed over: {more} more rows")
    return lines


def _open(prepared: Prepared, folder: RunFolder, journal: Journal, *, accept_drift: bool, retry_failed: bool) -> str:
    """Refuses a folder that holds another recipe's answers, else writes down what this run is.

    Returns what its questions are asked under: the digest of the recipe, and of how often a change of answers was
    accepted. After that an answer given to another question is no sign of anything gone wrong.
    """
    recipe, view = prepared.recipe, journal.view()
    before = view.meta()
    known = _known_parts(before)
    parts = decisive_parts(recipe, prepared.pack, prepared.teachers)
    if not accept_drift:
        refuse_drift(prepared, folder, view)
    generation = str(int(before.get("generation", 0)) + (accept_drift or retry_failed))
    asked_under = digest_of([parts, generation])
    _write_recipe(prepared, folder, parts)
    meta = {"recipe": json.dumps(known | parts), "rounds": str(recipe.rounds), "generation": generation}
    journal.set_pool(
        (seed.id for seed in prepared.pool.seeds),
        meta | {"asked under": asked_under},
        forget_rows=before.get("asked under") != asked_under,
    )
    return asked_under


def refuse_drift(prepared: Prepared, folder: RunFolder, view: JournalView) -> None:
    """Raises `DriftError` where the folder holds answers to another recipe, or to seeds that are not there any more."""
    recipe = prepared.recipe
    if not view.has_answers():
        return
    changed = changes(_known_parts(view.meta()), decisive_parts(recipe, prepared.pack, prepared.teachers))
    pool_now = [seed.id for seed in prepared.pool.seeds]
    if missing := missing_seeds(view.pool(), pool_now, limited=recipe.limit is not None):
        changed.append(f"seeds ({missing} of this run are not in {recipe.seed}, or beyond --limit)")
    if changed:
        raise DriftError(
            f"{folder.path} holds a run that was made with another recipe; changed: {'; '.join(changed)}. "
            "Name another folder with --out, or add --accept-drift to go on here and ask again what has changed"
        )


def _known_parts(meta: Mapping[str, str]) -> dict[str, str]:
    known: dict[str, str] = json.loads(meta.get("recipe", "{}"))
    return known


def _write_recipe(prepared: Prepared, folder: RunFolder, parts: dict[str, str]) -> None:
    versions = {name: version(name) for name in ("openai", "jinja2", "pydantic")}
    written = {
        "options": prepared.recipe.model_dump(mode="json", exclude_none=True),
        "decides": parts,
        "versions": {"evol": __version__, "python": platform.python_version(), **versions},
    }
    write_whole(folder.recipe, tomli_w.dumps(written).splitlines())


def _finish(prepared: Prepared, folder: RunFolder, journal: Journal) -> Finished:
    """Writes the files that are derived from the rows."""
    recipe, view = prepared.recipe, journal.view()
    finished = finish(folder, map(from_json, view.rows(recipe.rounds)), recipe.random_seed, recipe.sample)
    stats = summarise(map(from_json, view.rows(recipe.rounds)), len(prepared.pool.seeds))
    parts = decisive_parts(recipe, prepared.pack, prepared.teachers)
    write_card(folder, stats, finished, parts, demo=_is_demo(prepared))
    return finished


def _is_demo(prepared: Prepared) -> bool:
    return any(teacher.demo for teacher in prepared.teachers.values())


@contextmanager
def _open_journal(folder: RunFolder) -> Iterator[tuple[Lock, Journal]]:
    """The run's journal, and the lock that keeps others out of it.

    A journal that did not close well, or did not open, leaves the lock as of a process that ended without a word: so
    the next one looks through the journal too, and counts what was in flight.
    """
    with folder.locked() as lock:
        journal = Journal(folder.journal, check=lock.unclean)
        try:
            with journal:
                yield lock, journal
        finally:
            if not journal.failed:
                lock.settle()


def _schedule(prepared: Prepared, ask: Ask, journal: Journal, tally: Tally, folder: RunFolder) -> Schedule:
    def keep(row: Evolution) -> None:
        tally.count_row(row)
        journal.put_row(row.seed_id, row.round, to_json(row))

    def grown(seed: Seed) -> Coroutine[None, None, None]:
        return _grow(prepared, ask, seed, keep)

    seeds, seconds = prepared.pool.seeds, prepared.recipe.max_time
    return Schedule(ask, journal, tally, seeds, grown, str(folder.path), seconds)


def _unrated(recipe: Recipe, tally: Tally) -> Iterator[str]:
    if recipe.judge_by_probability and tally.unrated:
        yield f"judged rows without a difficulty: {tally.unrated:,}; their tokens' probabilities do not tell it"


async def _grow(prepared: Prepared, ask: Ask, seed: Seed, keep: Callable[[Evolution], None]) -> None:
    recipe = prepared.recipe
    settings = Settings(recipe.rounds, recipe.reanswer_seeds, recipe.score_seeds)
    sampling = {role: recipe.sampling_of(role) for role in recipe.roles()}
    context = Context(ask, prepared.pack, sampling, recipe.random_seed, seed.order, recipe.judge_by_probability)
    await grow(context, seed, settings, keep)


def _limits(recipe: Recipe, *, retry_failed: bool) -> Limits:
    concurrency = None if recipe.concurrency == "auto" else recipe.concurrency
    return Limits(Pace(concurrency, recipe.rpm, recipe.tpm), recipe.tries, recipe.patience, retry_failed)


def _named(recipe: Recipe) -> dict[Role, Teacher]:
    """One teacher for each role, and one object for all roles that name the same."""
    made: dict[object, Teacher] = {}  # by what is named, however it was written
    teachers: dict[Role, Teacher] = {}
    for role in recipe.roles():
        spec = recipe.spec(role)
        assert spec is not None, "checked by Recipe.check_teachers"
        parsed = parse_spec(spec)
        named = parsed.identity if isinstance(parsed, LocalModel) else parsed
        if named not in made:
            made[named] = teacher_named(spec, recipe.keys, recipe.timeout, recipe.local)
        teachers[role] = made[named]
    return teachers


def _distinct(teachers: Mapping[Role, Teacher]) -> list[Teacher]:
    return list({id(teacher): teacher for teacher in teachers.values()}.values())
