"""A lineage on the terminal: what changed from parent to child, and why a row fell."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from evol.records import Evolution
from evol.review.tree import ADDED, LONGEST_COMPARED, REMOVED, RESPONSE_SHOWN, draw_tree, list_lineages, mark_changes

SEED = Evolution("s1", "s1", "", 0, "", "seed", "Name a river.", output="The Nile.")


def child(number: int, text: str, parent: Evolution = SEED) -> Evolution:
    return Evolution(f"s1-{number}", "s1", parent.id, number, "deepen", "depth", text, difficulty=4.0)


def fallen(row: Evolution, reason: str, stage: str, detail: str) -> Evolution:
    return replace(row, reason=reason, stage=stage, detail=detail, difficulty=None)


def long_text(word: str, words: int) -> str:
    return " ".join(f"{word}{number}" for number in range(words))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("Name a river.", "Name a river.", []),
        ("Name a river.", "Name a long river.", ["+long"]),
        ("Name a long river.", "Name a river.", ["-long"]),
        ("Name a river.", "Name a lake.", ["-river.", "+lake."]),
        ("Name it.", "Name it. Say why.", ["+Say why."]),
        ("Say why. Name it.", "Name it.", ["-Say why."]),
        ("", "Name it.", ["+Name it."]),
        ("Name it.", "", ["-Name it."]),
        ("Name  a river.", "Name a river.", []),
        ("Name a river.", "Name a river.\n\nSay why.", ["+Say why."]),
        ("one\ntwo\nthree", "one\n2\nthree", ["-two", "+2"]),
        ("one two", "one\ntwo", []),
    ],
)
def test_only_words_that_changed_are_marked(before: str, after: str, words: list[str]) -> None:
    marked = mark_changes(before, after)
    assert [f"{sign}{text.strip()}" for sign, text in re.findall(r"\[([+-])(.*?)[+-]\]", marked, re.DOTALL)] == words


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Name a river.", "Name one long river, and say why."),
        ("a\nb\n\nc", "a\n\nx y\nc"),
        ("Sort:\n```\n[1, 2]\n```", "Sort down:\n```\n[1, 2, 3]\n```\nUse no loop."),
        ("alpha beta", "gamma delta"),
    ],
)
def test_without_its_marks_it_is_the_later_text(before: str, after: str) -> None:
    without_removed = re.sub(r"\[-.*?-\]", "", mark_changes(before, after), flags=re.DOTALL)
    assert re.sub(r"\[\+|\+\]", "", without_removed).split() == after.split()


def test_a_mark_begins_on_the_line_of_its_words() -> None:
    assert mark_changes("Name a river.", "Name a river.\nSay why.") == "Name a river.\n[+Say why.+]"


def test_texts_without_a_word_in_common_are_compared_at_once() -> None:
    before, after = (" ".join(f"{letter}{number}" for number in range(1500)) for letter in "ab")
    assert mark_changes(before, after) == f"[-{before}-][+{after}+]"


def test_marks_are_colours_where_there_is_colour() -> None:
    marked = mark_changes("Name a river.", "Name a lake.", colour=True)
    assert f"{REMOVED[0]}river.{REMOVED[1]}" in marked
    assert f"{ADDED[0]}lake.{ADDED[1]}" in marked


def test_a_very_long_text_is_shown_without_marks() -> None:
    text = long_text("word", LONGEST_COMPARED + 1)
    assert mark_changes("Name a river.", text) == text


def test_a_text_that_has_become_short_is_shown_without_marks() -> None:
    assert mark_changes(long_text("word", LONGEST_COMPARED + 1), "Name a river.") == "Name a river."


def test_a_lineage_is_a_tree_with_an_eliminated_child() -> None:
    first = child(1, "Name a long river.")
    second = fallen(child(2, "Name a long lake.", first), "no_gain", "judge", "it asks the same")
    third = child(3, "Name a long dry river.", first)
    assert list(draw_tree([SEED, first, second, third])) == [
        "s1  seed",
        "   Name a river.",
        "   => The Nile.",
        "",
        "└─ s1-1  round 1, deepen, difficulty 4",
        "      Name a [+long+] river.",
        "",
        "   └─ s1-2  round 2, deepen  ELIMINATED at judge: no_gain (it asks the same)",
        "         Name a long [-river.-] [+lake.+]",
        "",
        "   └─ s1-3  round 3, deepen, difficulty 4",
        "         Name a long [+dry+] river.",
        "",
    ]


def test_a_seed_is_shown_with_its_input() -> None:
    lines = list(draw_tree([replace(SEED, instruction="Sort these.", input="3\n1")]))
    assert lines[1:4] == ["   Sort these.", "   3", "   1"]


def test_a_scored_seed_shows_its_difficulty() -> None:
    assert next(draw_tree([replace(SEED, difficulty=2.5)])) == "s1  seed, difficulty 2.5"


def test_what_an_unchanged_child_says_is_shown_without_marks() -> None:
    same = fallen(child(1, SEED.text), "unchanged", "evolve", "the same words as its parent")
    assert list(draw_tree([SEED, same]))[-2:] == ["      Name a river.", ""]


def test_a_child_of_nothing_shows_what_is_gone() -> None:
    empty = fallen(child(1, ""), "empty", "evolve", "there is no word in it")
    assert list(draw_tree([SEED, empty]))[-2:] == ["      [-Name a river.-]", ""]


def test_a_child_of_breadth_is_shown_without_marks() -> None:
    other = replace(child(1, "Name a lake."), operator="breadth", family="breadth")
    assert list(draw_tree([SEED, other]))[-2:] == ["      Name a lake.", ""]


def test_a_response_is_shown_on_one_short_line() -> None:
    line = list(draw_tree([replace(SEED, output="The\n\nNile. " * 50)]))[2]
    assert line.startswith("   => The Nile. The Nile. ")
    assert line.endswith("\u2026")
    assert len(line) == len("   => ") + RESPONSE_SHOWN


def test_a_lineage_is_listed_with_a_mark_for_every_round() -> None:
    first = child(1, "Name a long river.")
    second = fallen(child(2, "A lake.", first), "no_gain", "judge", "")
    other = Evolution("s2", "s2", "", 0, "", "seed", "Count to\nten.")
    assert list(list_lineages([SEED, first, second, other], 9)) == [
        "s1  +-     Name a river.",
        "s2         Count to ten.",
    ]


@pytest.mark.parametrize(("limit", "listed"), [(0, []), (2, ["s0", "s1"]), (5, ["s0", "s1", "s2"])])
def test_no_more_lineages_are_listed_than_asked_for(limit: int, listed: list[str]) -> None:
    rows = [Evolution(f"s{number}", f"s{number}", "", 0, "", "seed", "Name a river.") for number in range(3)]
    assert [line.split()[0] for line in list_lineages(rows, limit)] == listed


def test_a_long_instruction_is_listed_by_its_beginning() -> None:
    line = next(list_lineages([replace(SEED, instruction=long_text("word", 500))], 1))
    assert line.startswith("s1         word0 word1 ")
    assert line.endswith("\u2026")
    assert len(line) < 100
