"""From the rows of a run to its files: merged, shuffled, sampled, written whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evol import chance
from evol.dataset.rows import dataset_line, to_json
from evol.folder import RunFolder, write_whole
from evol.records import Evolution


@dataclass(frozen=True, slots=True)
class Finished:
    """How many rows are in the dataset, of how many kept ones, and how many were eliminated."""

    dataset: int
    kept: int
    eliminated: int


def finish(folder: RunFolder, rows: Iterable[Evolution], random_seed: int, sample: int | None = None) -> Finished:
    """Writes dataset.jsonl (all kept rows shuffled, or the first `sample` of them) and eliminated.jsonl."""
    kept: list[tuple[int, str]] = []  # where the shuffle puts a row, and its line
    fallen: list[str] = []
    for row in rows:
        if row.kept:
            kept.append((chance.bits(random_seed, row.id, "shuffle"), dataset_line(row)))
        else:
            fallen.append(to_json(row))
    kept.sort()
    written = write_whole(folder.dataset, (line for _, line in kept[:sample]))
    write_whole(folder.eliminated, fallen)
    return Finished(written, len(kept), len(fallen))
