"""Seed pools: what is read, what is passed over with its number, what is refused; and the pool that ships."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import time
import unicodedata
from pathlib import Path

import pytest

from evol.errors import SeedError
from evol.records import Seed
from evol.seeds import Pool, read_alpaca
from evol.seeds.alpaca import BAD_ROWS_KEPT
from evol.seeds.rows import ROW_BYTES
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
        pytest.param("\n" * 300_000 + json.dumps(ROWS), id="array after many empty lines"),
        pytest.param("\n" * 300_000 + lines(*ROWS), id="lines after many empty ones"),
        pytest.param(lines(*ROWS).replace("\n", "\r"), id="lines with CR"),
        pytest.param(json.dumps(ROWS, indent=1).replace("\n", "\r"), id="array with CR"),
        pytest.param(lines(*ROWS).replace("\n", ",\n"), id="lines with commas"),
        pytest.param(json.dumps(ROWS)[:-1] + ",]", id="array with a comma at its end"),
        pytest.param("\n".join(json.dumps(row, indent=2) for row in ROWS), id="objects over many lines"),
        pytest.param("".join(json.dumps(row) for row in ROWS), id="objects one after the other"),
        pytest.param(
            "\ufeff" + ",\n".join(json.dumps(row, indent=2) for row in ROWS), id="objects with commas and BOM"
        ),
    ],
)
def test_every_form_gives_the_same_seeds(content: str) -> None:
    pool = read(content)
    assert pool.seeds == read_rows(*ROWS).seeds
    assert fields(pool) == ROWS
    assert [seed.order for seed in pool.seeds] == [0, 1, 2]
    assert (pool.bad_rows, pool.bad_count) == ((), 0)


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
    pytest.param("{'instruction': 'a'}", "not JSON: ", id="not JSON"),
    pytest.param("word", "not JSON: ", id="a word"),
    pytest.param('{"instruction": "a" "input": ""}', "not JSON: Expecting ',' delimiter (char", id="a comma too few"),
    pytest.param('{"instruction": "a\0"}', "not JSON: NUL bytes stand in it", id="NUL"),
    pytest.param('{"x": ' + "[" * 99_999 + "]" * 99_999 + "}", "not JSON: nested too deeply", id="deep"),
    pytest.param('{"instruction": "a", "x": ' + "9" * 5000 + "}", "not JSON: a number of more", id="5000 digits"),
    pytest.param('{"instruction": "a", "instruction": "b"}', "`instruction` stands in it more", id="a field twice"),
    pytest.param(
        '{"instruction": "a", "input": {"x": 1, "x": 2}}', "`input`: Input should be", id="a field in a field"
    ),
    pytest.param(b'{"instruction": "caf\xe9"}', "not UTF-8 (byte 21 of the row is 0xe9)", id="Latin-1"),
    pytest.param(b'{"instruction": "\xed\xa0\xbd"}', "not UTF-8 (byte 18 of", id="half of a character in bytes"),
    pytest.param('{"instruction": "' + "a" * ROW_BYTES + '"}', "longer than 4 MiB", id="long"),
    pytest.param('{"instruction": "' + "\\n" * ROW_BYTES + '"}', "longer than 4 MiB", id="long and escaped"),
]


def with_bad_row(opening: str, row: str | bytes, between: str, closing: str) -> Pool:
    """What is read of a file with a sound row before and after this one."""
    middle = row if isinstance(row, bytes) else row.encode()
    before, after = f"{opening}{json.dumps(FRUIT)}{between}", f"{between}{json.dumps(SORT)}{closing}"
    pool = read(before.encode() + middle + after.encode())
    assert fields(pool) == [FRUIT, SORT]
    assert [seed.order for seed in pool.seeds] == [0, 1]
    assert pool.bad_count == 1
    return pool


@pytest.mark.parametrize(("row", "says"), BAD_ROWS)
def test_a_bad_row_of_an_array_is_told_by_its_number_and_passed_over(row: str | bytes, says: str) -> None:
    (bad,) = with_bad_row("[", row, ", ", "]").bad_rows
    assert bad.startswith(f"seeds.json: row 2: {says}")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        *BAD_ROWS,
        pytest.param('{"instruction": "a', "not JSON: Unterminated string", id="truncated"),
        pytest.param('{"instruction": "a"}}', "not JSON: Extra data", id="a bracket too many"),
        pytest.param('{"instruction": "a"} {"instruction": "b"}', "not JSON: Extra data", id="two in a line"),
    ],
)
def test_a_bad_row_of_json_lines_is_told_by_its_line_and_passed_over(row: str | bytes, says: str) -> None:
    (bad,) = with_bad_row("", row, "\n\n", "\n").bad_rows
    assert bad.startswith(f"seeds.json: line 3: {says}")


@pytest.mark.parametrize(("row", "says"), BAD_ROWS)
def test_a_bad_row_among_objects_over_many_lines_is_told_by_its_line(row: str | bytes, says: str) -> None:
    middle = row if isinstance(row, bytes) else row.encode()
    pool = read(json.dumps(FRUIT, indent=1).encode() + b"\n" + middle + b"\n" + json.dumps(SORT, indent=1).encode())
    assert fields(pool) == [FRUIT, SORT]
    (bad,) = pool.bad_rows
    assert bad.startswith(f"seeds.json: line 6: {says}")


def test_a_bracket_too_many_costs_no_row_of_an_array() -> None:
    pool = read(f"[{json.dumps(FRUIT)}}}, {json.dumps(SORT)} {json.dumps(HAIKU)}]")
    assert fields(pool) == ROWS
    assert pool.bad_rows == ("seeds.json: row 2: not JSON: Expecting value (character 1 of the row)",)


def test_of_very_many_bad_rows_the_first_are_told_and_all_are_counted() -> None:
    pool = read(lines(FRUIT) + "{}\n" * 1500)
    assert len(pool.bad_rows) == BAD_ROWS_KEPT
    assert pool.bad_count == 1500


def test_what_is_told_of_a_bad_row_is_one_line_without_escapes() -> None:
    twice = json.dumps({"a\x1b[2J\n\u202eb": 1})[1:-1]
    (bad,) = read(lines(FRUIT) + "{" + twice + ", " + twice + "}\n").bad_rows
    assert (
        bad == "seeds.json: line 2: `a\\x1b[2J \\u202eb` stands in it more than once, which leaves open what is meant"
    )


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


# A file that ends too early, how many of its rows are whole, and what is said of the end.
CUT_OFF = [
    pytest.param(
        '[{"instruction": "a"},\n {"instr', 1, r"row 2: not JSON: Untermin.*; is the file complete\?", id="row"
    ),
    pytest.param('[{"instruction": "a"},\n', 1, r"end of the file: the array is not closed; is the", id="bracket"),
    pytest.param('[{"instruction": "a"}, {"instruction": "b"}', 2, r"the array is not closed; is the", id="sound row"),
    pytest.param('[{"instruction": "a"}, {"instruction": "b\\', 1, r"row 2: not JSON.*complete\?", id="in an escape"),
    pytest.param('[{"instruction": "a"}, {"instruction": "b\\u00', 1, r"row 2: not JSON.*complete\?", id="in a code"),
    pytest.param('[{"instruction": "a"}, {"instruction": tr', 1, r"row 2: not JSON.*complete\?", id="in a word"),
    pytest.param(b'[{"instruction": "a"}, {"instruction": "\xc3', 1, r"row 2: not UTF-8.*complete\?", id="in a letter"),
    pytest.param('{"instruction": "a"}\n{"instruction": "b', 1, r"line 2: not JSON: Unterm.*complete\?", id="line"),
    pytest.param('{"instruction": "a"}\n{', 1, r"line 2: not JSON: .*complete\?", id="line of one bracket"),
    pytest.param('{\n"instruction": "a"\n}\n{\n"instruction":', 1, r"line 4: not JSON.*complete\?", id="object"),
]


@pytest.mark.parametrize(("content", "whole", "says"), CUT_OFF)
def test_of_a_file_that_is_cut_off_the_whole_rows_are_used_and_the_end_is_told(
    content: str | bytes, whole: int, says: str
) -> None:
    pool = read(content)
    assert [seed.instruction for seed in pool.seeds] == ["a", "b"][:whole]
    (bad,) = pool.bad_rows
    assert re.search(says, bad)
    with pytest.raises(SeedError, match=says):
        read(content, strict=True)


GZIP = gzip.compress(json.dumps(ROWS).encode())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param('[{"instruction": "a"}]]', "more stands after the array's end, behind row 1", id="too long"),
        pytest.param(
            '[{"instruction": "a"}]\n[{"instruction": "b"}]', "more stands after the array's", id="two arrays"
        ),
        pytest.param("[" * 99_999, r"row 1 \(line 1, byte 1\): not JSON: nested too deeply: it has no end", id="deep"),
        pytest.param("[" * (ROW_BYTES + 9), r"row 1 \(line 1, byte 1\): longer than 4 MiB: it has no end", id="bomb"),
        pytest.param(
            '{"a":' * ROW_BYTES, "found .unreadable.; the first .*line 1: longer than 4 MiB", id="bomb of objects"
        ),
        pytest.param(
            '[{"instruction": "a"},\n{"instruction": "b",\n{"instruction": "c"},\n{"instruction": "d"}]',
            r"row 2 \(line 2, byte 23\): not JSON: .*cannot be told apart; correct it",
            id="a bracket too few",
        ),
        pytest.param(
            json.dumps([FRUIT]).encode("utf-16"), "not UTF-8 but UTF-16: convert it .iconv -f UTF", id="UTF-16"
        ),
        pytest.param(json.dumps([FRUIT]).encode("utf-16-le"), "not UTF-8 but UTF-16", id="UTF-16 without a mark"),
        pytest.param(json.dumps([FRUIT]).encode("utf-16-be"), "not UTF-8 but UTF-16", id="UTF-16, the other way round"),
        pytest.param(json.dumps([FRUIT]).encode("utf-32"), "not UTF-8 but UTF-32", id="UTF-32"),
        pytest.param(json.dumps([FRUIT]).encode("utf-32-be"), "not UTF-8 but UTF-32", id="UTF-32 without a mark"),
        pytest.param(bytes(9999), "begins with NUL bytes and not with text", id="NULs"),
        pytest.param(GZIP, r"compressed with gzip: unpack it \(gunzip\) and run again", id="gzip"),
        pytest.param(bz2.compress(GZIP), "compressed with bzip2: unpack it", id="bzip2"),
        pytest.param(lzma.compress(GZIP), "compressed with xz: unpack it", id="xz"),
        pytest.param(b"PK\x03\x04" + GZIP, "a zip archive, or a spreadsheet: unpack it", id="zip"),
        pytest.param(b"\x28\xb5\x2f\xfd" + GZIP, "compressed with zstd: unpack it", id="zstd"),
        pytest.param(b"PAR1" + GZIP, "a Parquet file: export it as JSON lines", id="Parquet"),
        pytest.param(b"SQLite format 3\0" + GZIP, "an SQLite database: export it as JSON lines", id="SQLite"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(content: str | bytes, says: str) -> None:
    with pytest.raises(SeedError, match=f"^seeds.json: .*{says}"):
        read(content)


def test_bytes_that_are_not_utf_8_spoil_only_their_row() -> None:
    pool = read(lines(FRUIT).encode() + b'{"instruction": "\xff"}\n' + lines(SORT).encode())
    assert fields(pool) == [FRUIT, SORT]


def test_a_number_that_is_none_in_a_field_that_is_not_read_spoils_nothing() -> None:
    assert fields(read('[{"instruction": "a", "score": NaN, "rate": -Infinity}]'))[0]["instruction"] == "a"


@pytest.mark.parametrize("opening", ["[", ""])
def test_very_many_names_in_a_row_are_read_at_once(opening: str) -> None:
    names = ", ".join(f'"{number}": 1' for number in range(200_000))
    started = time.process_time()
    with pytest.raises(SeedError, match="`7` stands in it more than once"):
        read(opening + "{" + names + ', "7": 1}')
    assert time.process_time() - started < 10


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(SeedError, match=r"nosuch.json: No such file or directory: .*--seed"):
        read_alpaca(Path("nosuch.json"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeedError, match="Is a directory"):
        read_alpaca(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "seeds.json"
    path.touch(0o000)
    with pytest.raises(SeedError, match=r"Permission denied: give the path"):
        read_alpaca(path)


def test_a_pipe_that_nobody_writes_to_is_not_waited_for() -> None:
    os.mkfifo("pipe")
    with pytest.raises(SeedError, match="pipe: not a file but a pipe or a device: write what it gives to a file"):
        read_alpaca(Path("pipe"))


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null"])
def test_a_device_is_refused(path: str) -> None:
    with pytest.raises(SeedError, match="not a file but a pipe or a device"):
        read_alpaca(Path(path))


@pytest.mark.parametrize("name", ["a\0b", "a" * 300, "a/" * 3000])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(SeedError, match="give the path of a seed file"):
        read_alpaca(Path(name))


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
