"""The same place draws the same number in every run and on every machine, and the draws are fair."""

from __future__ import annotations

from collections import Counter

import pytest

from evol.chance import bits, pick, pick_weighted
from evol.records import Place

PLACE = Place("0123abcd", 1, "evolve")


@pytest.mark.parametrize(
    ("random_seed", "place", "number"),
    [
        (0, (), 9523843951405948789),
        (0, ("a",), 2962476648899723354),
        (1, ("a",), 951889089193931511),
        (0, ("a", 1), 11280495912935422354),
        (0, ("größer", "日本"), 3735880519123638592),
        (42, (PLACE, "operator"), 7733835068088441020),
    ],
)
def test_what_a_place_draws_never_changes(random_seed: int, place: tuple[object, ...], number: int) -> None:
    assert bits(random_seed, *place) == number


def test_a_place_is_its_text() -> None:
    assert bits(0, PLACE) == bits(0, "0123abcd/1/0/evolve/0")


def test_parts_of_a_place_do_not_run_together() -> None:
    assert len({bits(0, "ab"), bits(0, "a", "b"), bits(0, "", "ab"), bits(0, "ab", ""), bits(0, "b", "a")}) == 5


def test_the_random_seed_and_the_first_part_do_not_run_together() -> None:
    assert bits(1, 23) != bits(12, 3)


def test_every_place_draws_64_bits_of_its_own() -> None:
    drawn = {bits(0, number) for number in range(10_000)}
    assert len(drawn) == 10_000
    assert 2**60 < max(drawn) - min(drawn) < 2**64


def test_a_pick_never_changes() -> None:
    assert "".join(pick("abcdef", 0, number) for number in range(12)) == "bdddcffdeaab"


def test_every_option_is_picked_about_equally_often() -> None:
    picked = Counter(pick("abcdef", 0, number) for number in range(6000))
    assert sorted(picked) == list("abcdef")
    assert all(900 < count < 1100 for count in picked.values())


def test_the_only_option_is_picked() -> None:
    assert pick(["one"], 7, "anywhere") == "one"


def test_a_weighted_pick_never_changes() -> None:
    weights = {"deepen": 1.0, "breadth": 2.0}
    drawn = [pick_weighted(weights, 0, PLACE._replace(round=number)) for number in range(1, 7)]
    assert drawn == ["deepen", "breadth", "breadth", "breadth", "deepen", "breadth"]


def test_names_are_picked_in_proportion_to_their_weights() -> None:
    picked = Counter(pick_weighted({"a": 0.5, "b": 1.5, "c": 2.0}, 0, number) for number in range(8000))
    assert abs(picked["a"] - 1000) < 100
    assert abs(picked["b"] - 3000) < 150
    assert abs(picked["c"] - 4000) < 150


@pytest.mark.parametrize(
    "weights", [{"no": 0.0, "a": 1.0, "b": 1.0}, {"a": 1.0, "no": 0.0, "b": 1.0}, {"a": 1, "no": 0}]
)
def test_a_name_of_weight_0_is_never_picked(weights: dict[str, float]) -> None:
    picked = {pick_weighted(weights, 0, number) for number in range(2000)}
    assert picked == set(weights) - {"no"}


def test_only_the_proportion_of_weights_matters() -> None:
    small, large = {"a": 1.0, "b": 3.0}, {"a": 1024.0, "b": 3072.0}
    assert all(pick_weighted(small, 0, place) == pick_weighted(large, 0, place) for place in range(500))


def test_another_random_seed_picks_otherwise() -> None:
    weights = {"a": 1.0, "b": 1.0}
    first, second = ([pick_weighted(weights, seed, place) for place in range(200)] for seed in (0, 1))
    assert 60 < sum(a == b for a, b in zip(first, second, strict=True)) < 140
