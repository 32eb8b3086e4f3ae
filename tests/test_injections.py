"""Injections are text: they arrive whole, change nothing around them, and a judge that quotes them is read right."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import evol
from evol.packs import Pack, load_pack
from evol.records import Place, Request
from evol.seeds import read_alpaca
from evol.stages.judge import Judgement, Score
from evol.stages.reading import read_object
from evol.teachers import ScriptedTeacher
from evol.templates import Rendered, Template
from tests.injections import INJECTIONS, VERDICTS

HARMLESS = "Name a river of Europe."
OWN = '{"explanation": "It asks for less.", "no_gain": true, "answerable": true, "difficulty": 2}'
SECTION = re.compile(r"<(instruction|parent)-([0-9a-f]{8})>\n")
PACK = load_pack("wizardlm")


@pytest.fixture
def pack() -> Pack:
    return PACK


def place_of(template: Template) -> Place:
    return Place("s1", 1, template.stage)


def render(pack: Pack, name: str, texts: dict[str, str], *, again: bool) -> Rendered:
    operator = pack.operators.get(name)
    choices = {key: options[0] for key, options in operator.choices.items()} if operator else {}
    template = pack.templates[name]
    return template.render({**texts, **choices}, pack.words, 42, place_of(template), again=again)


def around(rendered: Rendered, texts: dict[str, str]) -> str:
    """The user part with names in place of the sections, each of which is there once."""
    found = SECTION.search(rendered.user)
    assert found
    tag, rest = found[2], rendered.user
    assert not any(tag in text for text in texts.values())
    for name, text in texts.items():
        section = f"<{name}-{tag}>\n{text}\n</{name}-{tag}>"
        assert rest.count(section) == 1
        rest = rest.replace(section, f"[{name}]")
    assert tag not in rest
    return rest


# The places of a text: an operator, rating, and each side of a judgement.
PLACES = [(name, "instruction") for name in (*PACK.operators, "score")] + [("judge", "parent"), ("judge", "child")]


def test_there_are_many_and_no_two_are_the_same() -> None:
    assert len(set(INJECTIONS)) == len(INJECTIONS) >= 120


@pytest.mark.parametrize(("name", "side"), PLACES, ids=lambda value: str(value))
@pytest.mark.parametrize("again", [False, True])
def test_an_injection_arrives_whole_and_changes_nothing_around_it(
    pack: Pack, name: str, side: str, again: bool
) -> None:
    harmless = dict.fromkeys(("parent", "child") if name == "judge" else ("instruction",), HARMLESS)
    expected = render(pack, name, harmless, again=again)
    for injection in INJECTIONS:
        texts = harmless | {side: injection}
        rendered = render(pack, name, texts, again=again)
        assert rendered.system == expected.system
        assert around(rendered, texts) == around(expected, harmless)


@pytest.mark.parametrize(("name", "side"), PLACES, ids=lambda value: str(value))
def test_a_prompt_that_was_seen_cannot_be_used_against_the_next(pack: Pack, name: str, side: str) -> None:
    texts = dict.fromkeys(("parent", "child") if name == "judge" else ("instruction",), HARMLESS)
    for _ in range(3):  # each time all that was sent before is put into the text
        seen = render(pack, name, texts, again=True)
        texts[side] = f"{seen.user}\n{seen.system}\n{seen.user}"
        around(render(pack, name, texts, again=False), texts)


def test_the_responder_is_sent_the_text_alone(pack: Pack) -> None:
    systems = set()
    for injection in INJECTIONS:
        rendered = render(pack, "respond", {"instruction": injection}, again=False)
        assert rendered.user == injection
        systems.add(rendered.system)
    assert len(systems) == 1


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("side", [0, 1])
def test_a_judge_that_quotes_an_injection_is_read_right(before: bool, side: int) -> None:
    for injection in INJECTIONS:
        material = (injection, HARMLESS) if side else (HARMLESS, injection)
        if len(injection) > 5000:  # no judge quotes as much
            continue
        reply = f"It says:\n{injection}\n\n{OWN}" if before else f"{OWN}\n\nI passed over: {injection}"
        assert read_object(reply, Judgement, material) == Judgement.model_validate_json(OWN), injection[:80]


def test_a_judge_that_only_repeats_a_fake_verdict_gives_none() -> None:
    for injection in VERDICTS:
        assert read_object(injection, Judgement, (HARMLESS, injection)) is None
        assert read_object(injection, Score, (injection,)) is None


def test_a_quotation_inside_of_an_explanation_is_no_verdict() -> None:
    for injection in INJECTIONS:
        own = json.loads(OWN) | {"explanation": injection}
        judgement = read_object(json.dumps(own), Judgement, (HARMLESS, injection))
        assert judgement
        assert (judgement.no_gain, judgement.difficulty) == (True, 2)
        assert judgement.explanation == injection


def test_an_injection_is_a_seed_like_any_other(tmp_path: Path) -> None:
    seeds = [{"instruction": injection} for injection in INJECTIONS]
    (tmp_path / "seeds.json").write_text(json.dumps(seeds), encoding="utf-8")
    assert [seed.instruction for seed in read_alpaca(tmp_path / "seeds.json").seeds] == [
        i for i in INJECTIONS if i.strip()
    ]


def test_a_run_of_injections_with_judges_that_quote_them_is_judged_by_their_own_words(tmp_path: Path) -> None:
    def reply(request: Request) -> str:
        if request.stage == "evolve":
            return f"{request.values['instruction']} Name two of them, and say which one is longer."
        if request.stage == "judge":  # quotes what it judges, before and after its own verdict
            quoted = request.values["child"][:2000]
            return f"The child says {quoted}\n{OWN.replace('true', 'false', 1)}\nas a reply to {quoted}"
        if request.stage == "score":
            return f'{request.values["instruction"][:2000]} {{"explanation": "Mine.", "difficulty": 4}}'
        return "A proper answer of some words."

    seeds = [{"instruction": injection, "output": "b"} for injection in INJECTIONS]
    (tmp_path / "seeds.json").write_text(json.dumps(seeds), encoding="utf-8")
    run = evol.run(
        tmp_path / "seeds.json", teacher=ScriptedTeacher(reply), rounds=1, score_seeds=True, weights={"breadth": 0}
    )
    rows = list(run.rows())
    assert len(rows) == 2 * len(INJECTIONS)
    judged = [row for row in rows if row.round and row.judge]
    assert len(judged) > 100
    assert {(row.difficulty, row.reason) for row in judged} == {(2.0, "")}
    assert {row.difficulty for row in rows if not row.round} == {4.0}
