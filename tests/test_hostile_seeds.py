"""Seed files of any bytes: a pool or a `SeedError`, every row a seed or named, and little memory whatever the size."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evol.errors import SeedError
from evol.seeds import Pool, read_alpaca

ROWS = [
    {"instruction": f'Row {number}: say {{"a": [1]}}, "b" and \\ in 日本語.', "input": "x\ny", "output": "ok"}
    for number in range(6)
]
FORMS: dict[str, Callable[[list[dict[str, str]]], str]] = {
    "array": json.dumps,
    "array over lines": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False),
    "lines": lambda rows: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
    "lines with CR LF": lambda rows: "\r\n".join(map(json.dumps, rows)),
    "objects": lambda rows: "\n".join(json.dumps(row, indent=2) for row in rows),
    "objects in a row": lambda rows: ", ".join(map(json.dumps, rows)),
}
# What is put into a sound file: single bytes, and whole words of JSON and of other worlds.
SPLINTERS = [
    *(bytes([byte]) for byte in b'{}[]",:\\\0\n\r\t -0e'),
    *(b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"\\ud83d", b"\\u12", b"\\u0000"),
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 2000, b'{"a":' * 2000, b"]" * 50, b" " * 5000),
    *(b'"instruction": "twice",', b'{"instruction": "new"}', b'"instruction"', b"{}", b"[]", b'""', b"\n\n\n"),
]
# Where (in thousandths of the file), how many bytes are taken out, and what is put in.
CHANGES = st.lists(
    st.tuples(st.integers(0, 1000), st.sampled_from([0, 0, 1, 1, 7, 100, 5000]), st.sampled_from([b"", *SPLINTERS])),
    max_size=4,
)
STRUCTURES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["instruction", "input", "output", "instances", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
MEMORY = """
import resource, sys
from pathlib import Path
from evol.errors import SeedError
from evol.seeds import read_alpaca
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    pool = read_alpaca(Path(sys.argv[1]))
    print(len(pool.seeds), pool.bad_count)
except SeedError:
    print("refused", 0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // (2**20 if sys.platform == "darwin" else 2**10))
"""


def outcome(content: bytes, *, strict: bool = False) -> Pool | None:
    """The pool in a file of these bytes, None where it is refused in one line. Nothing else may happen."""
    path = Path("fuzzed.json")
    path.write_bytes(content)
    try:
        pool = read_alpaca(path, strict=strict)
    except SeedError as error:
        assert str(error).startswith("fuzzed.json: ")
        assert "\n" not in str(error)
        return None
    assert pool.seeds
    assert len(pool.bad_rows) == pool.bad_count
    assert all(line.startswith("fuzzed.json: ") and line.isprintable() for line in pool.bad_rows)
    return pool


def check_array(content: bytes) -> None:
    """What Python reads as an array has as many rows here."""
    try:
        rows = json.loads(content.decode())
    except (ValueError, RecursionError):
        return
    pool = outcome(content)
    if isinstance(rows, list) and pool:
        assert len(pool.seeds) + pool.bad_count == len(rows)


def check_changed(form: str, changes: list[tuple[int, int, bytes]]) -> None:
    content = FORMS[form](ROWS).encode()
    for place, taken, put in changes:
        at = len(content) * place // 1000
        content = content[:at] + put + content[at + taken :]
    pool = outcome(content)
    strict = outcome(content, strict=True)
    assert (strict is None) == (pool is None or pool.bad_count > 0)
    if pool and not pool.bad_count:
        # Nothing is told, so nothing may be missing: every row that still stands there as it was is a seed.
        texts = {seed.instruction for seed in pool.seeds}
        assert all(row["instruction"] in texts for row in ROWS if json.dumps(row).encode() in content)
    check_array(content)


def check_lines(changed: int, put: bytes) -> None:
    """What is done to one line, but the first, costs no other."""
    lines = FORMS["lines"](ROWS).encode().splitlines()
    lines[changed] = put.replace(b"\n", b"").replace(b"\r", b"")
    pool = outcome(b"\n".join(lines))
    assert pool
    texts = {seed.instruction for seed in pool.seeds}
    assert all(row["instruction"] in texts for number, row in enumerate(ROWS) if number != changed)
    assert len(pool.seeds) + pool.bad_count == len(ROWS) - (not lines[changed].strip())


def check_structure(rows: list[object], form: str) -> None:
    text = json.dumps(rows) if form == "array" else "\n".join(map(json.dumps, rows))
    pool = outcome(text.encode())
    if pool:
        assert len(pool.seeds) + pool.bad_count == len(rows)


def fuzz(count: int) -> settings:
    """So many files; the folder of a test is the same for all of them."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


CHANGED = given(st.sampled_from(sorted(FORMS)), CHANGES)
LINES = given(st.integers(1, len(ROWS) - 1), st.binary(max_size=60) | st.sampled_from(SPLINTERS))
STRUCTURED = given(st.lists(STRUCTURES, min_size=1, max_size=5), st.sampled_from(["array", "lines"]))
BYTES = given(st.binary(max_size=300) | st.lists(st.sampled_from(SPLINTERS), max_size=20).map(b"".join))


@CHANGED
@fuzz(150)
def test_a_file_that_was_changed_is_a_pool_or_refused(form: str, changes: list[tuple[int, int, bytes]]) -> None:
    check_changed(form, changes)


@LINES
@fuzz(50)
def test_what_is_done_to_a_line_costs_no_other(changed: int, put: bytes) -> None:
    check_lines(changed, put)


@STRUCTURED
@fuzz(50)
def test_every_value_of_a_file_is_a_seed_or_told(rows: list[object], form: str) -> None:
    check_structure(rows, form)


@BYTES
@fuzz(50)
def test_any_bytes_are_a_pool_or_refused(content: bytes) -> None:
    outcome(content)
    check_array(content)


@pytest.mark.torture
@CHANGED
@fuzz(3000)
def test_3000_files_that_were_changed(form: str, changes: list[tuple[int, int, bytes]]) -> None:
    check_changed(form, changes)


@pytest.mark.torture
@LINES
@fuzz(700)
def test_700_files_with_a_line_that_was_changed(changed: int, put: bytes) -> None:
    check_lines(changed, put)


@pytest.mark.torture
@STRUCTURED
@fuzz(700)
def test_700_files_of_any_values(rows: list[object], form: str) -> None:
    check_structure(rows, form)


@pytest.mark.torture
@BYTES
@fuzz(700)
def test_700_files_of_any_bytes(content: bytes) -> None:
    outcome(content)
    check_array(content)


def memory_for(path: Path) -> tuple[str, int]:
    """What comes of the file (how many seeds and bad rows), and the MiB it took to read."""
    result = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    said, grown = result.stdout.splitlines()
    return said, int(grown)


def write_many(path: Path, opening: bytes, block: bytes, closing: bytes, size: int) -> int:
    """Writes the block again and again to about this size in bytes; returns how often."""
    times = size // len(block)
    with path.open("wb") as file:
        file.write(opening)
        for _ in range(times):
            file.write(block)
        file.write(closing)
    return times


BAD = json.dumps({"instruction": 5, "text": "x" * 150}).encode()
LAST = b'{"instruction": "a"}'
# How a large file begins, what is repeated in it, how it ends, and what comes of it: seeds, bad rows for each block.
LARGE = {
    "lines": (b"", (BAD + b"\n") * 999, LAST, "1", 999),
    "array": (b"[", (BAD + b",\n") * 999, LAST + b"]", "1", 999),
    "one line": (b"", b"x" * 999, b"\n" + LAST, "1", None),
    "one row of an array": (b'[{"instruction": "', b"x\\n" * 333, b'"}, ' + LAST + b"]", "1", None),
    "brackets": (b"[", b"[{" * 999, b"", "refused", None),
    "empty lines": (b"", b"\r\n" * 999, LAST, "1", 0),
}


@pytest.mark.parametrize("kind", ["lines", "array", "one line", "one row of an array", "brackets", "empty lines"])
@pytest.mark.parametrize("size", [16 * 2**20, pytest.param(200 * 2**20, marks=pytest.mark.torture)])
def test_a_large_file_takes_little_memory(kind: str, size: int, tmp_path: Path) -> None:
    opening, block, closing, seeds, bad = LARGE[kind]
    times = write_many(tmp_path / "large.json", opening, block, closing, size)
    said, grown = memory_for(tmp_path / "large.json")
    assert said.split()[0] == seeds
    assert bad is None or int(said.split()[1]) == times * bad
    assert grown < 40  # MiB, beside some 30 of Python itself
