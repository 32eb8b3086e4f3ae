"""Seed pools in Alpaca's form: a JSON array, or JSON lines, of objects with `instruction`, `input` and `output`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from evol.errors import SeedError
from evol.records import Seed

NO_INPUT = frozenset({"<noinput>", "noinput", "n/a"})  # what copies of Alpaca write for "no input"
FIELDS_SHOWN = 12
GZIP = b"\x1f\x8b"
SELF_INSTRUCT = "instances"  # where Self-Instruct keeps the input: dropping it unseen would change the task


@dataclass(frozen=True, slots=True)
class Pool:
    """The seeds of a file in their order, and a line for every row that is not usable: its number and what is wrong."""

    seeds: tuple[Seed, ...]
    bad_rows: tuple[str, ...]


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
    copies: Counter[str] = Counter()
    fields: Counter[str] = Counter()
    for where, row in _rows(path):
        if limit is not None and len(seeds) >= limit:
            break
        fields.update(list(row) if isinstance(row, dict) else [_kind(row)])
        problem = _problem(row)
        if problem:
            bad_rows.append(f"{path}: {where}: {problem}")
            if strict:
                raise SeedError(f"{bad_rows[0]}; correct it, or leave out --strict to pass over such rows")
            continue
        seeds.append(_seed(AlpacaRow.model_validate(row), copies, len(seeds)))
    if not seeds:
        found = ", ".join(name for name, _ in fields.most_common(FIELDS_SHOWN)) or "nothing"
        first = f"; the first problem is: {bad_rows[0]}" if bad_rows else ""
        raise SeedError(
            f"{path}: no usable seed: looked for objects with instruction (and input, output), found {found}{first}"
        )
    return Pool(tuple(seeds), tuple(bad_rows))


def _kind(row: object) -> str:
    return "(not JSON)" if isinstance(row, _Unreadable) else f"({type(row).__name__})"


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


def _problem(row: object) -> str:
    """What is wrong with the row; empty where nothing is."""
    if isinstance(row, _Unreadable):
        return row.why
    if not isinstance(row, dict):
        return f"not an object but {type(row).__name__}"
    if SELF_INSTRUCT in row and "input" not in row:
        return "Self-Instruct's form, not Alpaca's: its input is in `instances`; write it into fields of the row"
    try:
        AlpacaRow.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        return f"`{'.'.join(map(str, first['loc']))}`: {first['msg'].removeprefix('Value error, ')}"
    return ""


@dataclass(frozen=True, slots=True)
class _Unreadable:
    why: str


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Each row with where it stands; one that is not JSON comes as `_Unreadable`."""
    try:
        with path.open("rb") as file:
            if file.read(2) == GZIP:
                raise SeedError(f"{path}: compressed with gzip: unpack it (gunzip) and run again")
        with path.open(encoding="utf-8-sig") as file:
            start = file.read(4096).lstrip()[:1]
            file.seek(0)
            if start == "[":
                yield from ((f"row {number}", row) for number, row in enumerate(_array(path, file.read()), 1))
            else:
                yield from _lines(file)
    except UnicodeDecodeError as error:
        raise SeedError(f"{path}: not UTF-8 ({error.reason}): save it as UTF-8 and run again") from error
    except OSError as error:
        raise SeedError(f"{path}: {error.strerror or error}: give the path of a seed file with --seed") from error


def _array(path: Path, text: str) -> list[Any]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise SeedError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}; is the file complete?") from error
    except RecursionError as error:
        raise SeedError(f"{path}: nested too deeply for a seed file") from error
    except ValueError as error:  # a number of more digits than Python reads
        raise SeedError(f"{path}: {error}") from error
    return list(rows)


def _lines(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            what = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", str(error))
            yield f"line {number}", _Unreadable(f"not JSON: {what}")
