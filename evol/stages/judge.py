"""The judge compares a child with its parent: no gain? answerable? how difficult?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Generic

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from evol.records import Place, Token, Usage
from evol.stages.context import Context
from evol.stages.probabilities import expected_number, probability_of_true, up_to
from evol.stages.reading import Form, find_object, strict_schema
from evol.words import well_formed

EVEN = 0.5  # from here on "no gain" is the likelier verdict
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

    explanation: Text = ""
    no_gain: bool
    answerable: bool
    difficulty: Difficulty


class Score(BaseModel):
    """How difficult an instruction is, from 1 to 10."""

    model_config = ConfigDict(frozen=True)

    explanation: Text = ""
    difficulty: Difficulty


JUDGEMENT_SCHEMA = strict_schema(Judgement)
SCORE_SCHEMA = strict_schema(Score)


@dataclass(frozen=True, slots=True)
class Reading(Generic[Form]):
    """What was read of the replies, None where none could be read, and what all the asking used.

    `cut` says that the last reply ended at its cap of tokens. `tokens` are those of the reply that was read, to the end
    of the object in it, where their probabilities were asked for and told.
    """

    found: Form | None
    usage: Usage
    cut: bool = False
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a judge or scorer holds of an instruction. `difficulty` is from 1 to 10; None where it is not known.

    By verdict the numbers are those it wrote. By probability they are the expectation over all it might have written,
    and `no_gain_probability` decides.
    """

    explanation: str
    difficulty: float | None
    no_gain: bool = False
    answerable: bool = True
    no_gain_probability: float | None = None


async def judge(context: Context, place: Place, parent: str, child: str) -> Reading[Judgement]:
    """The judge's verdict on the child."""
    values = {"parent": parent, "child": child}
    return await _ask_until_read(context, place, values, Judgement, JUDGEMENT_SCHEMA)


async def score(context: Context, place: Place, instruction: str) -> Reading[Score]:
    """The scorer's rating of an instruction that has no parent."""
    return await _ask_until_read(context, place, {"instruction": instruction}, Score, SCORE_SCHEMA)


def opinion(verdict: Judgement | Score, tokens: Sequence[Token], *, by_probability: bool) -> Opinion:
    """What the verdict says, or what the tokens it was written in do."""
    said = Opinion(verdict.explanation, float(verdict.difficulty))
    if isinstance(verdict, Judgement):
        said = replace(said, no_gain=verdict.no_gain, answerable=verdict.answerable)
    if not by_probability:
        return said
    said = replace(said, difficulty=expected_number(tokens, "difficulty", verdict.difficulty))
    if isinstance(verdict, Judgement):
        no_gain = probability_of_true(tokens, "no_gain", verdict.no_gain)
        if no_gain is not None:
            said = replace(said, no_gain=no_gain >= EVEN, no_gain_probability=no_gain)
    return said


async def _ask_until_read(
    context: Context, place: Place, values: Mapping[str, str], form: type[Form], schema: Mapping[str, Any]
) -> Reading[Form]:
    """Asks, and asks again where the reply cannot be read: each time at a place of its own.

    What the texts to judge hold is not read as a verdict, where a reply quotes it.
    """
    usage = Usage()
    for sample in range(1 + ASKED_AGAIN):
        reply = await context.put(place._replace(sample=sample), place.stage, values, schema)
        usage += reply.usage
        if found := find_object(reply.text, form, list(values.values())):
            return Reading(found.value, usage, tokens=up_to(reply.tokens, found.text))
    return Reading(None, usage, reply.truncated)
