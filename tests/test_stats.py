"""The figures of a run: means over what was kept, and None where there is nothing to take a mean of."""

from __future__ import annotations

import pytest

from evol.records import Evolution
from evol.review.stats import Group, summarise


def seed(name: str = "s1", difficulty: float | None = None) -> Evolution:
    return Evolution(name, name, "", 0, "", "seed", "Name a river.", difficulty=difficulty)


def kept(number: int, operator: str = "deepen", difficulty: float | None = 4.0, words: int = 10) -> Evolution:
    return Evolution(
        f"s1-{number}",
        "s1",
        "s1",
        number,
        operator,
        "depth",
        "Name a long river.",
        difficulty=difficulty,
        words_added=words,
        prompt_tokens=70,
        completion_tokens=30,
    )


def fallen(number: int, reason: str, operator: str = "deepen") -> Evolution:
    return Evolution(
        f"s1-{number}",
        "s1",
        "s1",
        number,
        operator,
        "depth",
        "Name.",
        difficulty=9.0,
        words_added=500,
        prompt_tokens=40,
        completion_tokens=10,
        reason=reason,
        stage="judge",
    )


def test_rows_are_counted_by_what_became_of_them() -> None:
    total = summarise([seed(), kept(1), fallen(2, "no_gain"), fallen(3, "no_gain"), fallen(4, "empty")], 1).total
    assert (total.attempts, total.kept) == (5, 2)
    assert total.eliminated == {"no_gain": 2, "empty": 1}


def test_mean_difficulty_is_over_kept_rows_only() -> None:
    rows = [kept(1, difficulty=3.0), kept(1, difficulty=6.0), fallen(1, "no_gain")]
    assert summarise(rows, 3).by_round[1].mean_difficulty == 4.5


def test_a_row_nobody_scored_does_not_count_as_easy() -> None:
    assert summarise([kept(1, difficulty=6.0), kept(1, difficulty=None)], 2).by_round[1].mean_difficulty == 6.0


def test_mean_words_added_is_over_kept_rows_only() -> None:
    rows = [kept(1, words=10), kept(1, words=-4), fallen(1, "over_budget")]
    assert summarise(rows, 3).by_round[1].mean_words_added == 3.0


def test_seeds_add_no_words_and_do_not_lower_the_mean() -> None:
    stats = summarise([seed("s1"), seed("s2"), kept(1, words=10)], 2)
    assert stats.by_round[0].mean_words_added is None
    assert stats.total.mean_words_added == 10.0


def test_the_tokens_of_what_fell_are_paid_for_by_what_was_kept() -> None:
    total = summarise([kept(1), kept(2), fallen(3, "no_gain")], 1).total
    assert (total.tokens, total.tokens_per_kept) == (250, 125.0)


@pytest.mark.parametrize("rows", [[], [fallen(1, "refused")]], ids=["nothing", "nothing kept"])
def test_there_is_no_mean_of_nothing(rows: list[Evolution]) -> None:
    total = summarise(rows, 1).total
    assert total.mean_difficulty is None
    assert total.mean_words_added is None
    assert total.tokens_per_kept is None


def test_unscored_rows_have_no_mean_difficulty() -> None:
    assert summarise([seed(), kept(1, difficulty=None)], 1).total.mean_difficulty is None


def test_seeds_are_round_0() -> None:
    stats = summarise([seed("s1", 2.0), seed("s2", 3.0), kept(1), kept(2)], 2)
    assert {number: group.attempts for number, group in stats.by_round.items()} == {0: 2, 1: 1, 2: 1}
    assert stats.by_round[0].mean_difficulty == 2.5


def test_operators_leave_the_seeds_out() -> None:
    stats = summarise([seed(), kept(1, "deepen"), fallen(2, "no_gain", "breadth"), kept(3, "breadth")], 1)
    assert {name: (group.attempts, group.kept) for name, group in stats.by_operator.items()} == {
        "deepen": (1, 1),
        "breadth": (2, 1),
    }


def test_a_run_has_the_seeds_it_was_given_even_before_any_row() -> None:
    assert summarise([], 40).as_dict()["seeds"] == 40


def test_figures_come_under_their_names() -> None:
    assert summarise([kept(1), fallen(1, "no_gain")], 2).by_round[1].as_dict() == {
        "attempts": 2,
        "kept": 1,
        "eliminated": {"no_gain": 1},
        "mean_difficulty": 4.0,
        "mean_words_added": 10.0,
        "tokens": 150,
        "tokens_per_kept": 150.0,
    }


def test_rounds_operators_and_reasons_are_in_order() -> None:
    reasons = ["empty", "no_gain", "no_gain", "refused", "no_gain", "refused"]
    rows = [fallen(11 - number, reason, "fedcba"[number]) for number, reason in enumerate(reasons)]
    figures = summarise(rows, 1).as_dict()
    assert list(figures["by_round"]) == ["6", "7", "8", "9", "10", "11"]
    assert list(figures["by_operator"]) == list("abcdef")
    assert list(figures["total"]["eliminated"].items()) == [("no_gain", 3), ("refused", 2), ("empty", 1)]


def test_rows_can_come_one_by_one() -> None:
    group = Group()
    for row in (kept(1, difficulty=2.0), kept(2, difficulty=4.0)):
        group.add(row)
    assert group.mean_difficulty == 3.0
