"""Randomness that depends on the run's seed and on a place in the run, and on nothing else.

No global generator, no clock, no order of arrival: the same place draws the same number in every run, on every machine
and at every concurrency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import TypeVar

Option = TypeVar("Option")


def bits(random_seed: int, *place: object) -> int:
    """64 bits for this place."""
    text = "\x1f".join([str(random_seed), *map(str, place)])
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def pick(options: Sequence[Option], random_seed: int, *place: object) -> Option:
    """One of the options, each with the same chance."""
    return options[bits(random_seed, *place) * len(options) >> 64]


def pick_weighted(weights: Mapping[str, float], random_seed: int, *place: object) -> str:
    """One of the names, with a chance in proportion to its weight. At least one weight must be above 0."""
    mark = bits(random_seed, *place) / 2**64 * sum(weights.values())
    reached = 0.0
    for name, weight in weights.items():
        reached += weight
        if mark < reached:
            return name
    return [name for name, weight in weights.items() if weight > 0][-1]
