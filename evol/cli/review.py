"""`evol stats` and `evol show`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evol.cli.talk import say
from evol.cli.talk import show as show_line

if TYPE_CHECKING:
    from evol.review import Group, Run

RunFolderArgument = Annotated[Path, typer.Argument(help="The run's folder, as outputs/alpaca.", metavar="RUN")]
LINEAGES_SHOWN = 20


def stats(
    run: RunFolderArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Figures of a run by round and operator: kept, eliminated by reason, difficulty, words, tokens."""
    from evol.review import load
    from evol.review.stats import PAPER_DIFFICULTY

    figures = load(run).stats()
    if as_json:
        typer.echo(json.dumps(figures.as_dict(), indent=2))
        return
    total = figures.total
    typer.echo(
        f"{figures.seeds:,} seeds, {total.attempts:,} rows: "
        f"{total.kept:,} kept, {total.eliminated.total():,} eliminated"
    )
    typer.echo()
    by_round = {str(number): group for number, group in sorted(figures.by_round.items())}
    _print_groups("round", by_round, {str(number): mean for number, mean in PAPER_DIFFICULTY.items()})
    typer.echo()
    _print_groups("operator", dict(sorted(figures.by_operator.items())), {})


def show(
    run: RunFolderArgument,
    row_id: Annotated[
        str | None, typer.Argument(help="A seed's id, a row's, or the start of one.", metavar="ID")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List every lineage.")] = False,
) -> None:
    """Show a lineage as a tree with what changed from parent to child; without an ID, list the lineages."""
    from evol.review import load

    loaded = load(run)
    if row_id is None:
        _list_lineages(loaded, None if every else LINEAGES_SHOWN)
        return
    from evol.review.tree import draw_tree

    for line in draw_tree(loaded.lineage(row_id), colour=_has_colour()):
        typer.echo(line)  # printable but for the colours, which are ours


def _print_groups(name: str, groups: dict[str, Group], paper: Mapping[str, float]) -> None:
    beside = f"{'(paper)':>9}" if paper else ""
    head = f"{name:20}{'rows':>8}{'kept':>8}{'difficulty':>12}{beside}{'words added':>13}{'tokens/kept':>13}"
    typer.echo(f"{head}  eliminated")
    for key, group in groups.items():
        beside = f"{_mean(paper.get(key)):>9}" if paper else ""
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in group.eliminated.most_common())
        show_line(
            f"{key:20}{group.attempts:>8,}{group.kept:>8,}{_mean(group.mean_difficulty):>12}{beside}"
            f"{_mean(group.mean_words_added, 1):>13}{_mean(group.tokens_per_kept, 0):>13}  {reasons}".rstrip()
        )


def _has_colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _mean(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _list_lineages(run: Run, limit: int | None) -> None:
    from evol.review.tree import list_lineages

    for line in list_lineages(run.rows(), limit):
        show_line(line)
    seeds = run.stats().seeds
    if limit is not None and seeds > limit:
        say(f"{limit} of {seeds:,} lineages; --all lists every one")
    say(f"evol show {run.path} ID shows one of them")
