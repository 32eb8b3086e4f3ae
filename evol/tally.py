"""What a run has done so far, counted as it happens: for the progress display and the last words of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from evol.records import Evolution, Reason, Usage
from evol.teachers import Teacher


@dataclass
class Tally:
    """Counts of one process at work on a run.

    `calls` were sent to a teacher (retries included), `replayed` were answered from the journal, `failed_tries` failed
    and were asked again or given up. `paid` are the tokens of replies to `calls`, useful or not, and `cost` what they
    come to in US dollars, a call of unknown use at its worst; `unpriced` models are not in it. `unrated` rows were
    judged and have no difficulty all the same. `teachers` are those at work. `opening` is what to say before they are,
    and `stopping` why no more is sent.
    """

    seeds: int = 0
    rounds: int = 0
    teachers: Sequence[Teacher] = ()
    seeds_done: int = 0
    calls: int = 0
    replayed: int = 0
    failed_tries: int = 0
    last_failure: str = ""  # what the last try failed with; empty again after the next that does not
    in_flight: int = 0
    paid: Usage = field(default_factory=Usage)
    cost: Decimal = Decimal(0)
    unpriced: tuple[str, ...] = ()
    opening: list[str] = field(default_factory=list)
    stopping: str = ""
    attempts: Counter[int] = field(default_factory=Counter)  # by round
    kept: Counter[int] = field(default_factory=Counter)  # by round
    eliminated: Counter[str] = field(default_factory=Counter)  # by reason
    unrated: int = 0

    def count_row(self, row: Evolution) -> None:
        """One row is settled."""
        self.attempts[row.round] += 1
        self.unrated += row.difficulty is None and _has_verdict(row)
        if row.kept:
            self.kept[row.round] += 1
        else:
            self.eliminated[row.reason] += 1

    @property
    def busy_with(self) -> str:
        """What keeps a teacher from answering, as loading a model; empty where nothing does."""
        return "; ".join(teacher.busy_with for teacher in self.teachers if teacher.busy_with)

    @property
    def notices(self) -> tuple[str, ...]:
        """The teachers' own remarks so far."""
        return tuple(notice for teacher in self.teachers for notice in teacher.notices)

    @property
    def share_done(self) -> float:
        """From 0 to 1, by rows settled. Seeds count where they are all there is to do: most come with an answer."""
        settled = self.attempts.total() - self.attempts[0] if self.rounds else self.attempts[0]
        return settled / (self.seeds * max(1, self.rounds)) if self.seeds else 0.0


def _has_verdict(row: Evolution) -> bool:
    """Whether a judge's or scorer's reply could be read."""
    if row.stage == "judge":
        return row.reason in (Reason.NO_GAIN, Reason.UNANSWERABLE)
    return bool(row.judge and (row.round or row.detail))  # of a seed's score nothing but the explanation is sure
