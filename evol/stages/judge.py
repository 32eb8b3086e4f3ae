"""The judge compares a child with its parent: no gain? answerable? how difficult?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from evol.records import Place, Usage
from evol.stages.context import Context
from evol.stages.reading import read_object, strict_schema
from evol.words import well_formed

ASKED_AGAIN = 2  # how often a question is put again whose reply cannot be read


def _no_truth_value(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a truth value is no number")
    return value


Difficulty = Annotated[int, Field(ge=1, le=10), BeforeValidator(_no_truth_value)]
Text = Annotated[str, AfterValidator(well_formed)]


class Judgement(BaseModel):
    """The judge's verdict. `no_gain` is the paper's "equal"; `difficulty` runs from 1 to 10.

    What a judge writes beside these fields is passed over: it is no reason to pay for another verdict.
    """

    model_config = ConfigDict(frozen=True)

    explanation: Text
    no_gain: bool
    answerable: bool
    difficulty: Difficulty


class Score(BaseModel):
    """How difficult an instruction is, from 1 to 10."""

    model_config = ConfigDict(frozen=True)

    explanation: Text
    difficulty: Difficulty


JUDGEMENT_SCHEMA = strict_schema(Judgement)
SCORE_SCHEMA = strict_schema(Score)


@dataclass(frozen=True, slots=True)
class Judged:
    """The judgement, None where no reply could be read, and what all the asking used."""

    judgement: Judgement | None
    usage: Usage


@dataclass(frozen=True, slots=True)
class Scored:
    """The score, None where no reply could be read, and what all the asking used."""

    score: Score | None
    usage: Usage


async def judge(context: Context, place: Place, parent: str, child: str) -> Judged:
    """The judge's verdict on the child, asked again where it cannot be read."""
    usage = Usage()
    for sample in range(1 + ASKED_AGAIN):
        values = {"parent": parent, "child": child}
        reply = await context.put(place._replace(sample=sample), "judge", values, JUDGEMENT_SCHEMA)
        usage += reply.usage
        if judgement := read_object(reply.text, Judgement):
            return Judged(judgement, usage)
    return Judged(None, usage)


async def score(context: Context, place: Place, instruction: str) -> Scored:
    """The scorer's rating of an instruction that has no parent, asked again where it cannot be read."""
    usage = Usage()
    for sample in range(1 + ASKED_AGAIN):
        values = {"instruction": instruction}
        reply = await context.put(place._replace(sample=sample), "score", values, SCORE_SCHEMA)
        usage += reply.usage
        if read := read_object(reply.text, Score):
            return Scored(read, usage)
    return Scored(None, usage)
