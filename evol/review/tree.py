"""A lineage as a tree: each row, its verdict, and what changed from parent to child."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import groupby, islice

from evol.records import Evolution
from evol.words import one_line, printable

ADDED = ("\x1b[32m", "\x1b[0m")
REMOVED = ("\x1b[31;9m", "\x1b[0m")
PLAIN_ADDED = ("[+", "+]")
PLAIN_REMOVED = ("[-", "-]")
RESPONSE_SHOWN = 160
LONGEST_COMPARED = 4000  # words; beyond it the two texts are shown without marks
TITLE_SHOWN = 70
WORDS = re.compile(r"\s*\S+|\s+\Z")  # each with the space before it


def draw_tree(rows: list[Evolution], *, colour: bool = False) -> Iterator[str]:
    """The lines of the tree. A child stands below the row it was made from, an eliminated one with its reason."""
    rows = [_printable(row) for row in rows]
    by_id = {row.id: row for row in rows}
    for row in rows:
        depth = _depth(row, by_id)
        indent = "   " * depth
        branch = indent[:-3] + "└─ " if depth else ""
        yield f"{branch}{_headline(row)}"
        parent = by_id.get(row.parent_id)
        # What breadth makes is new as a whole: there is nothing to compare.
        text = (
            row.text
            if parent is None or row.family == "breadth"
            else mark_changes(parent.text, row.text, colour=colour)
        )
        # What an eliminated row says is shown too: that is what one looks for here.
        yield from (f"{indent}   {line}" for line in text.splitlines())
        if row.output:
            yield f"{indent}   => {one_line(row.output, RESPONSE_SHOWN)}"
        yield ""


def list_lineages(rows: Iterable[Evolution], limit: int | None) -> Iterator[str]:
    """A line for each of the first `limit` lineages: id, a mark for every round (+ kept, - eliminated), first words."""
    for seed_id, lineage in islice(groupby(rows, key=lambda row: row.seed_id), limit):
        members = list(lineage)
        marks = "".join("+" if row.kept else "-" for row in members if row.round)
        yield f"{seed_id}  {marks:6} {one_line(members[0].instruction, TITLE_SHOWN)}"


def mark_changes(before: str, after: str, *, colour: bool = False) -> str:
    """The later text with the words that are new marked, and those that are gone put in."""
    added, removed = (ADDED, REMOVED) if colour else (PLAIN_ADDED, PLAIN_REMOVED)
    old, new = WORDS.findall(before), WORDS.findall(after)
    if max(len(old), len(new)) > LONGEST_COMPARED:
        return after
    # Compared without the space before them: a word on a new line is the same word.
    matcher = SequenceMatcher(None, [word.strip() for word in old], [word.strip() for word in new], autojunk=False)
    pieces: list[str] = []
    for kind, i, j, k, m in matcher.get_opcodes():
        if kind == "equal":
            pieces.append("".join(new[k:m]))
        else:
            pieces += [_mark("".join(old[i:j]), removed), _mark("".join(new[k:m]), added)]
    return "".join(pieces)


def _mark(text: str, marks: tuple[str, str]) -> str:
    """The text between the marks, the space before it outside of them."""
    bare = text.lstrip()
    return f"{text[: len(text) - len(bare)]}{marks[0]}{bare}{marks[1]}" if bare else text


def _printable(row: Evolution) -> Evolution:
    """The row as it may be shown: what a model writes must not steer a terminal."""
    return replace(
        row,
        operator=one_line(row.operator),
        instruction=_of_lines(row.instruction),
        input=_of_lines(row.input),
        detail=one_line(row.detail),
    )


def _of_lines(text: str) -> str:
    return printable(text.replace("\r\n", "\n"))


def _depth(row: Evolution, by_id: dict[str, Evolution]) -> int:
    depth = 0
    while row.parent_id in by_id:
        row = by_id[row.parent_id]
        depth += 1
    return depth


def _headline(row: Evolution) -> str:
    what = f"round {row.round}, {row.operator}" if row.round else "seed"
    difficulty = "" if row.difficulty is None else f", difficulty {row.difficulty:g}"
    if row.kept:
        return f"{row.id}  {what}{difficulty}"
    return f"{row.id}  {what}{difficulty}  ELIMINATED at {row.stage}: {row.reason} ({row.detail})"
