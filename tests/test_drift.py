"""What decides a run's questions, and what counts as a change of it."""

from __future__ import annotations

import pytest

from evol.drift import changes, missing_seeds


@pytest.mark.parametrize(
    ("before", "now", "named"),
    [
        ({"random seed": "1"}, {"random seed": "1"}, []),
        ({"random seed": "1"}, {"random seed": "2"}, ["random seed (was 1, is 2)"]),
        ({}, {"template score": "abc"}, []),  # at work for the first time
        ({"template score": "abc"}, {}, []),  # at rest
        ({"weights": "x" * 99}, {"weights": "y" * 99}, ["weights"]),
    ],
)
def test_a_change_is_another_value_of_something_known(
    before: dict[str, str], now: dict[str, str], named: list[str]
) -> None:
    assert changes(before, now) == named


@pytest.mark.parametrize(
    ("before", "now", "limited", "missing"),
    [
        (["a", "b"], ["a", "b", "c"], False, 0),
        (["a", "b"], ["b"], False, 1),
        (["a", "b"], ["b"], True, 0),  # fewer of the same
        (["a", "b"], ["c"], True, 2),  # another file
        ([], ["a"], False, 0),
    ],
)
def test_seeds_are_missing_unless_a_limit_takes_fewer_of_the_same(
    before: list[str], now: list[str], limited: bool, missing: int
) -> None:
    assert missing_seeds(before, now, limited=limited) == missing
