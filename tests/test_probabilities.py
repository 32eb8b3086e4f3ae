"""Judging by probability: what the tokens of a verdict say, from the wire to the dataset, and what they leave open."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import evol
from evol.engine import Outcome, execute, prepare
from evol.errors import DriftError
from evol.recipe import ROLES, resolve
from evol.records import Evolution, Request, Token
from evol.review import Run
from evol.stages.judge import Judgement, Score, opinion
from evol.stages.probabilities import expected_number, probability_of_true
from evol.teachers import ScriptedTeacher, completion_body, read_completion
from tests.conftest import SeedFile

# A token of a reply: a text that was certain, or the texts that might have stood there with the probability of each,
# of which the first is the one that does.
Part = str | Mapping[str, float]
Reply = Callable[[Request], str | bytes]

GAIN = {" false": 0.9, " true": 0.1}
SEVEN = {" 7": 0.5, " 8": 0.3, " 6": 0.2}  # 7.1 is expected
NOTICE = "judged rows without a difficulty"


def entry(part: Part) -> dict[str, Any]:
    """The token as OpenAI's API describes it."""
    shares = {part: 1.0} if isinstance(part, str) else part
    alternatives = [
        {"token": text, "bytes": list(text.encode()), "logprob": math.log(share) if share else -math.inf}
        for text, share in shares.items()
    ]
    return alternatives[0] | {"top_logprobs": alternatives}


def body(text: str, logprobs: object) -> bytes:
    completion = json.loads(completion_body(text, "Which is harder?", "scripted"))
    completion["choices"][0]["logprobs"] = logprobs
    return json.dumps(completion).encode()


def spoken(*parts: Part) -> bytes:
    """A reply of these tokens, with their probabilities."""
    content = [entry(part) for part in parts]
    return body("".join(token["token"] for token in content), {"content": content})


def silent(reply: bytes) -> bytes:
    """The same reply of a server that tells no probabilities."""
    completion = json.loads(reply)
    completion["choices"][0]["logprobs"] = None
    return json.dumps(completion).encode()


def tokens(*parts: Part) -> tuple[Token, ...]:
    return read_completion(spoken(*parts)).tokens


def truth(told: tuple[Token, ...], field: str) -> float | None:
    """With what the reply says last as what was written."""
    return probability_of_true(told, field, said(told, field, "true|false") != b"false")


def number(told: tuple[Token, ...], field: str) -> float | None:
    """With what the reply says last as what was written."""
    return expected_number(told, field, int(said(told, field, r"\d+") or 7))


def said(told: tuple[Token, ...], field: str, form: str) -> bytes:
    text = b"".join(token.text for token in told)
    found: list[bytes] = re.findall(rf'"{field}"\s*:\s*({form})'.encode(), text, re.IGNORECASE)
    return found[-1].lower() if found else b""


def no_gain(*parts: Part) -> float | None:
    return truth(tokens(*parts), "no_gain")


def difficulty(*parts: Part) -> float | None:
    return number(tokens(*parts), "difficulty")


def verdict(no_gain: Part = GAIN, difficulty: Part = SEVEN) -> bytes:
    before = '{"explanation": "More is asked.", "no_gain":'
    return spoken(before, no_gain, ', "answerable": true, "difficulty":', difficulty, "}")


def scored(difficulty: Part = SEVEN) -> bytes:
    return spoken('{"explanation": "Easy.", "difficulty":', difficulty, "}")


VERDICT, SCORE = verdict(), scored()


def script(judge: bytes | Reply = VERDICT, score: bytes | Reply = SCORE) -> ScriptedTeacher:
    """A teacher that plays all roles well, and judges and scores as it is told here."""

    def reply(request: Request) -> str | bytes:
        if request.stage == "evolve":
            return request.values["instruction"] + " Give two reasons, and say which of them weighs more and why."
        if request.stage == "respond":
            return "A proper answer of some words."
        special = judge if request.stage == "judge" else score
        return special(request) if callable(special) else special

    return ScriptedTeacher(reply)


def make(seeds: Path, teacher: ScriptedTeacher, **options: object) -> Run:
    given: dict[str, Any] = {"judge_by_probability": True, "rounds": 1}
    return evol.run(seeds, teacher=teacher, **(given | options))


def finish(seeds: Path, teacher: ScriptedTeacher, **options: object) -> Outcome:
    given = {"seed": seeds, "teacher": teacher.model, "judge_by_probability": True, "rounds": 1}
    return execute(prepare(resolve(given | options), dict.fromkeys(ROLES, teacher)))


def complaints(outcome: Outcome) -> list[str]:
    return [notice for notice in outcome.notices if NOTICE in notice]


def child_of(run: Run) -> Evolution:
    (child,) = (row for row in run.rows() if row.round == 1)
    return child


def written(run: Run) -> list[dict[str, Any]]:
    """The rows of dataset.jsonl, those of the seeds first."""
    lines = (run.path / "dataset.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted(map(json.loads, lines), key=lambda row: (row["round"], row["id"]))


@pytest.mark.parametrize(
    "parts",
    [
        ('{"no_gain":', {" false": 0.8, " true": 0.2}, "}"),
        ('{"no_gain": ', {"false": 0.8, "true": 0.2}, "}"),
        ('{"no_gain"', {":false": 0.8, ":true": 0.2}, "}"),
        ('{"no_gain"', {": true": 0.2, ": false": 0.8}, "}"),
        ('{"no_gain', {'":false': 0.8, '":true': 0.2}, "}"),
        ({'{"no_gain": false}': 0.8, '{"no_gain": true}': 0.2},),
        ('{"no_gain":', {" false}": 0.8, " true}": 0.2}),
        ('{"no_gain":', {"false,": 0.8, "true,": 0.2}, ' "difficulty": 3}'),
        ('{"no_gain":', " ", {"false": 0.8, "true": 0.2}, "}"),
        ("{\n", '  "no_gain"', "\n :", "\n\t", {"false": 0.8, "true": 0.2}, "}"),
        ("{", '"', "no", "_g", "ain", '"', ":", {" false": 0.8, " true": 0.2}, "}"),
        ('{"no_gain": ', {"t": 0.2, "f": 0.8}, "rue}"),
        ('{"no_gain":', {" f": 0.8, " tr": 0.2}, "alse", "}"),
        ('{"no_gain":', {" False": 0.8, " True": 0.2}, "}"),
        ('{"no_gain":', {" false": 0.8, " true": 0.1, "true": 0.05, "\ntrue": 0.05}, "}"),
        ('{"no_gain":', {" false": 0.4, " true": 0.1, " null": 0.3, " ": 0.1, ' "': 0.1}, "}"),
        ('{"no_gain"', {":false": 0.4, ":true": 0.1, "=true": 0.5}, "}"),
        ('{"no_gain":', {" false": 0.8, " true": 0.2}),
    ],
)
def test_no_gain_is_as_probable_as_its_token(parts: tuple[Part, ...]) -> None:
    assert no_gain(*parts) == 0.2


@pytest.mark.parametrize(
    ("shares", "probability"),
    [
        ({" true": 1.0}, 1.0),
        ({" false": 1.0}, 0.0),
        ({" false": 0.5, " true": 0.5}, 0.5),
        ({" false": 2 / 3, " true": 1 / 3}, 0.3333),
        ({" false": 1.0, " true": 1e-9}, 0.0),
    ],
)
def test_a_probability_is_told_in_four_digits(shares: Part, probability: float) -> None:
    assert no_gain('{"no_gain":', shares, "}") == probability


@pytest.mark.parametrize(
    "parts",
    [
        ('{"difficulty":', {" 7": 0.5, " 8": 0.3, " 6": 0.2}, "}"),
        ('{"difficulty": ', {"7": 0.5, "8": 0.3, "6": 0.2}, "}"),
        ('{"difficulty"', {":7": 0.5, ":8": 0.3, ":6": 0.2}, "}"),
        ('{"difficulty', {'":7': 0.5, '":8': 0.3, '":6': 0.2}, "}"),
        ('{"difficulty":', {" 7}": 0.5, " 8}": 0.3, " 6}": 0.2}),
        ('{"difficulty":', {"7,": 0.5, "8,": 0.3, "6,": 0.2}, ' "no_gain": true}'),
        ("{", '"', "difficult", "y", '" ', ":", "\n  ", {"7": 0.5, "8": 0.3, "6": 0.2}, "}"),
        ('{"difficulty":', {" 7": 0.5, " 8": 0.2, "8": 0.1, " 6": 0.2}, "}"),
        ('{"difficulty":', {"7": 0.25, "8": 0.15, "6": 0.1, "0": 0.2, "11": 0.1, "100": 0.1, "-": 0.05, "x": 0.05}),
        ('{"difficulty":', {" 6": 0.2, " 7": 0.5, " 8": 0.3}, "}"),
        ('{"difficulty":', {" 7": 0.5, " 8": 0.3, " 6": 0.2}, ".0", "}"),
    ],
)
def test_difficulty_is_what_is_expected_of_its_token(parts: tuple[Part, ...]) -> None:
    assert difficulty(*parts) == 7.1


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({"10": 1.0}, 10.0),
        ({"9": 1.0}, 9.0),
        ({"5": 0.5, "10": 0.3, "1": 0.2}, 5.7),
        ({"10": 0.3, "5": 0.5, "1": 0.2}, 5.7),
        ({"1": 0.2, "5": 0.5, "10": 0.3}, 5.88),  # the written 1 goes on with a 0 by one chance in ten
        ({" 10": 0.3, " 5": 0.5, " 1": 0.2}, 5.7),
        ({str(number): 0.1 for number in range(1, 11)}, 5.59),
        ({"3": 2 / 3, "2": 1 / 3}, 2.6667),
    ],
)
def test_a_token_of_its_own_is_a_ten(shares: Part, expected: float) -> None:
    assert difficulty('{"difficulty": ', shares, {"}": 0.9, "0": 0.1}) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (({"1": 0.4, "5": 0.6}, {"}": 0.75, "0": 0.25}), 4.3),
        (({"1": 0.4, "5": 0.6}, {"0": 0.75, "}": 0.25}, "}"), 6.1),
        (({"1": 0.4, "5": 0.6}, {"0}": 0.75, "}": 0.25}), 6.1),
        (({"1": 0.4, "5": 0.6}, {"0": 0.5, "0}": 0.25, "}": 0.25}, "}"), 6.1),
        (({" 1": 0.4, " 5": 0.6}, {"0": 0.75, "}": 0.25}, "}"), 6.1),
        (({"1\n": 0.4, "5\n": 0.6}, "}"), 3.4),
        (("1", "0", "}"), 10.0),
        (("1", "}"), 1.0),
        (("1", ".0", "}"), 1.0),
        (("1",), 1.0),
    ],
)
def test_after_a_single_1_the_next_token_tells_whether_it_is_a_ten(value: tuple[Part, ...], expected: float) -> None:
    assert difficulty('{"difficulty":', *value) == expected


def test_a_1_that_is_glued_to_its_colon_may_be_a_ten() -> None:
    assert difficulty('{"difficulty"', {":1": 0.4, ":5": 0.6}, {"0": 0.75, "}": 0.25}, "}") == 6.1


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({"5": 0.94, "1": 0.06}, None),
        ({"5": 0.6, "1": 0.4}, None),
        ({"5": 0.5, "1": 0.04, "x": 0.46}, None),
        ({"0": 0.5, "1": 0.5}, None),
        ({"5": 0.96, "1": 0.04}, 5.0),
        ({"5": 0.48, "7": 0.48, "1": 0.04}, 6.0),
    ],
)
def test_where_nobody_saw_what_follows_a_1_it_is_left_out_or_leaves_all_open(
    shares: Part, expected: float | None
) -> None:
    assert difficulty('{"difficulty":', shares, "}") == expected


@pytest.mark.parametrize("shares", [{" 1}": 0.5, " 3}": 0.5}, {" 3,": 0.5, " 1,": 0.5}])
def test_a_1_with_its_end_in_the_same_token_is_no_ten(shares: Part) -> None:
    assert difficulty('{"difficulty":', shares) == 2.0


@pytest.mark.parametrize(
    "parts",
    [
        ('{"explanation": "Short."}',),
        ("no_gain: true, difficulty: 7",),
        ('{"old_no_gain": true, "difficulty of it": 7}',),
        ('The fields "no_gain":', " ", 'and "difficulty":'),
        ('{"no_gain": null, "difficulty": null}',),
        ('{"no_gain":', {" 0": 0.5, " 1": 0.5}, ', "difficulty":', {" high": 0.5, " low": 0.5}, "}"),
        ('{"no_gain":', {" true": 0.0, " false": 0.0}, ', "difficulty":', {" 7": 0.0}, "}"),
        ('{"no_gain": "', {"yes": 1.0}, '", "difficulty": "', {"7": 1.0}, '"}'),
        ('{"difficulty":', {" 0": 0.5, " 11": 0.5}, "}"),
    ],
)
def test_where_the_tokens_do_not_say_there_is_no_number(parts: tuple[Part, ...]) -> None:
    assert (no_gain(*parts), difficulty(*parts)) == (None, None)


@pytest.mark.parametrize("told", [(), (Token(b'{"no_gain": true, "difficulty": 7}', {}),)])
def test_without_alternatives_there_is_no_number(told: tuple[Token, ...]) -> None:
    assert (truth(told, "no_gain"), number(told, "difficulty")) == (None, None)


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ({" 7": 0.5, " 3": math.nan}, 7.0),
        ({" 3": math.nan, " 7": 0.5}, 7.0),
        ({" 7": math.nan}, None),
        ({" 7": 0.5, " 3": 0.0}, 7.0),
        ({" 3": 0.0, " 7": 0.5}, 7.0),
        ({" 7": 0.0, " 3": math.nan}, None),
        ({" 7": math.inf}, 7.0),
        ({" 6": math.inf, " 7": math.inf}, 6.5),
        ({" 6": 1.0, " 7": 1.0000001}, 6.5),
    ],
)
def test_log_probabilities_that_are_no_finite_numbers_make_no_wrong_one(shares: Part, expected: float | None) -> None:
    assert difficulty('{"difficulty":', shares, "}") == expected


@pytest.mark.parametrize(
    ("shares", "expected"),
    [({" true": math.nan, " false": 0.5}, 0.0), ({" true": math.nan}, None), ({" true": math.inf}, 1.0)],
)
def test_a_truth_value_is_read_without_what_is_no_probability(shares: Part, expected: float | None) -> None:
    assert no_gain('{"no_gain":', shares, "}") == expected


def test_a_token_of_too_many_digits_is_no_number() -> None:
    assert difficulty('{"difficulty":', {" 7": 0.5, "5" * 5000: 0.5}, "}") == 7.0


@pytest.mark.parametrize(
    "parts",
    [
        ('{"difficulty":', {" 2": 1.0}, '} or rather {"difficulty":', SEVEN, "}"),
        ('<think>Say {"difficulty": 2}.</think>{"difficulty":', SEVEN, "}"),
        ('{"explanation": "Not \\"difficulty\\": 2.", "difficulty":', SEVEN, "}"),
        ('{"difficulty":', SEVEN, ', "explanation": "Not \\"difficulty\\": 2."}'),
        ('{"difficulty":', SEVEN, ', "difficulty_before": 2, "its_difficulty": 2}'),
        ('{"difficulty":', SEVEN, '} The "difficulty" is 2.'),
    ],
)
def test_the_last_value_of_a_field_counts(parts: tuple[Part, ...]) -> None:
    assert difficulty(*parts) == 7.1


def test_fields_are_told_apart() -> None:
    parts: tuple[Part, ...] = ('{"no_gain":', GAIN, ', "difficulty":', SEVEN, ', "answerable":', {" true": 1.0}, "}")
    told = tokens(*parts)
    assert (truth(told, "no_gain"), truth(told, "answerable")) == (0.1, 1.0)
    assert (number(told, "difficulty"), number(told, "no_gain")) == (7.1, None)
    assert truth(told, "difficulty") is None


def one_token(**fields: object) -> bytes:
    sound = {"token": " 7", "bytes": [32, 55], "logprob": -0.5, "top_logprobs": []}
    return body("7", {"content": [sound | fields]})


def test_tokens_are_read_with_their_alternatives() -> None:
    alternatives = [{"token": " 7", "bytes": [32, 55], "logprob": -0.5}, {"token": " 8", "bytes": None, "logprob": -1}]
    told = one_token(top_logprobs=alternatives)
    assert read_completion(told).tokens == (Token(b" 7", {b" 7": -0.5, b" 8": -1.0}),)


@pytest.mark.parametrize("given", [{"bytes": None}, {"bytes": []}, {}])
def test_where_a_server_gives_no_bytes_its_text_is_taken(given: dict[str, object]) -> None:
    alternatives = [{"token": text, "logprob": -1.0, **given} for text in (" größer", " 日本")]
    told = body("7", {"content": [alternatives[0] | {"top_logprobs": alternatives}]})
    assert read_completion(told).tokens == (
        Token(" größer".encode(), {" größer".encode(): -1.0, " 日本".encode(): -1.0}),
    )


@pytest.mark.parametrize("with_bytes", [True, False])
def test_half_characters_do_not_move_what_follows(with_bytes: bool) -> None:
    halves = [
        {"token": "\ufffd", "bytes": [half] if with_bytes else None, "logprob": 0.0, "top_logprobs": []}
        for half in "größer 日本".encode()
    ]
    rest = [entry(part) for part in ('", "difficulty":', SEVEN, "}")]
    told = read_completion(body("7", {"content": [entry('{"explanation": "'), *halves, *rest]})).tokens
    assert number(told, "difficulty") == 7.1
    assert ("größer 日本".encode() in b"".join(token.text for token in told)) is with_bytes


def test_text_that_is_no_unicode_is_no_error() -> None:
    told = read_completion(one_token(token="\ud83d", bytes=None)).tokens
    assert [token.text.decode() for token in told] == ["?"]


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        [],
        {},
        5,
        "text",
        True,
        {"content": None},
        {"content": 5},
        {"content": "text"},
        {"content": {"0": {}}},
        {"content": [None]},
        {"content": ["text"]},
        {"content": [[]]},
        {"content": [{}]},
        {"tokens": ["7"], "token_logprobs": [-0.1], "top_logprobs": [{"7": -0.1}], "text_offset": [0]},
    ],
    ids=str,
)
def test_what_is_no_list_of_tokens_is_none(logprobs: object) -> None:
    answer = read_completion(body("The Nile.", logprobs))
    assert (answer.text, answer.tokens) == ("The Nile.", ())


@pytest.mark.parametrize(
    "fields",
    [
        {"bytes": "7"},
        {"bytes": [300]},
        {"bytes": [-1]},
        {"bytes": ["7"]},
        {"bytes": [1.5]},
        {"bytes": {"0": 32}},
        {"top_logprobs": None},
        {"top_logprobs": 5},
        {"top_logprobs": "7"},
        {"top_logprobs": {"7": -0.1}},
        {"top_logprobs": [None]},
        {"top_logprobs": [{}]},
        {"top_logprobs": [{"token": "7"}]},
        {"top_logprobs": [{"logprob": -0.1}]},
        {"top_logprobs": [{"token": "7", "logprob": None}]},
        {"top_logprobs": [{"token": "7", "logprob": "much"}]},
        {"top_logprobs": [{"token": "7", "logprob": [0.1]}]},
        {"top_logprobs": [{"token": "7", "logprob": -0.1, "bytes": [300]}]},
    ],
    ids=str,
)
def test_where_one_token_is_malformed_there_are_none(fields: dict[str, object]) -> None:
    assert read_completion(one_token(**fields)).tokens == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"bytes": 3},
        {"bytes": True},
        {"bytes": 10**30},
        {"bytes": None, "token": None},
        {"bytes": None, "token": 7},
        {"top_logprobs": [{"token": "7", "logprob": -(10**400)}]},
    ],
    ids=[
        "bytes-a-number",
        "bytes-a-truth",
        "bytes-a-large-number",
        "token-null",
        "token-a-number",
        "logprob-too-large",
    ],
)
def test_what_is_neither_text_nor_bytes_is_malformed(fields: dict[str, object]) -> None:
    assert read_completion(one_token(**fields)).tokens == ()


SAID = Judgement(explanation="More is asked.", no_gain=False, answerable=True, difficulty=6)
SAID_NO_GAIN = SAID.model_copy(update={"no_gain": True})


@pytest.mark.parametrize("said", [SAID, SAID_NO_GAIN])
def test_by_verdict_the_tokens_are_not_looked_at(said: Judgement) -> None:
    told = tokens('{"no_gain":', {" true": 0.5, " false": 0.5}, ', "difficulty":', SEVEN, "}")
    held = opinion(said, told, by_probability=False)
    assert (held.no_gain, held.no_gain_probability, held.difficulty) == (said.no_gain, None, 6.0)


@pytest.mark.parametrize(
    ("said", "share", "probability", "decided"),
    [
        (SAID, 0.5, 0.5, True),
        (SAID, 0.9, 0.9, True),
        (SAID_NO_GAIN, 0.4999, 0.4999, False),
        (SAID_NO_GAIN, 0.0, 0.0, False),
        (SAID, 0.1, 0.1, False),
        (SAID_NO_GAIN, 1.0, 1.0, True),
    ],
)
def test_no_gain_is_decided_by_its_probability(
    said: Judgement, share: float, probability: float, decided: bool
) -> None:
    true, false = (" true", share), (" false", 1 - share)
    told = tokens('{"no_gain":', dict([true, false] if said.no_gain else [false, true]), "}")
    held = opinion(said, told, by_probability=True)
    assert (held.no_gain, held.no_gain_probability) == (decided, probability)


@pytest.mark.parametrize("said", [SAID, SAID_NO_GAIN])
@pytest.mark.parametrize("told", [(), tokens('{"no_gain":', {" 0": 1.0}, ', "difficulty":', {" low": 1.0}, "}")])
def test_a_verdict_without_probabilities_keeps_its_no_gain_and_loses_its_difficulty(
    said: Judgement, told: tuple[Token, ...]
) -> None:
    held = opinion(said, told, by_probability=True)
    assert (held.no_gain, held.no_gain_probability, held.difficulty) == (said.no_gain, None, None)


@pytest.mark.parametrize("by_probability", [True, False])
def test_an_instruction_is_answerable_where_the_judge_says_so(by_probability: bool) -> None:
    told = tokens('{"answerable":', {" true": 0.9, " false": 0.1}, "}")
    said = SAID.model_copy(update={"answerable": False})
    held = opinion(said, told, by_probability=by_probability)
    assert (held.answerable, held.explanation) == (False, "More is asked.")


@pytest.mark.parametrize(("by_probability", "expected"), [(True, 7.1), (False, 7.0)])
def test_a_score_knows_no_gain_in_neither_way(by_probability: bool, expected: float) -> None:
    told = tokens('{"no_gain":', {" true": 1.0}, ', "difficulty":', SEVEN, "}")
    held = opinion(Score(difficulty=7), told, by_probability=by_probability)
    assert (held.difficulty, held.no_gain, held.no_gain_probability) == (expected, False, None)


def test_a_run_by_probability_has_expectations_everywhere(seed_file: SeedFile) -> None:
    run = make(seed_file(1), script())
    assert (child_of(run).difficulty, child_of(run).no_gain_probability) == (7.1, 0.1)
    seed, child = written(run)
    assert (child["difficulty"], child["no_gain_probability"]) == (7.1, 0.1)
    assert (seed["difficulty"], seed["no_gain_probability"]) == (None, None)
    assert run.frame()["no_gain_probability"].dropna().tolist() == [0.1]
    assert run.stats().by_round[1].mean_difficulty == 7.1


@pytest.mark.parametrize(
    ("no_gain", "kept"),
    [
        ({" false": 0.5, " true": 0.5}, False),
        ({" false": 0.1, " true": 0.9}, False),
        ({" true": 0.4, " false": 0.6}, True),
        ({" true": 0.6, " false": 0.4}, False),
    ],
)
def test_no_gain_as_likely_as_not_eliminates_whatever_was_sampled(
    seed_file: SeedFile, no_gain: Part, kept: bool
) -> None:
    run = make(seed_file(1), script(verdict(no_gain)))
    child = child_of(run)
    assert child.kept is kept
    assert child.reason == ("" if kept else "no_gain")
    assert child.difficulty == 7.1
    assert run.frame(eliminated=True)["no_gain_probability"].tolist() == ([] if kept else [child.no_gain_probability])


@pytest.mark.parametrize(("no_gain", "reason"), [(" false", ""), (" true", "no_gain")])
def test_a_judge_that_tells_no_probabilities_decides_as_it_says_and_rates_nothing(
    seed_file: SeedFile, no_gain: str, reason: str
) -> None:
    run = make(seed_file(1), script(silent(verdict(no_gain))))
    child = child_of(run)
    assert (child.reason, child.difficulty, child.no_gain_probability) == (reason, None, None)
    assert [(row["difficulty"], row["no_gain_probability"]) for row in written(run)] == [(None, None)] * len(
        written(run)
    )
    frame = run.frame(eliminated=bool(reason))
    for name in ("difficulty", "no_gain_probability"):
        assert frame[name].dtype == "float64"
        assert frame[name].isna().all()
    assert run.stats().by_round[1].mean_difficulty is None


@pytest.mark.parametrize(
    ("reply", "known"),
    [
        (verdict(no_gain={" false": 0.0}), (7.1, None)),
        (verdict(difficulty={" 7": 0.0}), (None, 0.1)),
        (verdict(difficulty={" 5": 0.6, " 1": 0.4}), (None, 0.1)),
    ],
)
def test_what_one_field_leaves_open_the_other_may_tell(
    seed_file: SeedFile, reply: bytes, known: tuple[float | None, float | None]
) -> None:
    child = child_of(make(seed_file(1), script(reply)))
    assert (child.difficulty, child.no_gain_probability) == known


def test_the_probabilities_are_those_of_the_reply_that_could_be_read(seed_file: SeedFile) -> None:
    def read_at_the_second_time(request: Request) -> bytes:
        again = "could not be read" in request.user
        return verdict() if again else spoken('{"no_gain":', {" true": 1.0}, ', "difficulty":', {" 2": 1.0})

    teacher = script(read_at_the_second_time)
    child = child_of(make(seed_file(1), teacher))
    assert (child.difficulty, child.no_gain_probability) == (7.1, 0.1)
    assert [request.probabilities for request in teacher.requests] == [False, True, True, False]


def test_a_judgement_that_cannot_be_read_is_not_read_from_its_probabilities(seed_file: SeedFile) -> None:
    child = child_of(make(seed_file(1), script(spoken('"no_gain":', GAIN, ', "difficulty":', SEVEN))))
    assert (child.reason, child.difficulty, child.no_gain_probability) == ("unjudged", None, None)


@pytest.mark.parametrize(("by_probability", "asked"), [(True, {"judge", "score"}), (False, set())])
def test_probabilities_are_asked_for_where_they_are_used(
    seed_file: SeedFile, by_probability: bool, asked: set[str]
) -> None:
    teacher = script()
    make(seed_file(1), teacher, judge_by_probability=by_probability, score_seeds=True)
    assert {request.stage for request in teacher.requests if request.probabilities} == asked
    assert {request.stage for request in teacher.requests} == {"evolve", "judge", "respond", "score"}


def test_without_the_option_probabilities_change_nothing(seed_file: SeedFile) -> None:
    seeds, off = seed_file(3), {"judge_by_probability": False, "score_seeds": True, "rounds": 2}
    reply = verdict(no_gain={" false": 0.1, " true": 0.9})
    told = make(seeds, script(reply), out="outputs/told", **off)
    untold = make(seeds, script(silent(reply), silent(scored())), out="outputs/untold", **off)
    assert (told.path / "dataset.jsonl").read_bytes() == (untold.path / "dataset.jsonl").read_bytes()
    assert told.frame()["difficulty"].tolist() == [7.0] * 9
    assert told.frame()["no_gain_probability"].isna().all()


def test_both_ways_of_judging_write_the_same_keys_and_types(seed_file: SeedFile) -> None:
    seeds = seed_file(2)
    by_verdict = make(seeds, script(), out="outputs/verdict", judge_by_probability=False)
    by_probability = make(seeds, script(), out="outputs/probability")
    assert {tuple(row) for row in written(by_verdict)} == {tuple(row) for row in written(by_probability)}
    assert by_verdict.frame().dtypes.to_dict() == by_probability.frame().dtypes.to_dict()


def test_a_finished_run_by_probability_asks_nothing_again(seed_file: SeedFile) -> None:
    seeds = seed_file(3)
    before = (make(seeds, script(), score_seeds=True).path / "dataset.jsonl").read_bytes()
    again = make(seeds, ScriptedTeacher([]), score_seeds=True)
    assert (again.path / "dataset.jsonl").read_bytes() == before


def test_seeds_are_scored_by_what_is_expected(seed_file: SeedFile) -> None:
    run = make(seed_file(2), script(), rounds=0, score_seeds=True)
    assert run.frame()["difficulty"].tolist() == [7.1, 7.1]
    assert run.frame()["no_gain_probability"].isna().all()
    assert run.stats().by_round[0].mean_difficulty == 7.1


@pytest.mark.parametrize("score", [silent(scored()), scored({" 7": 0.0}), scored({" 5": 0.6, " 1": 0.4})])
def test_a_seed_whose_score_leaves_it_open_is_kept_without_a_number(seed_file: SeedFile, score: bytes) -> None:
    outcome = finish(seed_file(2), script(score=score), rounds=0, score_seeds=True)
    rows = written(evol.load(outcome.folder.path))
    assert [row["difficulty"] for row in rows] == [None, None]
    assert complaints(outcome)[0].startswith(f"{NOTICE}: 2;")


def test_a_mean_is_over_what_is_known(seed_file: SeedFile) -> None:
    def silent_on_one(request: Request) -> bytes:
        return silent(scored()) if "number 1 " in request.user else scored()

    outcome = finish(seed_file(3), script(score=silent_on_one), rounds=0, score_seeds=True)
    assert outcome.tally.unrated == 1
    group = evol.load(outcome.folder.path).stats().by_round[0]
    assert (group.scored, group.mean_difficulty) == (2, 7.1)


@pytest.mark.parametrize("reply", [silent(verdict()), silent(verdict(" true")), verdict(difficulty={" 7": 0.0})])
def test_a_run_ends_with_how_many_rows_have_no_difficulty(seed_file: SeedFile, reply: bytes) -> None:
    outcome = finish(seed_file(3), script(reply), rounds=2)
    assert [notice.partition(";")[0] for notice in complaints(outcome)] == [f"{NOTICE}: 6"]
    assert f"{NOTICE}: 6;" in (outcome.folder.path / "run.log").read_text(encoding="utf-8")


def test_a_resumed_run_says_again_how_many_rows_have_no_difficulty(seed_file: SeedFile) -> None:
    seeds = seed_file(3)
    finish(seeds, script(silent(verdict())))
    assert complaints(finish(seeds, ScriptedTeacher([])))[0].startswith(f"{NOTICE}: 3;")


@pytest.mark.parametrize(
    ("teacher", "options"),
    [
        (script(), {}),
        (script(silent(verdict())), {"judge_by_probability": False}),
        (script(spoken("Seven out of ten, I would say.")), {}),
        (script(silent(verdict())), {"rounds": 0}),
        (script(score=spoken("Hard.")), {"judge_by_probability": False, "score_seeds": True}),
    ],
    ids=["told", "by verdict", "unjudged", "nothing judged", "unscored by verdict"],
)
def test_no_run_complains_of_probabilities_without_need(
    seed_file: SeedFile, teacher: ScriptedTeacher, options: dict[str, object]
) -> None:
    assert complaints(finish(seed_file(2), teacher, **options)) == []


def test_an_unreadable_score_is_not_laid_to_its_probabilities(seed_file: SeedFile) -> None:
    score = spoken("Seven out of ten, I would say.")
    assert complaints(finish(seed_file(2), script(score=score), rounds=0, score_seeds=True)) == []


@pytest.mark.parametrize("before", [True, False])
def test_another_way_of_judging_is_refused_by_name(seed_file: SeedFile, before: bool) -> None:
    seeds = seed_file(1)
    make(seeds, script(), judge_by_probability=before)
    with pytest.raises(DriftError, match=r"judging \(was by (verdict, is by probability|probability, is by verdict)\)"):
        make(seeds, script(), judge_by_probability=not before)


def test_another_way_of_judging_that_is_accepted_asks_the_judge_and_nobody_else(seed_file: SeedFile) -> None:
    seeds = seed_file(2)
    make(seeds, script(), judge_by_probability=False)
    teacher = script()
    run = make(seeds, teacher, accept_drift=True)
    assert [request.stage for request in teacher.requests] == ["judge", "judge"]
    assert run.frame()["difficulty"].dropna().tolist() == [7.1, 7.1]


def test_what_the_tokens_spell_elsewhere_is_not_the_verdict() -> None:
    told = tokens('{"no_gain":', GAIN, ', "difficulty":', SEVEN, '} The scale: {"no_gain":', {" true": 1.0}, "}")
    assert probability_of_true(told, "no_gain", False) == 0.1
    assert probability_of_true(tokens('{"no_gain": "', {"true": 1.0}, '"}'), "no_gain", True) is None
    assert expected_number(told, "difficulty", 2) is None


@pytest.mark.parametrize("following", [{"0": 0.99, "}": 0.01}, "0"])
def test_a_10_in_two_tokens_is_a_10_whatever_else_was_possible(following: Part) -> None:
    told = tokens('{"difficulty": ', {"1": 0.97, "9": 0.03, "10": 1e-6}, following, "}")
    expected = expected_number(told, "difficulty", 10)
    assert expected is not None
    assert expected > 9.8
