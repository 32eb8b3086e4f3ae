"""Seed pools: what is read, what is passed over with its number, what is refused; and the pool that ships."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest

from evol.errors import SeedError
from evol.records import Seed
from evol.seeds import Pool, read_alpaca
from evol.shipped import shipped

FRUIT = {"instruction": "Name a fruit.", "input": "", "output": "Pear."}
SORT = {"instruction": "Sort these.", "input": "3 1 2", "output": "1 2 3"}
HAIKU = {"instruction": "Write a haiku.", "input": "", "output": ""}
ROWS = [FRUIT, SORT, HAIKU]
SELF_INSTRUCT = {
    "id": "seed_task_0",
    "name": "sorting",
    "instruction": "Sort these.",
    "instances": [{"input": "3 1 2", "output": "1 2 3"}],
    "is_classification": False,
}


def read(content: str | bytes, *, strict: bool = False, limit: int | None = None) -> Pool:
    """The pool in a file of this content."""
    path = Path("seeds.json")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_alpaca(path, strict=strict, limit=limit)


def read_rows(*rows: object, strict: bool = False, limit: int | None = None) -> Pool:
    return read(json.dumps(rows), strict=strict, limit=limit)


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def fields(pool: Pool) -> list[dict[str, str]]:
    return [{"instruction": seed.instruction, "input": seed.input, "output": seed.output} for seed in pool.seeds]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(json.dumps(ROWS), id="array"),
        pytest.param(json.dumps(ROWS, indent=4), id="array over many lines"),
        pytest.param(lines(*ROWS), id="lines"),
        pytest.param(lines(*ROWS).strip(), id="lines without a last line break"),
        pytest.param("\n\n" + lines(*ROWS).replace("\n", "\n \n"), id="lines with empty ones"),
        pytest.param("\ufeff" + json.dumps(ROWS), id="array with BOM"),
        pytest.param("\ufeff" + lines(*ROWS), id="lines with BOM"),
        pytest.param(lines(*ROWS).replace("\n", "\r\n"), id="lines with CRLF"),
        pytest.param(json.dumps(ROWS, indent=1).replace("\n", "\r\n"), id="array with CRLF"),
        pytest.param(" \n\t" + json.dumps(ROWS), id="array after space"),
    ],
)
def test_every_form_gives_the_same_seeds(content: str) -> None:
    pool = read(content)
    assert pool.seeds == read_rows(*ROWS).seeds
    assert fields(pool) == ROWS
    assert [seed.order for seed in pool.seeds] == [0, 1, 2]
    assert pool.bad_rows == ()


@pytest.mark.parametrize(
    "missing",
    [None, "", " \n", "<noinput>", "<NoInput>", "noinput", "N/A", "n/a", " <noinput>\n"],
)
def test_an_input_that_says_there_is_none_is_none(missing: str | None) -> None:
    (seed,) = read_rows(FRUIT | {"input": missing}).seeds
    assert seed.input == ""
    assert seed.text == "Name a fruit."
    assert seed.id == read_rows(FRUIT).seeds[0].id


@pytest.mark.parametrize("text", ["0", "no", "None", "nan", "nano", "<noinput> here", " indented"])
def test_an_input_that_only_looks_like_none_is_kept(text: str) -> None:
    assert read_rows(FRUIT | {"input": text}).seeds[0].input == text


def test_input_and_output_may_be_missing_or_null() -> None:
    pool = read_rows({"instruction": "a"}, {"instruction": "b", "input": None, "output": None})
    assert [(seed.input, seed.output) for seed in pool.seeds] == [("", "")] * 2


def test_an_output_is_kept_as_it_is() -> None:
    assert [seed.output for seed in read_rows(FRUIT | {"output": "N/A"}, FRUIT | {"output": " x\n"}).seeds] == [
        "N/A",
        " x\n",
    ]


def test_other_fields_are_passed_over() -> None:
    extra = {"id": 7, "text": "### Instruction:", "score": None, "tags": ["a"], "nested": {"instruction": "no"}}
    pool = read_rows(extra | FRUIT, SORT, {"more": 1} | HAIKU)
    assert fields(pool) == ROWS
    assert pool.seeds == read_rows(*ROWS).seeds


def test_text_is_kept_character_by_character() -> None:
    text = " \tA\r\nB\u2028C\x85D\x00E \U0001f600\u3042{{ x }}\\n \n"
    for content in (json.dumps([FRUIT | {"instruction": text}]), json.dumps(FRUIT | {"instruction": text})):
        assert read(content).seeds[0].instruction == text


def test_raw_line_separators_of_unicode_do_not_end_a_row() -> None:
    content = json.dumps(FRUIT | {"instruction": "a\u2028b\u2029c\x85d"}, ensure_ascii=False)
    assert [seed.instruction for seed in read(f"{content}\n").seeds] == ["a\u2028b\u2029c\x85d"]


# A row as it stands in the file, and what is said of it.
BAD_ROWS = [
    pytest.param('{"output": "x"}', "`instruction`: Field required", id="no instruction"),
    pytest.param('{"instruction": null}', "`instruction`: Input should be a valid string", id="null"),
    pytest.param('{"instruction": 5}', "`instruction`: Input should be a valid string", id="number"),
    pytest.param('{"instruction": NaN}', "`instruction`: Input should be a valid string", id="NaN"),
    pytest.param('{"instruction": "a", "input": NaN}', "`input`: Input should be a valid string", id="NaN as input"),
    pytest.param('{"instruction": ""}', "`instruction`: is empty", id="empty"),
    pytest.param('{"instruction": " \\n\\t"}', "`instruction`: is empty", id="only space"),
    pytest.param('{"instruction": "a", "input": ["x"]}', "`input`: Input should be a valid", id="list as input"),
    pytest.param('{"instruction": "a", "output": {"x": 1}}', "`output`: Input should be a", id="object as output"),
    pytest.param('{"instruction": "a\\ud83d"}', "`instruction`: holds half of a character", id="lone surrogate"),
    pytest.param('{"instruction": "a", "output": "\\udc00"}', "`output`: holds half of a", id="surrogate in output"),
    pytest.param('"a"', "not an object but str", id="string"),
    pytest.param("7", "not an object but int", id="a number alone"),
    pytest.param('["instruction"]', "not an object but list", id="list"),
    pytest.param(json.dumps(SELF_INSTRUCT), "Self-Instruct's form, not Alpaca's", id="Self-Instruct"),
]


@pytest.mark.parametrize(("row", "says"), BAD_ROWS)
def test_a_bad_row_of_an_array_is_told_by_its_number_and_passed_over(row: str, says: str) -> None:
    pool = read(f"[{json.dumps(FRUIT)}, {row}, {json.dumps(SORT)}]")
    assert fields(pool) == [FRUIT, SORT]
    assert [seed.order for seed in pool.seeds] == [0, 1]
    (bad,) = pool.bad_rows
    assert bad.startswith(f"seeds.json: row 2: {says}")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        *BAD_ROWS,
        pytest.param("{'instruction': 'a'}", "not JSON: ", id="not JSON"),
        pytest.param('{"instruction": "a', "not JSON: ", id="truncated"),
        pytest.param('{"instruction": "a"}}', "not JSON: Extra data", id="too long"),
        pytest.param('{"x": ' + "[" * 99_999 + "]" * 99_999 + "}", "not JSON: nested too deeply", id="deep"),
        pytest.param('{"instruction": "a", "x": ' + "9" * 5000 + "}", "", id="a number of 5000 digits"),
    ],
)
def test_a_bad_row_of_json_lines_is_told_by_its_line_and_passed_over(row: str, says: str) -> None:
    pool = read(f"{json.dumps(FRUIT)}\n\n{row}\n{json.dumps(SORT)}\n")
    assert fields(pool) == [FRUIT, SORT]
    (bad,) = pool.bad_rows
    assert bad.startswith(f"seeds.json: line 3: {says}")


def test_every_bad_row_is_told() -> None:
    pool = read_rows("a", FRUIT, {}, None, SORT, {"instruction": " "})
    assert [bad.split(": ")[1] for bad in pool.bad_rows] == ["row 1", "row 3", "row 4", "row 6"]


def test_strict_stops_at_the_first_bad_row() -> None:
    with pytest.raises(SeedError, match=r"seeds.json: row 2: .*Field required.*leave out --strict"):
        read_rows(FRUIT, {"input": "x"}, {"instruction": 5}, strict=True)


def test_strict_stops_at_a_line_that_is_not_json() -> None:
    with pytest.raises(SeedError, match=r"seeds.json: line 2: not JSON"):
        read(json.dumps(FRUIT) + "\n{\n", strict=True)


def test_strict_says_nothing_of_a_sound_file() -> None:
    assert fields(read_rows(*ROWS, strict=True)) == ROWS


def test_a_limit_takes_the_first_usable_rows() -> None:
    pool = read_rows({}, FRUIT, "x", SORT, HAIKU, limit=2)
    assert fields(pool) == [FRUIT, SORT]
    assert len(pool.bad_rows) == 2


def test_what_comes_after_the_limit_is_not_looked_at() -> None:
    assert fields(read(lines(FRUIT, SORT) + "{\n", strict=True, limit=2)) == [FRUIT, SORT]
    assert fields(read_rows(FRUIT, {}, strict=True, limit=1)) == [FRUIT]


def test_a_limit_above_the_number_of_rows_takes_all() -> None:
    assert fields(read_rows(*ROWS, limit=99)) == ROWS


def test_an_id_depends_on_the_content_only() -> None:
    ids = {seed.instruction: seed.id for seed in read_rows(*ROWS).seeds}
    moved = read(lines({}, HAIKU, {"instruction": "New."}, FRUIT | {"extra": 1}, SORT))
    assert ids == {seed.instruction: seed.id for seed in moved.seeds if seed.instruction in ids}
    assert all(re.fullmatch(r"s[0-9a-f]{16}", seed_id) for seed_id in ids.values())


def test_an_id_changes_with_any_of_the_three_fields() -> None:
    changed = [SORT | {name: "other"} for name in SORT]
    swapped = SORT | {"input": SORT["output"], "output": SORT["input"]}
    joined = {"instruction": "Sort these.3 1 2", "input": "", "output": "1 2 3"}
    assert len({seed.id for seed in read_rows(SORT, *changed, swapped, joined).seeds}) == 6


def test_ids_are_the_same_from_version_to_version() -> None:
    assert [seed.id for seed in read_rows(*ROWS).seeds] == [
        "s8df0711662ddcf07",
        "se65d78c4e627bcd7",
        "sf6e208839b2fe04d",
    ]


def test_exact_copies_get_ids_of_their_own() -> None:
    seeds = read_rows(FRUIT, SORT, FRUIT, FRUIT | {"input": None}, FRUIT | {"output": "Fig."}).seeds
    first = seeds[0].id
    assert [seed.id for seed in seeds[2:4]] == [f"{first}.2", f"{first}.3"]
    assert seeds[4].id.partition(".")[0] != first


def test_the_ids_of_copies_do_not_move_with_other_rows() -> None:
    def ids(pool: Pool) -> list[str]:
        return [seed.id for seed in pool.seeds if seed.instruction == FRUIT["instruction"]]

    assert ids(read_rows(FRUIT, FRUIT)) == ids(read_rows(SORT, FRUIT, {}, HAIKU, FRUIT, SORT))


NOT_USABLE = [
    pytest.param("", "found nothing", id="empty"),
    pytest.param(" \n\n", "found nothing", id="only space"),
    pytest.param("[]", "found nothing", id="empty array"),
    pytest.param('["a", "b"]', "found (str); the first problem is: seeds.json: row 1: not an object", id="strings"),
    pytest.param("[1, 2]", "found (int)", id="numbers"),
    pytest.param("5", "found (int)", id="a number"),
    pytest.param('{"data": []}', "found data; the first problem is: seeds.json: line 1: `instruct", id="object"),
    pytest.param('[{"prompt": "a", "completion": "b"}]', "found prompt, completion;", id="other fields"),
    pytest.param('[{"Instruction": "a"}]', "found Instruction;", id="another case"),
    pytest.param('[{"instruction": ""}]', "`instruction`: is empty", id="empty instructions"),
    pytest.param(json.dumps([SELF_INSTRUCT]), "its input is in `instances`", id="Self-Instruct"),
    pytest.param("instruction,output\na,b\n", "seeds.json: line 1: not JSON", id="CSV"),
    pytest.param('{\n"instruction": "a"\n}', "seeds.json: line 1: not JSON", id="object over many lines"),
]


@pytest.mark.parametrize(("content", "says"), NOT_USABLE)
def test_with_nothing_usable_it_says_what_was_looked_for_and_found(content: str, says: str) -> None:
    with pytest.raises(SeedError) as refusal:
        read(content)
    message = str(refusal.value)
    assert message.startswith("seeds.json: no usable seed: looked for objects with instruction (and input, output), ")
    assert says in message
    assert "_Unreadable" not in message


def test_the_fields_that_are_found_most_come_first() -> None:
    with pytest.raises(SeedError, match="found b, a, c;"):
        read_rows({"a": 9, "b": "x"}, {"b": None}, {"c": [1]}, {"b": 1, "a": {}})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param('[{"instruction": "a"},\n {"instr', r"seeds.json:2:3: not JSON: .*complete\?", id="truncated"),
        pytest.param('[{"instruction": "a"}]]', r"seeds.json:1:23: not JSON: Extra data", id="too long"),
        pytest.param('[{"instruction": "a"},]', r"seeds.json:1:\d+: not JSON", id="comma at the end"),
        pytest.param("[" * 99_999, "seeds.json: nested too deeply", id="deep"),
        pytest.param('[{"instruction": "a", "x": ' + "9" * 5000 + "}]", "seeds.json", id="a number of 5000 digits"),
        pytest.param('[{"instruction": "caf\u00e9"}]'.encode("latin-1"), "seeds.json: not UTF-8", id="Latin-1"),
        pytest.param(lines(FRUIT).encode() + b'{"instruction": "\xff"}', "seeds.json: not UTF-8", id="late Latin-1"),
        pytest.param(json.dumps([FRUIT]).encode("utf-16"), "seeds.json: not UTF-8", id="UTF-16"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(content: str | bytes, says: str) -> None:
    with pytest.raises(SeedError, match=says):
        read(content)


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(SeedError, match=r"nosuch.json: No such file or directory: .*--seed"):
        read_alpaca(Path("nosuch.json"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeedError, match="Is a directory"):
        read_alpaca(tmp_path)


@pytest.fixture(scope="module")
def alpaca() -> tuple[Seed, ...]:
    return read_alpaca(shipped("seeds") / "alpaca.json", strict=True).seeds


def test_the_shipped_pool_has_at_least_as_many_seeds_as_self_instruct(alpaca: tuple[Seed, ...]) -> None:
    assert len(alpaca) >= 175


def test_about_a_third_of_the_shipped_seeds_has_an_input(alpaca: tuple[Seed, ...]) -> None:
    assert 0.25 < sum(bool(seed.input) for seed in alpaca) / len(alpaca) < 0.45


def test_no_two_shipped_seeds_are_the_same(alpaca: tuple[Seed, ...]) -> None:
    assert len({seed.id.partition(".")[0] for seed in alpaca}) == len(alpaca)
    assert len({seed.text.casefold() for seed in alpaca}) == len(alpaca)


def test_every_shipped_seed_has_an_answer_of_its_own(alpaca: tuple[Seed, ...]) -> None:
    assert all(seed.output.strip() for seed in alpaca)
    assert all(seed.output != seed.text for seed in alpaca)


def test_the_shipped_seeds_are_trimmed_and_carry_no_markers(alpaca: tuple[Seed, ...]) -> None:
    texts = [text for seed in alpaca for text in (seed.instruction, seed.input, seed.output)]
    assert [text for text in texts if text != text.strip() or "\r" in text or "noinput" in text.lower()] == []


def test_the_shipped_seeds_come_in_several_scripts(alpaca: tuple[Seed, ...]) -> None:
    letters = {letter for seed in alpaca for letter in seed.instruction if letter.isalpha()}
    scripts = {unicodedata.name(letter).partition(" ")[0] for letter in letters}
    assert scripts >= {"LATIN", "CYRILLIC", "ARABIC", "DEVANAGARI", "CJK", "HIRAGANA", "HANGUL"}
