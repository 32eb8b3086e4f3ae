"""What a teacher sent is read, or refused as what it is: bodies of completions, and the JSON objects in their texts."""

from __future__ import annotations

import json

import pytest

from evol.errors import BadReply, DoesNotFit, RequestRefused
from evol.records import Answer, Usage
from evol.stages.judge import JUDGEMENT_SCHEMA, SCORE_SCHEMA, Judgement, Score
from evol.stages.reading import read_object, strict_schema
from evol.teachers import check_cut, completion_body, read_completion

CAP = 100  # tokens


def verdict(**fields: object) -> str:
    """A judge's reply with these fields in place of, or beside, those of a sound one."""
    sound = {"explanation": "It asks for more.", "no_gain": False, "answerable": True, "difficulty": 5}
    return json.dumps(sound | fields)


def read_difficulty(text: str) -> int | None:
    judgement = read_object(text, Judgement)
    return judgement.difficulty if judgement else None


def body(message: object, finish_reason: str | None = "stop", usage: object = None) -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def said(content: object, **fields: object) -> bytes:
    return body({"role": "assistant", "content": content, **fields})


def cut(content: str, completion_tokens: int | None) -> bytes:
    usage = None if completion_tokens is None else {"prompt_tokens": 7, "completion_tokens": completion_tokens}
    return body({"content": content}, "length", usage)


@pytest.mark.parametrize(
    "text",
    [
        verdict(),
        f"\n  {verdict()}  \n",
        json.dumps(json.loads(verdict()), indent=2),
        f"```json\n{verdict()}\n```",
        f"```\n{verdict()}\n```\nThat is my verdict.",
        f"Both ask for a river. {verdict()} I hope this helps.",
        f"The set {{1, 2}} is in both.\n{verdict()}",
        f"{verdict()} }} }} {{",
        f'{{"note": "no verdict"}} {verdict()}',
        f"[{verdict()}]",
        verdict(explanation='It has {braces}, "quotes" and }{ of its own.'),
        verdict(confidence=0.9, notes={"a": {"b": [1, 2]}}),
        verdict(difficulty=5.0),
        verdict(difficulty="5"),
    ],
)
def test_a_verdict_is_found_in_what_stands_around_it(text: str) -> None:
    assert read_difficulty(text) == 5


@pytest.mark.parametrize(
    "text",
    [
        f"{verdict(difficulty=2)} or rather {verdict(difficulty=5)}",
        f"[{verdict(difficulty=2)}, {verdict(difficulty=5)}]",
        f"{verdict(difficulty=5)} and never {verdict(difficulty=11)}",
        f"{verdict(difficulty=5)} and never {verdict(difficulty=None)}",
        f'{verdict(difficulty=5)} {{"difficulty": 9}}',
        f"{verdict(difficulty=5)} {verdict(difficulty=9)[:-1]}",
        f'{{"explanation": "cut o {verdict(difficulty=5)}',
    ],
)
def test_the_last_valid_verdict_wins(text: str) -> None:
    assert read_difficulty(text) == 5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not equal",
        "5",
        "null",
        "{}",
        "{" * 50,
        "}{",
        verdict()[:-1],
        verdict()[1:],
        verdict().replace('"', "'"),
        "[false, true, 5]",
        json.dumps(verdict()),
    ],
)
def test_what_holds_no_verdict_is_none(text: str) -> None:
    assert read_object(text, Judgement) is None


@pytest.mark.parametrize("field", ["no_gain", "answerable", "difficulty"])
def test_a_verdict_that_lacks_a_field_is_none(field: str) -> None:
    fields = json.loads(verdict())
    del fields[field]
    assert read_object(json.dumps(fields), Judgement) is None


@pytest.mark.parametrize(
    "difficulty",
    [
        0,
        11,
        -5,
        10**400,
        5.5,
        None,
        "",
        "hard",
        "5/10",
        [5],
        float("nan"),
        float("inf"),
        True,
    ],
    ids=str,
)
def test_a_difficulty_that_is_none_is_never_made_one(difficulty: object) -> None:
    assert read_object(verdict(difficulty=difficulty), Judgement) is None


def test_a_number_of_too_many_digits_is_none() -> None:
    assert read_object(verdict().replace("5", "5" * 5000), Judgement) is None


@pytest.mark.parametrize("opening", ['{"a":', "{", '{"a":['])
@pytest.mark.parametrize("closing", ["", "}"])
def test_10_000_levels_are_no_verdict_and_no_crash(opening: str, closing: str) -> None:
    assert read_object(opening * 10_000 + "1" + closing * 10_000, Judgement) is None


def test_a_verdict_is_found_behind_many_braces() -> None:
    assert read_difficulty(r"The slope is \frac{a}{b}. " * 60 + verdict()) == 5


def test_an_explanation_can_be_written_as_utf_8() -> None:
    judgement = read_object(verdict(explanation="half an emoji: \ud83d"), Judgement)
    assert judgement
    assert judgement.explanation.encode() == "half an emoji: \ufffd".encode()


def test_a_score_needs_no_verdict() -> None:
    assert read_object('{"explanation": "Easy.", "difficulty": 2}', Score) == Score(explanation="Easy.", difficulty=2)


@pytest.mark.parametrize(("form", "schema"), [(Judgement, JUDGEMENT_SCHEMA), (Score, SCORE_SCHEMA)])
def test_a_schema_requires_every_field_and_allows_no_other(
    form: type[Judgement | Score], schema: dict[str, object]
) -> None:
    assert schema["required"] == list(form.model_fields)
    assert schema["additionalProperties"] is False


def test_a_schema_says_types_and_bounds_and_nothing_else() -> None:
    assert strict_schema(Score) == {
        "type": "object",
        "properties": {
            "explanation": {"type": "string"},
            "difficulty": {"type": "integer", "minimum": 1, "maximum": 10},
        },
        "required": ["explanation", "difficulty"],
        "additionalProperties": False,
    }


def test_a_verdict_explains_before_it_decides() -> None:
    assert JUDGEMENT_SCHEMA["required"] == ["explanation", "no_gain", "answerable", "difficulty"]


def test_what_was_thought_and_stands_only_in_the_total_counts() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 118}
    assert read_completion(body({"content": "The Nile."}, usage=usage)).usage == Usage(9, 109)


def test_a_completion_is_read_whole() -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    assert read_completion(body({"content": "The Nile."}, usage=usage)) == Answer("The Nile.", usage=Usage(12, 3))


def test_the_body_of_a_teacher_that_is_no_server_is_read_back() -> None:
    text = 'Größe "日本" \\ \n\t'
    answer = read_completion(completion_body(text, "Name a river.", "demo"))
    assert (answer.text, answer.truncated) == (text, False)
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens > 0


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"<html>502 Bad Gateway</html>",
        b'{"choices": [',
        b"\xff\xfe\xfd",
        b"[" * 100_000,
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"error": {"message": "overloaded"}}',
        b'{"choices": null}',
        b'{"choices": []}',
        b'{"choices": {"0": {}}}',
        b'{"choices": "text"}',
        b'{"choices": [null]}',
        b'{"choices": ["text"]}',
        b'{"choices": [{}]}',
        b'{"choices": [{"text": "of the old completions"}]}',
        b'{"choices": [{"message": "text"}]}',
    ],
    ids=lambda reply: reply[:30].decode("latin-1"),
)
def test_what_is_no_completion_is_asked_again(reply: bytes) -> None:
    with pytest.raises(BadReply):
        read_completion(reply)


@pytest.mark.parametrize(
    "reply",
    [
        said(""),
        said(" \n\t "),
        said(None),
        said(5),
        body({"role": "assistant"}),
        said("", reasoning_content="I think, and say nothing."),
        said("<think>I think, and say nothing.</think>\n"),
    ],
)
def test_a_reply_without_text_is_asked_again(reply: bytes) -> None:
    with pytest.raises(BadReply, match="empty"):
        read_completion(reply)


@pytest.mark.parametrize(
    ("reply", "text", "reasoning"),
    [
        (said("The Nile."), "The Nile.", ""),
        (said("The Nile.", reasoning_content="Long."), "The Nile.", "Long."),
        (said("The Nile.", reasoning="Long."), "The Nile.", "Long."),
        (said("The Nile.", reasoning_content=None, reasoning="Long."), "The Nile.", "Long."),
        (said("The Nile.", reasoning_content=["Long."]), "The Nile.", ""),
        (said("<think>Long.</think>The Nile."), "The Nile.", "Long."),
        (said("<think>\nLong.\nOld.\n</think>\n\nThe Nile."), "The Nile.", "Long.\nOld."),
        (said("\n<thinking>Long.</thinking> The Nile."), "The Nile.", "Long."),
        (said("<think>\n\n</think>\n\nThe Nile."), "The Nile.", ""),
        (said("Long.\n</think>\nThe Nile."), "The Nile.", "Long."),
        (said("In HTML, <thinker> is no tag."), "In HTML, <thinker> is no tag.", ""),
    ],
)
def test_reasoning_is_kept_apart_from_the_text(reply: bytes, text: str, reasoning: str) -> None:
    assert read_completion(reply) == Answer(text, reasoning)


@pytest.mark.parametrize("tokens", [1, 50, CAP - 1])
def test_a_reply_cut_below_its_cap_is_asked_again(tokens: int) -> None:
    with pytest.raises(BadReply, match=f"after {tokens} of {CAP} tokens"):
        check_cut(read_completion(cut("The Ni", tokens)), CAP, None)


@pytest.mark.parametrize("tokens", [CAP, CAP + 1, None, 0])
def test_a_reply_cut_at_its_cap_or_nobody_knows_where_is_truncated(tokens: int | None) -> None:
    answer = read_completion(cut("The Ni", tokens))
    check_cut(answer, CAP, None)
    assert (answer.text, answer.truncated) == ("The Ni", True)


@pytest.mark.parametrize(("tokens", "context"), [(20, 27), (20, 29), (50, 58)])
def test_a_reply_cut_at_the_end_of_the_context_does_not_fit(tokens: int, context: int) -> None:
    with pytest.raises(DoesNotFit, match=f"context of {context} tokens cut the reply after {tokens}"):
        check_cut(read_completion(cut("The Ni", tokens)), CAP, context)  # the prompt is 7 tokens


def test_a_reply_cut_well_before_the_end_of_the_context_is_asked_again() -> None:
    with pytest.raises(BadReply):
        check_cut(read_completion(cut("The Ni", 20)), CAP, 40)


def test_a_reply_that_spent_its_cap_on_reasoning_is_truncated_and_not_asked_again() -> None:
    assert read_completion(cut("", CAP)) == Answer("", truncated=True, usage=Usage(7, CAP))


@pytest.mark.parametrize("finish_reason", ["stop", "eos", "", None])
def test_a_reply_that_ended_by_itself_is_not_truncated(finish_reason: str | None) -> None:
    usage = {"completion_tokens": CAP}
    assert not read_completion(body({"content": "The Nile."}, finish_reason, usage)).truncated


@pytest.mark.parametrize("content", ["", None, "The Ni"])
def test_a_reply_that_the_filter_withheld_is_never_asked_again(content: str | None) -> None:
    with pytest.raises(RequestRefused, match="content filter"):
        read_completion(body({"content": content}, "content_filter"))


@pytest.mark.parametrize(
    ("text", "read"),
    [("half \ud83d", "half \ufffd"), ("\ude00 half", "\ufffd half"), ("\ud83d\ud83d\ude00", "\ufffd\U0001f600")],
    ids=ascii,
)
def test_lone_surrogates_are_replaced(text: str, read: str) -> None:
    assert read_completion(said(text)).text == read
    assert read_completion(said("The Nile.", reasoning=text)).reasoning == read


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert read_completion(b'{"choices": [{"message": {"content": "\\ud83d\\ude00"}}]}').text == "\U0001f600"


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        "many",
        5,
        {},
        {"prompt_tokens": None, "completion_tokens": "12"},
        {"prompt_tokens": -3, "completion_tokens": 1.5},
        {"prompt_tokens": [1], "completion_tokens": {}},
        {"prompt_tokens": True},
    ],
    ids=str,
)
def test_usage_that_cannot_be_read_is_0(usage: object) -> None:
    assert read_completion(body({"content": "The Nile."}, usage=usage)).usage == Usage(0, 0)


def test_usage_is_read_as_far_as_it_can_be() -> None:
    usage = {"prompt_tokens": "12", "completion_tokens": 3}
    assert read_completion(body({"content": "The Nile."}, usage=usage)).usage == Usage(0, 3)
