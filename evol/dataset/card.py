"""The README.md of a run's folder: what the dataset is and how it was made, also for `datasets` (its `configs`)."""

from __future__ import annotations

from collections.abc import Mapping

from evol.dataset.finish import Finished
from evol.folder import RunFolder, write_whole
from evol.review.stats import Group, Stats


def write_card(folder: RunFolder, stats: Stats, finished: Finished, parts: Mapping[str, str], *, demo: bool) -> None:
    """Writes the card. Raises `CannotWrite`."""
    lines = [
        "---",
        "configs:",
        "- config_name: default",
        "  data_files: dataset.jsonl",
        "tags: [evol-instruct, synthetic]",
        "---",
        f"# {folder.path.resolve().name}",
        "",
        "Instructions evolved by [Evol-Instruct](https://arxiv.org/abs/2304.12244) with `evol`.",
        *(["", "**Written by the demo teacher: rules, not a model. Not for training.**"] if demo else []),
        "",
        f"`dataset.jsonl` holds {finished.dataset:,} of {finished.kept:,} kept rows; "
        f"{finished.eliminated:,} rows were eliminated, each with its reason, in `eliminated.jsonl`.",
        "",
        *_table("round", {str(number): group for number, group in sorted(stats.by_round.items())}),
        "",
        *_table("operator", dict(sorted(stats.by_operator.items()))),
        "",
        "Made with:",
        "",
        *(f"- {name}: `{value}`" for name, value in parts.items()),
    ]
    write_whole(folder.card, lines)


def _table(name: str, groups: Mapping[str, Group]) -> list[str]:
    head = [f"| {name} | attempts | kept | mean difficulty |", "|---|---:|---:|---:|"]
    return head + [
        f"| {key} | {group.attempts:,} | {group.kept:,} | {_mean(group.mean_difficulty)} |"
        for key, group in groups.items()
    ]


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
