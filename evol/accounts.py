"""The money side of a run: what its models cost, what it may spend, and what was spent on it before."""

from __future__ import annotations

from collections.abc import Iterable

from evol.ask import SPENT
from evol.budget import Budget, Caps, Spending
from evol.errors import UsageError
from evol.folder import Lock
from evol.journal import Journal, JournalView
from evol.recipe import Recipe
from evol.records import Price, Role
from evol.teachers import Teacher, list_price, read_usage


def prices_of(recipe: Recipe, teachers: Iterable[Teacher]) -> dict[str, Price]:
    """By model. Those of the recipe come first, then those that are known, then those for all others."""
    prices: dict[str, Price] = {}
    for teacher in teachers:
        own = recipe.prices.get(teacher.model)
        if price := Price(*own) if own else teacher.price or _others(recipe):
            prices[teacher.model] = price
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
    return tuple(dict.fromkeys(teacher.model for teacher in teachers if teacher.model not in prices))


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


def open_budget(recipe: Recipe, teachers: Iterable[Teacher], journal: Journal, lock: Lock) -> tuple[Budget, list[str]]:
    """The run's budget with what was spent before, and what is to be said of that.

    A process that dies without a word leaves a note in the lock: what was in flight then counts at its worst.
    """
    before, said = Spending.from_json(journal.view().meta().get(SPENT, "")), []
    if lock.unclean:
        in_flight, _, spent = lock.left.partition(" ")
        before = max(before, Spending.from_json(spent), key=lambda spending: spending.calls)
        at_most = f", with {in_flight} calls in flight: so many, at most, are paid for again" if in_flight else ""
        said.append(f"the last process at work in this run ended without a word{at_most}")
        journal.put_meta(SPENT, before.to_json())  # the note goes when this process ends, whatever it has done by then
    caps = Caps(recipe.max_calls, recipe.max_tokens, recipe.max_cost)

    def note(in_flight: int, spent: Spending) -> None:
        lock.note(f"{in_flight} {spent.to_json()}")

    return Budget(caps, prices_of(recipe, teachers), before, note), said


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
