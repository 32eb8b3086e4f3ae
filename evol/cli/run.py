"""`evol run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evol.cli.talk import say, show

if TYPE_CHECKING:
    from evol.engine import Outcome, Prepared
    from evol.forecast import Forecast
    from evol.recipe import Recipe

TEACHER = "Teacher for all roles, as openai:MODEL, local:FILE.gguf or ollama:MODEL. (`evol teachers` lists them.)"
WRITERS = "evolver and responder"
ROLES = "Teachers by role"
METHOD = "Method"
SAMPLING = "Sampling"
LOCAL = "Local model"
RUNNING = "Running"
BUDGET = "Budget"


def run(  # noqa: PLR0913 - one parameter for each option
    seed: Annotated[Path | None, typer.Option(help="Seed file: Alpaca's fields, JSON or JSON lines.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of evolution. [default: 4]")] = None,
    teacher: Annotated[str | None, typer.Option(help=TEACHER)] = None,
    evolver: Annotated[str | None, typer.Option(help="Teacher that rewrites.", rich_help_panel=ROLES)] = None,
    judge: Annotated[str | None, typer.Option(help="Teacher that judges.", rich_help_panel=ROLES)] = None,
    responder: Annotated[str | None, typer.Option(help="Teacher that answers.", rich_help_panel=ROLES)] = None,
    scorer: Annotated[str | None, typer.Option(help="Teacher that rates the seeds.", rich_help_panel=ROLES)] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. [default: outputs/NAME-OF-SEED-FILE]")] = None,
    limit: Annotated[int | None, typer.Option(help="Take the first N seeds only.")] = None,
    sample: Annotated[int | None, typer.Option(help="Put N of the kept rows into the dataset. [default: all]")] = None,
    strict: Annotated[bool | None, typer.Option("--strict", help="Stop at the first bad row of the seed file.")] = None,
    templates: Annotated[
        str | None, typer.Option(help="Template pack: a name or a folder. [default: wizardlm]", rich_help_panel=METHOD)
    ] = None,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="Weight of an operator, as breadth=2; repeatable.", rich_help_panel=METHOD),
    ] = None,
    words: Annotated[
        str | None, typer.Option(help="Words an in-depth step may add, as 10-20.", rich_help_panel=METHOD)
    ] = None,
    reanswer_seeds: Annotated[
        bool | None,
        typer.Option("--reanswer-seeds", help="Have the responder answer the seeds again.", rich_help_panel=METHOD),
    ] = None,
    score_seeds: Annotated[
        bool | None, typer.Option("--score-seeds", help="Have the scorer rate the seeds.", rich_help_panel=METHOD)
    ] = None,
    judge_by_probability: Annotated[
        bool | None,
        typer.Option(
            "--judge-by-probability",
            help="Read verdicts from the probabilities of the judge's tokens.",
            rich_help_panel=METHOD,
        ),
    ] = None,
    random_seed: Annotated[
        int | None, typer.Option(help="Decides every draw and the shuffle. [default: 42]", rich_help_panel=METHOD)
    ] = None,
    concurrency: Annotated[
        str | None,
        typer.Option(help="At most so many calls at once, at each teacher. [default: auto]", rich_help_panel=RUNNING),
    ] = None,
    rpm: Annotated[
        float | None, typer.Option(help="At most so many calls a minute, at each teacher.", rich_help_panel=RUNNING)
    ] = None,
    tpm: Annotated[
        float | None, typer.Option(help="At most so many tokens a minute, at each teacher.", rich_help_panel=RUNNING)
    ] = None,
    tries: Annotated[
        int | None, typer.Option(help="Tries of a call that fails, in all. [default: 5]", rich_help_panel=RUNNING)
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds a call may take. [default: 300, local models 3600]", rich_help_panel=RUNNING),
    ] = None,
    patience: Annotated[
        float | None,
        typer.Option(help="Seconds to wait for a teacher that is down. [default: 600]", rich_help_panel=RUNNING),
    ] = None,
    max_calls: Annotated[int | None, typer.Option(help="Stop before more calls.", rich_help_panel=BUDGET)] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Stop before more tokens, of prompts and replies.", rich_help_panel=BUDGET)
    ] = None,
    max_cost: Annotated[
        str | None, typer.Option(help="Stop before more US dollars are spent on the run.", rich_help_panel=BUDGET)
    ] = None,
    max_time: Annotated[
        str | None, typer.Option(help="Stop sending after this time: 90m, 8h.", rich_help_panel=BUDGET)
    ] = None,
    price_in: Annotated[
        str | None,
        typer.Option(help="Dollars for 1M tokens of prompts, where it is not known.", rich_help_panel=BUDGET),
    ] = None,
    price_out: Annotated[
        str | None,
        typer.Option(help="Dollars for 1M tokens of replies, where it is not known.", rich_help_panel=BUDGET),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help=f"Of {WRITERS}. [default: 1]", rich_help_panel=SAMPLING)
    ] = None,
    top_p: Annotated[float | None, typer.Option(help=f"Of {WRITERS}. [default: 0.9]", rich_help_panel=SAMPLING)] = None,
    top_k: Annotated[int | None, typer.Option(help=f"Of {WRITERS}.", rich_help_panel=SAMPLING)] = None,
    min_p: Annotated[float | None, typer.Option(help=f"Of {WRITERS}.", rich_help_panel=SAMPLING)] = None,
    repeat_penalty: Annotated[float | None, typer.Option(help=f"Of {WRITERS}.", rich_help_panel=SAMPLING)] = None,
    sampling_seed: Annotated[
        int | None, typer.Option(help=f"Of {WRITERS}; each call gets one drawn from it.", rich_help_panel=SAMPLING)
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option(help=f"Text that ends a reply of {WRITERS}; repeatable.", rich_help_panel=SAMPLING),
    ] = None,
    thinking: Annotated[
        bool | None, typer.Option("--thinking/--no-thinking", help="Let models think first.", rich_help_panel=SAMPLING)
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(help="Local model: tokens of one request and its reply. [default: 4096]", rich_help_panel=LOCAL),
    ] = None,
    slots: Annotated[
        int | None,
        typer.Option(help="Local model: requests at once. [default: 4 to 8, by the cores]", rich_help_panel=LOCAL),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Local model: threads. [default: llama.cpp's]", rich_help_panel=LOCAL)
    ] = None,
    gpu_layers: Annotated[
        int | None, typer.Option(help="Local model: layers on the GPU. [default: llama.cpp's]", rich_help_panel=LOCAL)
    ] = None,
    chat_template_file: Annotated[
        Path | None, typer.Option(help="Local model: a Jinja file instead of its own.", rich_help_panel=LOCAL)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="File of options. [default: evol.toml here]", rich_help_panel=RUNNING)
    ] = None,
    accept_drift: Annotated[
        bool, typer.Option("--accept-drift", help="Ask again what a changed recipe asks differently.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask again the calls that were given up.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Forecast calls and tokens, ask nothing.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Evolve a seed file. The same command again continues where it stopped and pays for nothing twice."""
    given = dict(locals())
    from evol.engine import execute, prepare
    from evol.errors import Interrupted
    from evol.recipe import resolve

    recipe = resolve(flags_of(given), config)
    if dry_run:
        recipe.check_teachers()
        say_forecast(prepare(recipe, teachers={}))
        return
    prepared = prepare(recipe)
    if not quiet:
        say_bad_rows(prepared)
    from evol.cli.progress import watch

    try:
        outcome = execute(prepared, accept_drift=accept_drift, retry_failed=retry_failed, watch=watch(quiet=quiet))
    except KeyboardInterrupt as stop:  # while no call was in flight
        raise Interrupted(f"interrupted; what was answered is safe in {recipe.folder}") from stop
    if not quiet:
        _say_outcome(outcome)


SAMPLING_FLAGS = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty")
LOCAL_FLAGS = ("context", "slots", "threads", "gpu_layers", "chat_template_file")
NO_OPTIONS = ("config", "accept_drift", "retry_failed", "dry_run", "quiet", "weight", "words", "thinking", "stop")


def flags_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `evol run`, by its parameters' names, as `resolve` takes them."""
    apart = (*SAMPLING_FLAGS, *LOCAL_FLAGS, *NO_OPTIONS, "sampling_seed")
    flags = {name: value for name, value in given.items() if name not in apart}
    sampling = {name: given[name] for name in SAMPLING_FLAGS}
    return flags | {
        "weights": _weights(given["weight"]),
        "words": _words(given["words"]),
        "sampling": _sampling(given["thinking"], **sampling, seed=given["sampling_seed"], stop=given["stop"] or None),
        "local": _given(**{name: given[name] for name in LOCAL_FLAGS}),
    }


def _given(**options: object) -> dict[str, object] | None:
    return {name: value for name, value in options.items() if value is not None} or None


def _sampling(thinking: bool | None, **options: object) -> dict[str, dict[str, object]] | None:
    """The sampling flags by role: thinking is for all, the rest for those who write."""
    from evol.recipe import ROLES, WRITERS

    sampling = {role: _given(enable_thinking=thinking, **(options if role in WRITERS else {})) for role in ROLES}
    return {role: given for role, given in sampling.items() if given} or None


def _weights(pairs: list[str] | None) -> dict[str, float] | None:
    from evol.errors import UsageError

    weights: dict[str, float] = {}
    for pair in pairs or []:
        name, _, value = pair.partition("=")
        try:
            weights[name.strip()] = float(value)
        except ValueError as error:
            raise UsageError(f"--weight {pair}: give an operator and a number, as breadth=2") from error
    return weights or None


def _words(text: str | None) -> tuple[int, int] | None:
    from evol.errors import UsageError

    if text is None:
        return None
    least, _, most = text.partition("-")
    try:
        return int(least), int(most)
    except ValueError as error:
        raise UsageError(f"--words {text}: give the least and the most, as 10-20") from error


def say_bad_rows(prepared: Prepared, shown: int = 5) -> None:
    """The first rows of the seed file that are passed over, on stderr."""
    bad = prepared.pool.bad_rows
    for line in bad[:shown]:
        say(f"passed over: {line}")
    if (more := prepared.pool.bad_count - len(bad[:shown])) > 0:
        say(f"passed over: {more:,} more rows; --strict stops at the first")


def say_forecast(prepared: Prepared) -> None:
    """What the run will ask for at most, on stdout."""
    from evol.folder import RunFolder
    from evol.forecast import ASSUMED, forecast
    from evol.review import load

    say_bad_rows(prepared)
    expected = forecast(prepared)
    recipe = prepared.recipe
    show(f"{len(prepared.pool.seeds):,} seeds, {recipe.rounds} rounds, at most:")
    show(f"  {'stage':10}{'calls':>12}{'prompt tokens':>16}{'completion tokens':>20}")
    for stage, calls in expected.calls.items():
        tokens = expected.tokens[stage]
        show(f"  {stage:10}{calls:>12,}{tokens.prompt_tokens:>16,}{tokens.completion_tokens:>20,}")
    total = expected.total_tokens
    show(f"  {'in all':10}{expected.total_calls:>12,}{total.prompt_tokens:>16,}{total.completion_tokens:>20,}")
    show(f"  {_said_cost(recipe, expected)}")
    show("Eliminated rows make it less, failed calls more.")
    show(f"Tokens are estimated: {ASSUMED}.")
    if RunFolder(recipe.folder).journal.is_file():
        answered = load(recipe.folder).count_answers()
        show(f"{recipe.folder} holds {answered:,} answers; those that are asked for again are not paid for again.")


def _said_cost(recipe: Recipe, expected: Forecast) -> str:
    from evol.accounts import listed_prices
    from evol.records import ROLE_OF_STAGE

    prices = listed_prices(recipe)
    roles = {stage: ROLE_OF_STAGE[stage] for stage, calls in expected.calls.items() if calls}
    if not any(map(recipe.spec, recipe.roles())):
        return "no teacher is named, so no price is known"
    if unknown := sorted({recipe.spec(role) or "no teacher" for role in roles.values() if role not in prices}):
        return f"what {', '.join(unknown)} costs is not known: --price-in and --price-out say it"
    cost = sum(prices[role].of(expected.tokens[stage]) for stage, role in roles.items())
    return f"at the prices known: ${cost:,.2f}"


def _say_outcome(outcome: Outcome) -> None:
    tally, finished, folder = outcome.tally, outcome.finished, outcome.folder
    say(f"{finished.kept:,} rows kept, {finished.eliminated:,} eliminated{_reasons(outcome)}")
    again = f", {tally.replayed:,} answered from the journal" if tally.replayed else ""
    failed = f", {tally.failed_tries:,} tries failed" if tally.failed_tries else ""
    say(
        f"cost: {tally.calls:,} calls{again}{failed}; {tally.paid.prompt_tokens:,} prompt and "
        f"{tally.paid.completion_tokens:,} completion tokens{_money(outcome)}; {outcome.seconds:.0f} s"
    )
    if tally.unpriced:
        say(f"what {', '.join(tally.unpriced)} costs is not known: --price-in and --price-out say it")
    if outcome.pool.bad_rows:
        say(f"{outcome.pool.bad_count:,} rows of the seed file were not usable")
    for notice in outcome.notices:
        say(f"note: {notice}")
    if outcome.demo:
        say("THESE ROWS WERE WRITTEN BY RULES, NOT BY A MODEL (demo teacher): they are not for training.")
    if finished.dataset:
        say(f"dataset: {folder.dataset} ({finished.dataset:,} rows)")
    else:
        say("no row was kept, so there is no dataset")
    say(f"next: evol stats {folder.path}")


def _money(outcome: Outcome) -> str:
    return f"; ${outcome.tally.cost:.4f}" if outcome.tally.cost else ""


def _reasons(outcome: Outcome) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in outcome.tally.eliminated.most_common())
    return f" ({reasons})" if reasons else ""
