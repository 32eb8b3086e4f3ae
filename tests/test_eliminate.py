"""The rules that eliminate a row without asking anybody: what each must see, and what it must leave alone."""

from __future__ import annotations

from functools import cache

import pytest

from evol.packs import Pack, load_pack
from evol.records import Answer, Reason, Verdict
from evol.stages.eliminate import (
    EVOLUTION_RULES,
    RESPONSE_RULES,
    Response,
    Rewrite,
    degenerate_response,
    eliminate,
    empty_response,
    empty_rewrite,
    hard_to_answer,
    over_budget,
    refused_response,
    refused_rewrite,
    scaffold_leak,
    truncated,
    unchanged,
)

LIMIT = 90  # words
PARENT = "Name a river."


@cache
def pack() -> Pack:
    return load_pack("wizardlm")


def rewrite(child: str, parent: str = PARENT, *, operator: str = "deepen", cut: bool = False) -> Rewrite:
    return Rewrite(parent, child, Answer(child, truncated=cut), LIMIT, pack().templates[operator].scaffold)


def response(text: str, instruction: str = PARENT, *, cut: bool = False) -> Response:
    return Response(instruction, Answer(text, truncated=cut))


def words(count: int, word: str = "word") -> str:
    return " ".join([word] * count)


@pytest.mark.parametrize("seen", [rewrite("Name a lo", cut=True), response("The Ni", cut=True), response("", cut=True)])
def test_a_reply_cut_at_its_cap_is_truncated(seen: Rewrite | Response) -> None:
    assert truncated(seen)


@pytest.mark.parametrize("seen", [rewrite("Name a long"), response("The Nile is"), response("It goes on ...")])
def test_a_reply_that_ended_by_itself_is_not_truncated(seen: Rewrite | Response) -> None:
    assert truncated(seen) is None


@pytest.mark.parametrize("child", ["", " \n\t", "...", "?!", "---", "\u201c\u201d", "```\n```", "_"])
def test_a_rewrite_without_a_word_is_empty(child: str) -> None:
    assert empty_rewrite(rewrite(child))


@pytest.mark.parametrize("child", ["Why?", "2 + 2", "x", "日本", "...continue", "`ls`"])
def test_a_rewrite_with_a_word_is_not_empty(child: str) -> None:
    assert empty_rewrite(rewrite(child)) is None


@pytest.mark.parametrize("text", ["", " ", "\n\n\t", "\u3000"])
def test_a_response_without_text_is_empty(text: str) -> None:
    assert empty_response(response(text))


@pytest.mark.parametrize("text", ["A", "42", "→", "...", " no "])
def test_a_response_with_any_text_is_not_empty(text: str) -> None:
    assert empty_response(response(text)) is None


REFUSALS = [
    "I can't help with that.",
    "I can\u2019t help with that.",
    "I cannot assist with this request.",
    "I CANNOT PROVIDE THIS.",
    "I can not do that.",
    "I'm sorry, but I can't do that.",
    "I\u2019m sorry, but I can\u2019t assist with that.",
    "Sorry, I won't rewrite this prompt.",
    "Unfortunately, I am unable to comply with your request.",
    "I\u2019m unable to create this content.",
    "I apologize, but I'm not able to continue.",
    "Thank you for asking. After some thought, I will not generate such a text.",
    "As an AI, I have no opinions.",
    "As an AI language model, I have never seen a river.",
    "As a large language model I have no body.",
    "Es tut mir leid, aber ich kann dabei nicht helfen.",
    "Ich kann Ihnen dabei leider nicht weiterhelfen.",
    "Als KI habe ich keine Meinung.",
    "Je suis désolé, mais je ne peux pas vous aider.",
    "Je ne peux pas t\u2019aider.",
    "Je ne suis pas en mesure de répondre.",
    "Lo siento, pero no puedo ayudarte con eso.",
    "Desculpe, mas não posso ajudar com isso.",
    "Mi dispiace, non posso aiutarti.",
    "Извините, но я не могу помочь с этим.",
    "申し訳ありませんが、その件についてはお手伝いできません。",
    "申し訳ございませんが、お答えできかねます。",
    "抱歉，我无法提供这方面的内容。",
    "我不能协助完成这个请求。",
    "죄송하지만 그 요청은 도와드릴 수 없습니다.",
    "I cannot fulfill your request.",
    "I won't be able to help with that.",
    "I cannot in good conscience help with that.",
    "Leider kann ich Ihnen dabei nicht helfen.",
    "К сожалению, я не могу вам помочь.",
    "申し訳ありませんが、お手伝いすることができません。",
    "很抱歉，我无法为您提供帮助。",
    "我无法为您提供帮助。",
]
NO_REFUSALS = [
    "I can't wait to join your team and to bring ten years of practice with me.",
    "I can\u2019t believe that it rained.",
    "He said that he cannot help.",
    "Explain to a child why a computer cannot answer every question.",
    "You are a tired clerk. Tell a customer that the office can't process her form today.",
    "Act as an airline pilot and describe a landing.",
    "As an aid to memory, write a rhyme.",
    "Explain what makes an AI different from a calculator.",
    "I can help with that.",
    "Which article of the law could not provide help here?",
    "The hi-fi can't produce bass.",
    "Ich kann nicht tanzen, aber singen.",
    "No puedo dormir. ¿Qué hago?",
    "Я не могу уснуть.",
    "我不能吃辣，请推荐一道菜。",
    "お手伝いできることはありますか。",
    words(60) + " I cannot help with that.",
    "I cannot help but admire how your team works.",
    "I could not answer her. The train had left.",
    "I will not give up on this river.",
    "I can't create an account in the app. List what I should check, in order.",
    "You work as an AI engineer at a bank. Plan your first week.",
    "Play a weary clerk who begins every sentence with 'I cannot help you'.",
    "Wir arbeiten als KI-Ingenieure. Schreibe uns eine Stellenanzeige.",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_seen_of_the_evolver_and_of_the_responder(text: str) -> None:
    assert refused_rewrite(rewrite(text))
    assert refused_response(response(text))


@pytest.mark.parametrize("text", NO_REFUSALS)
def test_what_only_sounds_like_a_refusal_is_left_alone(text: str) -> None:
    assert refused_rewrite(rewrite(text)) is None
    assert refused_response(response(text)) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Reply to a customer: 'I cannot provide a refund.'", "I cannot provide a refund: say this in two kind lines."),
        ("Say 'I CAN\u2019T HELP' politely.", "I can't help: say this politely, and offer one other way."),
        ("Write what comes after: As an AI language model", "As an AI language model, I weigh less than a feather."),
        ("Übersetze: Ich kann nicht helfen.", "Ich kann nicht helfen."),
    ],
)
def test_what_the_text_before_it_says_is_no_refusal(before: str, after: str) -> None:
    assert refused_rewrite(rewrite(after, before)) is None
    assert refused_response(response(after, before)) is None


def test_a_refusal_in_other_words_than_the_text_before_it_is_seen() -> None:
    assert refused_rewrite(rewrite("As an AI, I have no taste.", "I cannot help eating sweets. Advise me."))


def test_a_refusal_after_words_of_the_text_before_it_is_seen() -> None:
    assert refused_response(response("As an AI, I cannot help with that.", "Play the part of a poet, not as an AI."))


def test_a_refusal_is_told_in_its_words() -> None:
    assert refused_response(response("I can\u2019t help.")) == 'it declines: "i can\'t help"'


@pytest.mark.parametrize(
    ("operator", "child"),
    [
        ("deepen", "Rewritten instruction: Name a long river."),
        ("deepen", "REWRITTEN INSTRUCTION\n\nName a long river."),
        ("deepen", "Do what the given instruction asks, and say why."),
        ("deepen", "Keep the given\ninstruction and say why."),
        ("deepen", "Fill the given_instruction field."),
        ("concretize", "Name a river. (This is the rewritten instruction.)"),
        ("breadth", "Created instruction: name a lake."),
        ("breadth", "Unlike the given instruction, name a lake."),
        ("deepen", "<instruction-0a1b2c3d>\nName a long river."),
        ("deepen", "Name a long river.\n</instruction-0a1b2c3d>"),
    ],
)
def test_words_of_the_template_are_a_leak(operator: str, child: str) -> None:
    assert scaffold_leak(rewrite(child, operator=operator))


@pytest.mark.parametrize(
    ("operator", "child"),
    [
        ("deepen", "Name a long river."),
        ("deepen", "Assemble the shelf by the given instructions."),
        ("deepen", "List rewritten instructions in the kernel's log."),
        ("deepen", "You are given an instruction set: ADD, SUB, JMP."),
        ("deepen", "Was the prompt given? Instruction follows below."),
        ("deepen", "Explain misgiven instruction in a dream."),
        ("deepen", "Name the created instruction of the court."),
        ("breadth", "Compare a rewritten instruction with its first edition."),
        ("deepen", "Parse <instruction>ADD 1, 2</instruction> as XML."),
        ("deepen", "Open the file <instruction-manual>."),
        ("deepen", "Parse <instruction-0a1b2c3> as a tag."),
        ("deepen", "Parse <parent-0a1b2c3d> as a tag."),
        ("deepen", "Which operator deepens a question? Add constraints."),
    ],
)
def test_words_that_are_not_of_the_template_are_no_leak(operator: str, child: str) -> None:
    assert scaffold_leak(rewrite(child, operator=operator)) is None


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("Shorten the given instruction: Sit.", "Shorten the given instruction to one word: Sit down."),
        ("Shorten the Given Instruction.", "Shorten the given_instruction by half."),
        ("What is </instruction-0a1b2c3d>?", "What is </instruction-ffffffff>, and who wrote it?"),
    ],
)
def test_words_that_the_parent_had_are_no_leak(parent: str, child: str) -> None:
    assert scaffold_leak(rewrite(child, parent)) is None


def test_a_leak_beside_words_that_the_parent_had_is_seen() -> None:
    child = "Rewritten instruction: shorten the given instruction by half."
    assert scaffold_leak(rewrite(child, "Shorten the given instruction.")) == "it says 'Rewritten instruction'"


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("Name a river.", "Name a river."),
        ("Name a river.", "NAME A RIVER"),
        ("Name a river.", "  name\n\na   river "),
        ("Name a river.", "Name: 'a' river?!"),
        ("Name a river.", "**Name** a _river_."),
        ("Sort this:\n3, 1", "Sort this: 3 1"),
        ("川の名前を一つ。", "川の名前を一つ！"),
        ("Don\u2019t stop.", "Don't stop."),
    ],
)
def test_the_same_words_are_unchanged(parent: str, child: str) -> None:
    assert unchanged(rewrite(child, parent))


@pytest.mark.parametrize(
    ("parent", "child"),
    [
        ("Name a river.", "Name a long river."),
        ("Name a river.", "A river: name."),
        ("Name a river.", "Name a river river."),
        ("Add 2 and 3.", "Add 2 and 4."),
        ("Round 3.5 up.", "Round 35 up."),
        ("Schreibe über Öl.", "Schreibe uber Ol."),
        ("川の名前を一つ。", "山の名前を一つ。"),
        ("Write it in C.", "Write it in C++."),
        ("What is 7 + 3?", "What is 7 % 3?"),
        ("Solve x < 3.", "Solve x ≥ 3."),
        ("What is 7 * 3?", "What is 7 - 3?"),
        ("Read x[0] aloud.", "Read x(0) aloud."),
    ],
)
def test_other_words_are_a_change(parent: str, child: str) -> None:
    assert unchanged(rewrite(child, parent)) is None


@pytest.mark.parametrize(
    "added",
    [
        words(LIMIT + 1),
        words(LIMIT + 1, "mot-clé"),
        words(LIMIT + 1, "слово"),
        "語" * (2 * LIMIT + 2),
        "、".join(["日本語を学ぶ"] * 40),
        "ก" * (5 * LIMIT + 5),
    ],
    ids=["English", "French", "Russian", "Japanese", "Japanese phrases", "Thai"],
)
def test_more_words_than_the_limit_are_over_budget(added: str) -> None:
    assert over_budget(rewrite(f"{PARENT} {added}"))


@pytest.mark.parametrize(
    "added",
    [
        "",
        words(LIMIT),
        words(LIMIT, "mot-clé"),
        words(LIMIT, "don't"),
        "語" * (2 * LIMIT),
        "、".join(["日本語を学ぶ"] * 20),
        "ก" * (5 * LIMIT),
        "... " * 500,
        words(40, "हिन्दी"),
    ],
    ids=["nothing", "English", "French", "apostrophes", "Japanese", "Japanese phrases", "Thai", "dots", "Hindi"],
)
def test_words_up_to_the_limit_are_not_over_budget(added: str) -> None:
    assert over_budget(rewrite(f"{PARENT} {added}")) is None


def test_words_of_the_parent_are_not_counted() -> None:
    assert over_budget(rewrite(words(1000), words(950))) is None
    assert over_budget(rewrite("Name a river.", words(950))) is None


def test_over_budget_says_how_many_words_were_added() -> None:
    assert over_budget(rewrite(words(103))) == f"100 words added, over the limit of {LIMIT}"


@pytest.mark.parametrize(
    "text",
    [
        "Sorry, no.",
        "I'm sorry, but there is no such river.",
        "SORRY!",
        "There is no such river.\n\nI am so sorry.",
        words(78) + " sorry",
        "sorry " + words(78),
        "Sorry, " + "語" * 100,
    ],
)
def test_a_short_response_that_is_sorry_is_hard_to_answer(text: str) -> None:
    assert hard_to_answer(response(text))


@pytest.mark.parametrize(
    "text",
    [
        "There is no such river.",
        "",
        words(79) + " sorry",
        "sorry " + words(200),
        "Sorry, " + "語" * 158,
    ],
)
def test_a_response_that_is_long_or_not_sorry_is_not_hard_to_answer(text: str) -> None:
    assert hard_to_answer(response(text)) is None


@pytest.mark.parametrize(
    "instruction",
    [
        "Write an apology to a neighbour.",
        "Apologize to a guest for the noise.",
        "Apologise in one line.",
        "Write an APOLOGETIC note.",
        "Give a synonym of 'sorry'.",
        "Say Sorry in German and in English.",
    ],
)
def test_a_task_about_apologies_may_be_answered_with_one(instruction: str) -> None:
    assert hard_to_answer(response("I am sorry for the noise.", instruction)) is None


def test_hard_to_answer_says_how_short_the_response_is() -> None:
    assert hard_to_answer(response("Sorry, no idea.")) == '"sorry" in a response of 3 words'


@pytest.mark.parametrize(
    "text",
    [
        "The of and.",
        "the",
        "It is what it is.",
        "Und das ist",
        "Le la les.",
        "и в на",
        "の は",
        "...",
        "?!",
        "-" * 20,
        "* * *",
        "",
        " \n",
    ],
)
def test_nothing_but_stop_words_and_punctuation_is_degenerate(text: str) -> None:
    assert degenerate_response(response(text))


@pytest.mark.parametrize(
    "text",
    [
        "No.",
        "Yes",
        "Both",
        "None.",
        "All of them.",
        "Up",
        "Before",
        "42",
        "-1",
        "0",
        "A",
        "a)",
        "I",
        "x",
        "→",
        "≤",
        "€",
        "🇫🇷",
        "✓",
        "War",
        "Hat",
        "Die",
        "der",
        "日本",
        "The Nile",
        "It is hot.",
        "Si",
        "May",
        "US",
        "The WHO.",
        "<",
        "=",
    ],
)
def test_a_short_answer_is_not_degenerate(text: str) -> None:
    assert degenerate_response(response(text)) is None


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (rewrite("...", "...", cut=True), Reason.TRUNCATED),
        (rewrite("I cannot help with the given instruction.", cut=True), Reason.TRUNCATED),
        (rewrite("...", "..."), Reason.EMPTY),
        (rewrite("I cannot help with the given instruction."), Reason.REFUSED),
        (rewrite("I cannot help. " + words(200)), Reason.REFUSED),
        (rewrite("The given instruction " + words(200)), Reason.SCAFFOLD_LEAK),
        (rewrite("name a river"), Reason.UNCHANGED),
        (rewrite(words(200)), Reason.OVER_BUDGET),
        (rewrite("Name a long river."), None),
    ],
)
def test_the_first_rule_for_evolutions_that_speaks_decides(seen: Rewrite, reason: str | None) -> None:
    verdict = eliminate(EVOLUTION_RULES, seen, "evolve")
    assert (verdict and verdict.reason) == reason


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (response("", cut=True), Reason.TRUNCATED),
        (response("Sorry, I cannot help", cut=True), Reason.TRUNCATED),
        (response(" \n"), Reason.EMPTY),
        (response("Sorry, I cannot help with that."), Reason.HARD_TO_ANSWER),
        (response("I cannot help with that."), Reason.REFUSED),
        (response("Sorry, I cannot help with that. " + words(80)), Reason.REFUSED),
        (response("The of and."), Reason.DEGENERATE_RESPONSE),
        (response("The Nile."), None),
    ],
)
def test_the_first_rule_for_responses_that_speaks_decides(seen: Response, reason: str | None) -> None:
    verdict = eliminate(RESPONSE_RULES, seen, "respond")
    assert (verdict and verdict.reason) == reason


def test_a_verdict_has_its_reason_its_stage_and_what_was_seen() -> None:
    verdict = eliminate(EVOLUTION_RULES, rewrite(words(103)), "evolve")
    assert verdict == Verdict(Reason.OVER_BUDGET, "evolve", f"100 words added, over the limit of {LIMIT}")


def test_without_rules_nothing_falls() -> None:
    assert eliminate((), rewrite(""), "evolve") is None
