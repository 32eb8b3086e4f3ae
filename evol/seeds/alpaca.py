"""Seed pools in Alpaca's form: a JSON array, or JSON lines, of objects with `instruction`, `input` and `output`."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from evol.errors import SeedError
from evol.records import Seed
from evol.seeds.rows import Unreadable, read_rows
from evol.words import one_line

NO_INPUT = frozenset({"<noinput>", "noinput", "n/a"})  # what copies of Alpaca write for "no input"
FIELDS_SHOWN = 12
FIELDS_COUNTED = 1000  # of different names: a file with more is none of Alpaca's form
BAD_ROWS_KEPT = 1000  # lines; beyond it bad rows are counted
MESSAGE_SHOWN = 500  # characters
NAME_SHOWN = 60
SELF_INSTRUCT = "instances"  # where Self-Instruct keeps the input: dropping it unseen would change the task


@dataclass(frozen=True, slots=True)
class Pool:
    """The seeds of a file in their order, and lines for the rows that are not usable: the number and what is wrong.

    There are `bad_count` of these rows, and lines for the first `BAD_ROWS_KEPT` of them.
    """

    seeds: tuple[Seed, ...]
    bad_rows: tuple[str, ...]
    bad_count: int


class AlpacaRow(BaseModel):
    """One row as it stands in the file; `input` and `output` may be missing or null, other fields are passed over."""

    model_config = ConfigDict(strict=True)

    instruction: str
    input: str = ""
    output: str = ""

    @field_validator("input", "output", mode="before")
    @classmethod
    def _null_is_nothing(cls, value: object) -> object:
        return "" if value is None else value

    @field_validator("instruction", "input", "output")
    @classmethod
    def _is_text(cls, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise ValueError("holds half of a character (a lone surrogate)") from error
        return value

    @field_validator("instruction")
    @classmethod
    def _is_not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty")
        return value

    @field_validator("input")
    @classmethod
    def _marker_is_nothing(cls, value: str) -> str:
        return "" if value.strip().lower() in NO_INPUT | {""} else value


def read_alpaca(path: Path, *, strict: bool = False, limit: int | None = None) -> Pool:
    """The seeds in the file, the first `limit` usable ones.

    A bad row is reported by its number (in a file of JSON lines, its line) and passed over. Raises `SeedError` for a
    file that cannot be read, one with nothing usable, and under `strict` for the first bad row.
    """
    seeds: list[Seed] = []
    bad_rows: list[str] = []
    bad_count = 0
    copies: Counter[str] = Counter()
    fields: Counter[str] = Counter()
    for where, content in read_rows(path):
        if limit is not None and len(seeds) >= limit:
            break
        row = _checked(content)
        if isinstance(row, AlpacaRow):
            seeds.append(_seed(row, copies, len(seeds)))
            continue
        bad_count += 1
        _count_fields(fields, content)
        if len(bad_rows) < BAD_ROWS_KEPT:
            bad_rows.append(one_line(f"{path}: {where}: {row}", MESSAGE_SHOWN))
        if strict:
            raise SeedError(f"{bad_rows[0]}; correct it, or leave out --strict to pass over such rows")
    if not seeds:
        found = ", ".join(one_line(name, NAME_SHOWN) for name, _ in fields.most_common(FIELDS_SHOWN)) or "nothing"
        first = f"; the first problem is: {bad_rows[0]}" if bad_rows else ""
        raise SeedError(
            f"{path}: no usable seed: looked for objects with instruction (and input, output), found {found}{first}"
        )
    return Pool(tuple(seeds), tuple(bad_rows), bad_count)


def _count_fields(fields: Counter[str], content: object) -> None:
    """Counts what a row has that is no seed; of names that are new only so many."""
    names = list(content) if isinstance(content, dict) else [_kind(content)]
    for name in names[:FIELDS_COUNTED]:
        if name in fields or len(fields) < FIELDS_COUNTED:
            fields[name[: NAME_SHOWN + 1]] += 1


def _kind(row: object) -> str:
    return "(unreadable)" if isinstance(row, Unreadable) else f"({type(row).__name__})"


def _seed(row: AlpacaRow, copies: Counter[str], order: int) -> Seed:
    """The seed with an id made of its content, so that it is the same in any file at any place.

    Exact copies are told apart by a number.
    """
    content = json.dumps([row.instruction, row.input, row.output])
    seed_id = "s" + blake2b(content.encode(), digest_size=8).hexdigest()
    copies[seed_id] += 1
    if copies[seed_id] > 1:
        seed_id += f".{copies[seed_id]}"
    return Seed(seed_id, row.instruction, row.input, row.output, order)


def _checked(row: object) -> AlpacaRow | str:
    """The row, or what is wrong with it."""
    if isinstance(row, Unreadable):
        return row.why
    if not isinstance(row, dict):
        return f"not an object but {type(row).__name__}"
    if SELF_INSTRUCT in row and "input" not in row:
        return "Self-Instruct's form, not Alpaca's: its input is in `instances`; write it into fields of the row"
    try:
        return AlpacaRow.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        return f"`{'.'.join(map(str, first['loc']))}`: {first['msg'].removeprefix('Value error, ')}"
