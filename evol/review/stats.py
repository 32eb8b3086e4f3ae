"""The figures of a run, by round and by operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from evol.records import Evolution

# Mean difficulty by round as ChatGPT rated it, round 0 being the seeds (WizardLM, arXiv 2304.12244, section 4.3).
PAPER_DIFFICULTY = {0: 3.0, 1: 5.4, 2: 6.35, 3: 6.84, 4: 7.08}


@dataclass
class Group:
    """The figures of some rows. Means are over kept rows, None where there is nothing to take the mean of."""

    attempts: int = 0
    kept: int = 0
    eliminated: Counter[str] = field(default_factory=Counter)  # by reason
    tokens: int = 0  # of all attempts
    scored: int = 0
    difficulty_sum: float = 0.0
    evolved: int = 0  # kept rows that have a parent
    words_added_sum: int = 0

    def add(self, row: Evolution) -> None:
        """Counts the row."""
        self.attempts += 1
        self.tokens += row.prompt_tokens + row.completion_tokens
        if not row.kept:
            self.eliminated[row.reason] += 1
            return
        self.kept += 1
        self.evolved += bool(row.parent_id)
        self.words_added_sum += row.words_added
        if row.difficulty is not None:
            self.scored += 1
            self.difficulty_sum += row.difficulty

    @property
    def mean_difficulty(self) -> float | None:
        """From 1 to 10, over the kept rows that were scored."""
        return self.difficulty_sum / self.scored if self.scored else None

    @property
    def mean_words_added(self) -> float | None:
        """Words a kept evolution has more than its parent."""
        return self.words_added_sum / self.evolved if self.evolved else None

    @property
    def tokens_per_kept(self) -> float | None:
        """Tokens of all attempts, prompts and completions, for each row that was kept."""
        return self.tokens / self.kept if self.kept else None

    def as_dict(self) -> dict[str, Any]:
        """The figures under their names, for JSON."""
        return {
            "attempts": self.attempts,
            "kept": self.kept,
            "eliminated": dict(self.eliminated.most_common()),
            "mean_difficulty": self.mean_difficulty,
            "mean_words_added": self.mean_words_added,
            "tokens": self.tokens,
            "tokens_per_kept": self.tokens_per_kept,
        }


@dataclass
class Stats:
    """The figures of a run: `by_round` has the seeds as round 0, `by_operator` leaves them out."""

    seeds: int
    total: Group = field(default_factory=Group)
    by_round: dict[int, Group] = field(default_factory=dict)
    by_operator: dict[str, Group] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The figures under their names, for JSON."""
        return {
            "seeds": self.seeds,
            "total": self.total.as_dict(),
            "by_round": {str(number): group.as_dict() for number, group in sorted(self.by_round.items())},
            "by_operator": {name: group.as_dict() for name, group in sorted(self.by_operator.items())},
        }


def summarise(rows: Iterable[Evolution], seeds: int) -> Stats:
    """The figures of these rows, of a run with that many seeds."""
    stats = Stats(seeds)
    for row in rows:
        stats.total.add(row)
        stats.by_round.setdefault(row.round, Group()).add(row)
        if row.operator:
            stats.by_operator.setdefault(row.operator, Group()).add(row)
    return stats
