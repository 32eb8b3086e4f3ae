"""The money side of a run: what its models cost, what it may spend, and what was spent on it before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from evol.ask import SPENT
from evol.budget import Budget, Caps, Spending
from evol.errors import UsageError
from evol.folder import Lock
from evol.journal import Journal, JournalView
from evol.recipe import Recipe
from evol.records import Price, Role
from evol.teachers import Teacher, list_price, read_usage

BOOT = Path("/proc/sys/kernel/random/boot_id")


def prices_of(recipe: Recipe, teachers: Iterable[Teacher]) -> dict[Teacher, Price]:
    """Those of the recipe come first, then those that are known, then those for all others."""
    prices: dict[Teacher, Price] = {}
    for teacher in teachers:
        own = recipe.prices.get(teacher.model)
        if price := Price(*own) if own else teacher.price or _others(recipe):
            prices[teacher] = price
    return prices


def _others(recipe: Recipe) -> Price | None:
    """The price of models whose price is not known."""
    if recipe.price_in is None or recipe.price_out is None:
        return None
    return Price(recipe.price_in, recipe.price_out)


def listed_prices(recipe: Recipe) -> dict[Role, Price]:
    """By role, before any teacher is there; roles of models whose price nobody knows are left out."""
    prices: dict[Role, Price] = {}
    for role in recipe.roles():
        if spec := recipe.spec(role):
            listed = list_price(spec, recipe.prices)
            if price := listed or _others(recipe):
                prices[role] = price
    return prices


def unpriced(recipe: Recipe, teachers: Iterable[Teacher]) -> tuple[str, ...]:
    """The models whose price nobody knows."""
    teachers = list(teachers)
    prices = prices_of(recipe, teachers)
    return tuple(dict.fromkeys(teacher.model for teacher in teachers if teacher not in prices))


def check_prices(recipe: Recipe, teachers: Iterable[Teacher]) -> None:
    """Raises `UsageError` where money is capped and nobody knows what is paid."""
    if (recipe.price_in is None) != (recipe.price_out is None):
        raise UsageError("--price-in and --price-out go together: dollars for a million tokens of prompts and replies")
    unknown = unpriced(recipe, teachers)
    if recipe.max_cost is not None and unknown:
        raise UsageError(
            f"--max-cost needs prices, and that of {', '.join(unknown)} is not known: give --price-in and --price-out, "
            "in dollars for a million tokens, or [prices] in evol.toml"
        )


@contextmanager
def open_budget(recipe: Recipe, teachers: Iterable[Teacher], journal: Journal, lock: Lock) -> Iterator[Budget]:
    """The run's budget, with what was spent before; what is spent inside is in the journal when it closes.

    After a process that died without a word, what its note says was in flight counts at its worst.
    """
    before = Spending.from_json(journal.view().meta().get(SPENT, ""))
    noted = Note.from_text(lock.left).spent if lock.unclean else before
    before = max(before, noted, key=lambda spending: spending.calls)
    journal.put_meta(SPENT, before.to_json())  # the note goes when this process ends, whatever it has done by then
    caps = Caps(recipe.max_calls, recipe.max_tokens, recipe.max_cost)

    def note(in_flight: int, spent: Spending) -> None:
        lock.note(Note(in_flight, spent, boot()).to_text())

    budget = Budget(caps, prices_of(recipe, teachers), before, note)
    try:
        yield budget
    finally:
        journal.put_meta(SPENT, budget.worst.to_json())


def last_end(lock: Lock) -> list[str]:
    """What is to be said of the process before this one, a line or none."""
    if not lock.unclean:
        return []
    note = Note.from_text(lock.left)
    if not note.in_flight:
        return ["the last process at work in this run ended without a word"]
    if note.boot != boot():  # the note is not synced with every call
        return [
            f"the machine went down while this run was at work, with {note.in_flight} calls in flight by its last "
            "note: about so many are paid for again"
        ]
    return [
        f"the last process at work in this run ended without a word, with {note.in_flight} calls in flight: so many, "
        "at most, are paid for again"
    ]


@dataclass(frozen=True, slots=True)
class Note:
    """What is written down with every call, for whoever comes after a sudden end."""

    in_flight: int = 0
    spent: Spending = field(default_factory=Spending)
    boot: str = ""

    def to_text(self) -> str:
        """On one line."""
        return f"{self.in_flight} {self.boot or '-'} {self.spent.to_json()}"

    @staticmethod
    def from_text(text: str) -> Note:
        """What `to_text` wrote; nothing for anything else."""
        in_flight, _, rest = text.partition(" ")
        started, _, spent = rest.partition(" ")
        return Note(int(in_flight), Spending.from_json(spent), started) if in_flight.isdecimal() else Note()


@cache
def boot() -> str:
    """Which start of the machine this is, in a few letters; "-" where that is not told (it is on Linux)."""
    try:
        return BOOT.read_text(encoding="ascii")[:8]
    except (OSError, ValueError):
        return "-"


def account_of(view: JournalView) -> dict[str, str]:
    """What a journal notes of what was spent, reckoned from its answers: calls and tokens, but no money.

    It is the least that was spent: tries that failed on the way to an answer count as calls, and as no tokens.
    """
    calls = tokens = 0
    for _, body, tries, _ in view.calls():
        usage = read_usage(body)
        calls += tries
        tokens += usage.total if usage else 0
    return {SPENT: Spending(calls, tokens).to_json()}
