"""What decides a run's questions, by name, and whether a folder's answers were given to other ones.

A run's folder holds the answers to one recipe. Another model, template or parameter in the same folder is drift: it is
refused by name, or accepted, and then what has changed is asked again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from hashlib import blake2b

from evol.packs import Pack
from evol.recipe import Recipe
from evol.records import Role
from evol.stages.judge import JUDGEMENT_SCHEMA, SCORE_SCHEMA
from evol.teachers import Teacher

LONGEST_SHOWN = 100  # characters of an old and a new value together


def digest_of(value: object) -> str:
    """16 hex digits for anything that JSON can hold."""
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def decisive_parts(recipe: Recipe, pack: Pack, teachers: Mapping[Role, Teacher]) -> dict[str, str]:
    """Everything that decides what is asked and what is kept, by name. What is not at work is left out."""
    parts = {
        "random seed": str(recipe.random_seed),
        "word budget": f"{pack.words[0]} to {pack.words[1]}",
        "weights": ", ".join(f"{name} {weight!r}" for name, weight in pack.weights.items()),
        "form of a judgement": digest_of(JUDGEMENT_SCHEMA),
        "judging": "by probability" if recipe.judge_by_probability else "by verdict",
    }
    for name, operator in pack.operators.items():
        parts[f"word limit of operator {name}"] = str(pack.word_limit(name))
        if operator.choices:
            parts[f"choices of operator {name}"] = json.dumps(operator.choices)
    for name, template in pack.templates.items():
        if name != "score" or recipe.score_seeds:
            parts[f"template {name}"] = template.digest
    for role in recipe.roles():
        parts[f"model of the {role}"] = teachers[role].model
        parts[f"sampling of the {role}"] = json.dumps(recipe.sampling_of(role).given)
    if recipe.score_seeds:
        parts["form of a score"] = digest_of(SCORE_SCHEMA)
    return parts


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The parts that are known from before and have another value now; what is new or at rest is no change."""
    return [
        f"{name} (was {before[name]}, is {value})" if len(before[name] + value) < LONGEST_SHOWN else name
        for name, value in now.items()
        if name in before and before[name] != value
    ]


def missing_seeds(before: Collection[str], now: Collection[str], *, limited: bool) -> int:
    """How many seeds of the run are not in the pool any more; none where a limit only takes fewer of the same."""
    gone = set(before) - set(now)
    return 0 if limited and not set(now) - set(before) else len(gone)
