"""What a run will cost, from a few of its seeds made for real: they are of the run, and not paid for again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist, fmean, stdev

from evol import chance
from evol.accounts import prices_of, unpriced
from evol.dataset.rows import from_json
from evol.engine import Prepared, Watch, execute, refuse_drift
from evol.errors import UsageError
from evol.folder import RunFolder
from evol.journal import JournalView
from evol.records import ROLE_OF_STAGE, Price, Role, Seed, Usage
from evol.teachers import read_usage

CONFIDENCE = 0.9  # of the interval
LEAST = 5  # seeds to reckon from
STAGES: Mapping[str, Role] = {str(stage): role for stage, role in ROLE_OF_STAGE.items()}


@dataclass(frozen=True, slots=True)
class Interval:
    """A total for the whole pool, and between what it lies in nine of ten cases."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of a whole run, from a pilot of so many of its seeds.

    `seconds` are those of all calls one after the other. `cost` is in US dollars, None where prices are not known.
    """

    seeds: int
    pilot: int
    calls: Interval
    prompt_tokens: Interval
    completion_tokens: Interval
    seconds: Interval
    kept: Interval
    cost: Interval | None


@dataclass(slots=True)
class _Use:
    """What one seed came to."""

    calls: float = 0
    prompt_tokens: float = 0
    completion_tokens: float = 0
    seconds: float = 0
    kept: float = 0
    cost: float = 0
    rows: int = 0
    told: bool = True  # the tokens of all its calls

    def add(self, tries: int, seconds: float, used: Usage | None, price: Price | None) -> None:
        """One call, with all its tries."""
        self.calls += tries
        self.seconds += seconds
        self.told = self.told and used is not None
        used = used or Usage()
        self.prompt_tokens += used.prompt_tokens
        self.completion_tokens += used.completion_tokens
        self.cost += float(price.of(used)) if price else 0.0


def run_pilot(prepared: Prepared, size: int, watch: Watch) -> Estimate:
    """Makes the rows of some seeds, drawn from all of the pool, and reckons from them.

    Where the run went beyond a pilot already nothing is made: its seeds that are through tell as much. Raises as
    `execute` does, and `UsageError` where too few are.
    """
    pool, folder = prepared.pool, RunFolder(prepared.recipe.folder)
    seeds = drawn(pool.seeds, max(size, LEAST), prepared.recipe.random_seed)
    if not _is_begun(folder, seeds):
        execute(replace(prepared, pool=replace(pool, seeds=seeds)), watch=watch)
    with JournalView(folder.journal) as view:
        refuse_drift(prepared, folder, view)
        uses = _uses(view, pool.seeds, prepared)
    if len(uses) < min(LEAST, len(pool.seeds)):
        raise UsageError(
            f"{folder.path}: too few of its seeds are through {prepared.recipe.rounds} rounds to reckon from: go on "
            "with `evol run`, or name another folder with --out"
        )

    def total(name: str) -> Interval:
        return interval([getattr(use, name) for use in uses], len(pool.seeds))

    known = not unpriced(prepared.recipe, prepared.teachers.values()) and all(use.told for use in uses)
    return Estimate(
        seeds=len(pool.seeds),
        pilot=len(uses),
        calls=total("calls"),
        prompt_tokens=total("prompt_tokens"),
        completion_tokens=total("completion_tokens"),
        seconds=total("seconds"),
        kept=total("kept"),
        cost=total("cost") if known else None,
    )


def _is_begun(folder: RunFolder, seeds: Iterable[Seed]) -> bool:
    """Whether there is a run in the folder that has more than a pilot of these seeds."""
    if not folder.journal.is_file():
        return False
    with JournalView(folder.journal) as view:
        return not set(view.pool()) <= {seed.id for seed in seeds}


def drawn(seeds: tuple[Seed, ...], size: int, random_seed: int) -> tuple[Seed, ...]:
    """So many of the seeds, each with the same chance, the same every time; in the order of the pool."""
    by_chance = sorted(seeds, key=lambda seed: chance.bits(random_seed, seed.id, "pilot"))
    return tuple(sorted(by_chance[:size], key=lambda seed: seed.order))


def interval(values: list[float], population: int) -> Interval:
    """The total over a population from a sample of it, by Student's distribution (Cornish and Fisher's first term)."""
    count, mean = len(values), fmean(values)
    if count < 2 or count == population:
        return Interval(mean * population, mean * population, mean * population)
    normal = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    student = normal + (normal**3 + normal) / (4 * (count - 1))
    error = student * stdev(values) / sqrt(count) * sqrt(1 - count / population) * population
    return Interval(mean * population, max(sum(values), mean * population - error), mean * population + error)


def _uses(view: JournalView, seeds: Iterable[Seed], prepared: Prepared) -> list[_Use]:
    """Of the seeds that are through all rounds."""
    rounds, prices = prepared.recipe.rounds, _role_prices(prepared)
    uses: dict[str, _Use] = {}
    for line in view.rows(rounds):
        row = from_json(line)
        use = uses.setdefault(row.seed_id, _Use())
        use.rows += 1
        use.kept += row.kept
    of_pool = {seed.id for seed in seeds}
    through = {seed_id: use for seed_id, use in uses.items() if use.rows == rounds + 1 and seed_id in of_pool}
    for place, body, tries, seconds in view.calls():
        seed_id, number, _, stage, _ = place.split("/")
        if seed_id in through and int(number) <= rounds:
            through[seed_id].add(tries, seconds, read_usage(body), prices.get(STAGES[stage]))
    return list(through.values())


def _role_prices(prepared: Prepared) -> dict[Role, Price]:
    prices = prices_of(prepared.recipe, prepared.teachers.values())
    return {role: prices[teacher] for role, teacher in prepared.teachers.items() if teacher in prices}
