"""A run that was made, or is being made, open for looking at."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evol.dataset.rows import ALL_FIELDS, DATASET_FIELDS, from_json
from evol.errors import RunMissing
from evol.folder import RunFolder
from evol.journal import JournalView
from evol.records import Evolution
from evol.review.stats import Stats, summarise

if TYPE_CHECKING:
    import pandas

FLOATS = ("difficulty", "no_gain_probability")
WHOLE = ("round", "words_added", "prompt_tokens", "completion_tokens")


class Run:
    """A run's rows as they are in its journal now. `path` is its folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._folder = RunFolder(path).existing()
        except (OSError, ValueError) as error:  # a name that no folder can have
            raise RunMissing(f"{path}: there is no run here: {getattr(error, 'strerror', None) or error}") from error

    def rows(self, seed_id: str | None = None) -> Iterator[Evolution]:
        """All rows settled so far, or those of one seed: in the order of the pool, then of the rounds."""
        with JournalView(self._folder.journal) as journal:
            rounds = int(journal.meta().get("rounds", 0))
            yield from map(from_json, journal.rows(rounds, seed_id))

    def frame(self, *, eliminated: bool = False) -> pandas.DataFrame:
        """The kept rows as a pandas frame with the columns of dataset.jsonl, or the eliminated ones with their verdict.

        Texts are strings without nulls, `difficulty` and `no_gain_probability` are floats (NaN where nobody scored),
        counts are integers.
        """
        import pandas

        names = ALL_FIELDS if eliminated else DATASET_FIELDS
        rows = [[getattr(row, name) for name in names] for row in self.rows() if row.kept is not eliminated]
        frame = pandas.DataFrame(rows, columns=list(names))
        texts = {name: "str" for name in names if name not in (*FLOATS, *WHOLE, "demo")}
        types = texts | dict.fromkeys(FLOATS, "float64") | dict.fromkeys(WHOLE, "int64") | {"demo": "bool"}
        return frame.astype(types)

    def lineage(self, row_id: str) -> list[Evolution]:
        """The rows of one seed in the order of the rounds; the id is a seed's, a row's, or the unique start of one.

        Raises `RunMissing` where no seed of the run, or more than one, is meant.
        """
        with JournalView(self._folder.journal) as journal:
            pool = journal.pool()
        wanted = row_id.partition("-")[0]
        found = [wanted] if wanted in pool else [seed_id for seed_id in pool if wanted and seed_id.startswith(wanted)]
        if len(found) != 1:
            problem = f"{len(found)} seeds begin with it" if found else "no seed of this run begins with it"
            raise RunMissing(f"{row_id}: {problem}; `evol show {self.path}` lists them")
        return list(self.rows(found[0]))

    def stats(self) -> Stats:
        """The run's figures by round and by operator."""
        with JournalView(self._folder.journal) as journal:
            seeds = len(journal.pool())
        return summarise(self.rows(), seeds)

    def dataset(self) -> Any:  # noqa: ANN401 - datasets has no types
        """dataset.jsonl as a `datasets.Dataset`. Raises `RunMissing` before the run has finished."""
        if not self._folder.dataset.is_file():
            raise RunMissing(f"{self._folder.dataset}: not there yet; the run has not finished")
        import datasets

        return datasets.load_dataset("json", data_files=str(self._folder.dataset), split="train")

    def count_answers(self) -> int:
        """How many calls are settled and will not be paid for again."""
        with JournalView(self._folder.journal) as journal:
            return journal.count_answers()

    def __repr__(self) -> str:
        return f"evol.load({str(self.path)!r})"


def load(path: str | PathLike[str]) -> Run:
    """The run in this folder. Raises `RunMissing`."""
    return Run(Path(path))
