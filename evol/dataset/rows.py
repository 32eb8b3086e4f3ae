"""Rows as text: one JSON object each, with the same keys in every row of a file."""

from __future__ import annotations

import json
from dataclasses import fields

from evol.records import Evolution

ALL_FIELDS = tuple(field.name for field in fields(Evolution))
VERDICT_FIELDS = ("reason", "stage", "detail")
DATASET_FIELDS = tuple(name for name in ALL_FIELDS if name not in VERDICT_FIELDS)


def to_json(row: Evolution) -> str:
    """The whole row on one line."""
    return _line(row, ALL_FIELDS)


def from_json(line: str) -> Evolution:
    """The row that `to_json` wrote."""
    return Evolution(**json.loads(line))


def dataset_line(row: Evolution) -> str:
    """A kept row as it stands in dataset.jsonl: train-ready, with its provenance and without a verdict."""
    return _line(row, DATASET_FIELDS)


def _line(row: Evolution, names: tuple[str, ...]) -> str:
    return json.dumps({name: getattr(row, name) for name in names}, ensure_ascii=False)
