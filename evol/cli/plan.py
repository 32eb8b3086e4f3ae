"""`evol plan`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from evol.cli.run import flags_of, run, say_bad_rows, say_forecast
from evol.cli.talk import show

if TYPE_CHECKING:
    from evol.engine import Prepared
    from evol.pilot import Estimate, Interval

AUTO = 16  # calls at once, for a time, where nobody says how many: what a run begins with
OF_RUN = frozenset({"accept_drift", "retry_failed", "dry_run"})  # options that mean nothing here
Pilot = Annotated[int, typer.Option(help="Make so many seeds for real, to reckon from; 0 asks nothing.", min=0)]


def _with_options_of_run(command: Callable[..., None]) -> Callable[..., None]:
    """The command with all options of `evol run` that mean something to it, as if they were written out there."""
    hints = get_type_hints(run, include_extras=True)
    options = [
        option.replace(annotation=hints[name])
        for name, option in inspect.signature(run).parameters.items()
        if name not in OF_RUN
    ]
    pilot = inspect.Parameter("pilot", inspect.Parameter.KEYWORD_ONLY, default=20, annotation=Pilot)
    command.__signature__ = inspect.Signature([*options, pilot])  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in [*options, pilot]}
    return command


@_with_options_of_run
def plan(*, pilot: int, quiet: bool, **given: Any) -> None:  # noqa: ANN401 - as the options of run come
    """Forecast what a run takes: calls, tokens, money, time. With a teacher, from a pilot that is of the run."""
    from evol.cli.progress import watch
    from evol.engine import prepare
    from evol.pilot import run_pilot
    from evol.recipe import resolve

    recipe = resolve(flags_of(given), given["config"])
    if not pilot or not any(map(recipe.spec, recipe.roles())):
        say_forecast(prepare(recipe, teachers={}))
        return
    prepared = prepare(recipe)
    if not quiet:
        say_bad_rows(prepared)
    _say_estimate(prepared, run_pilot(prepared, pilot, watch(quiet=quiet)))


def _say_estimate(prepared: Prepared, estimate: Estimate) -> None:
    at_once = AUTO if prepared.recipe.concurrency == "auto" else prepared.recipe.concurrency
    show(
        f"{estimate.seeds:,} seeds, {prepared.recipe.rounds} rounds, from {estimate.pilot} seeds that were made; "
        "in nine of ten cases"
    )
    _say_line("rows kept", estimate.kept, "{:,.0f}")
    _say_line("calls", estimate.calls, "{:,.0f}")
    _say_line("prompt tokens", estimate.prompt_tokens, "{:,.0f}")
    _say_line("completion tokens", estimate.completion_tokens, "{:,.0f}")
    if estimate.cost is None:
        show("  cost               not known: give --price-in and --price-out")
    else:
        _say_line("dollars", estimate.cost, "{:,.2f}")
    _say_line(f"hours, {at_once} at once", estimate.seconds, "{:,.2f}", 1 / 3600 / at_once)
    show(f"What was made is kept in {prepared.recipe.folder}: `evol run` with the same options goes on from there.")


def _say_line(name: str, total: Interval, form: str, scale: float = 1.0) -> None:
    mean, low, high = (form.format(value * scale) for value in (total.mean, total.low, total.high))
    show(f"  {name:18}{mean:>14}   between {low} and {high}")
