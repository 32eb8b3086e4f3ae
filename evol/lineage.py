"""One seed through all its rounds: the one place where the method can be read from top to bottom.

    for every round, with the current head of the lineage as the parent:
        1. an operator is drawn
        2. the evolver rewrites the parent             (1 call)
        3. rules look at the text
        4. the judge compares it with the parent       (1 call)
        5. the responder answers it                    (1 call)
        6. rules look at the response
    A child that is kept becomes the head. One that is eliminated leaves the parent where it is ("back to the pool",
    WizardLM section 3.2), and the next round tries again with a new operator.

What is free comes before what is paid: a row that falls at 3 has cost one call, not three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from evol.ask import GivenUp
from evol.records import Answer, Evolution, Place, Reason, Seed, Stage, Usage, Verdict
from evol.stages.context import Context
from evol.stages.eliminate import EVOLUTION_RULES, RESPONSE_RULES, Response, Rewrite, eliminate
from evol.stages.evolve import evolve
from evol.stages.judge import judge, opinion, score
from evol.stages.respond import respond
from evol.words import count_words


@dataclass(frozen=True, slots=True)
class Settings:
    """What a lineage is told: how many rounds, and whether the seeds are answered again and scored."""

    rounds: int
    reanswer_seeds: bool = False
    score_seeds: bool = False


async def grow(context: Context, seed: Seed, settings: Settings, keep: Callable[[Evolution], None]) -> None:
    """Evolves the seed through its rounds; `keep` is given every row as it is settled, the seed's own first."""
    head = await _seed_row(context, seed, settings)
    keep(head)
    for number in range(1, settings.rounds + 1):
        child = await _child(context, head, number)
        keep(child)
        if child.kept:
            head = child


async def _seed_row(context: Context, seed: Seed, settings: Settings) -> Evolution:
    """The seed as a row of round 0: answered where it has no output, or again; scored where that is asked for."""
    row = Evolution(seed.id, seed.id, "", 0, "", "seed", seed.instruction, seed.input, seed.output)
    try:
        if settings.reanswer_seeds or not seed.output:
            row = await _answered(context, row)
        if settings.score_seeds and row.kept:
            scored = await score(context, Place(seed.id, 0, "score"), row.text)
            row = _spent(row, scored.usage)
            scorer = context.ask.teacher("scorer")
            row = replace(row, judge=scorer.model, demo=row.demo or scorer.demo)
            if scored.found:
                held = opinion(scored.found, scored.tokens, by_probability=context.by_probability)
                row = replace(row, difficulty=held.difficulty, detail=held.explanation)
    except GivenUp as given_up:
        # A seed that only could not be scored is still a seed: unscored, and in the dataset.
        row = row if given_up.verdict.stage == "score" else _fallen(row, given_up.verdict)
    return row


async def _child(context: Context, parent: Evolution, number: int) -> Evolution:
    place = Place(parent.seed_id, number, "evolve")
    operator, choices = context.pack.draw(context.random_seed, place)
    evolver = context.ask.teacher("evolver")
    row = Evolution(
        id=f"{parent.seed_id}-{number}",
        seed_id=parent.seed_id,
        parent_id=parent.id,
        round=number,
        operator=operator,
        family=context.pack.operators[operator].family,
        instruction="",
        evolver=evolver.model,
        template=context.pack.templates[operator].digest,
        demo=evolver.demo,
    )
    try:
        row = await _rewritten(context, row, parent, choices)
        row = await _judged(context, row, parent) if row.kept else row
        return await _answered(context, row) if row.kept else row
    except GivenUp as given_up:
        return _fallen(row, given_up.verdict)


async def _rewritten(context: Context, row: Evolution, parent: Evolution, choices: dict[str, str]) -> Evolution:
    evolved = await evolve(context, _place(row, "evolve"), row.operator, choices, parent.text)
    row = replace(
        _spent(row, evolved.reply.usage),
        instruction=evolved.text,
        words_added=count_words(evolved.text) - count_words(parent.text),
    )
    template, limit = context.pack.templates[row.operator], context.pack.word_limit(row.operator)
    seen = Rewrite(parent.text, evolved.text, evolved.reply, limit, template.scaffold)
    return _fallen(row, eliminate(EVOLUTION_RULES, seen, "evolve"))


async def _judged(context: Context, row: Evolution, parent: Evolution) -> Evolution:
    teacher = context.ask.teacher("judge")
    row = replace(row, judge=teacher.model, demo=row.demo or teacher.demo)
    judged = await judge(context, _place(row, "judge"), parent.text, row.text)
    row = _spent(row, judged.usage)
    if judged.found is None:
        why = (
            "cut at its cap of tokens: raise max_tokens in [sampling.judge]"
            if judged.cut
            else "not the object asked for"
        )
        return _fallen(row, Verdict(Reason.UNJUDGED, "judge", f"no reply of the judge could be read ({why})"))
    held = opinion(judged.found, judged.tokens, by_probability=context.by_probability)
    row = replace(
        row, difficulty=held.difficulty, no_gain_probability=held.no_gain_probability, detail=held.explanation
    )
    if held.no_gain:
        return _fallen(row, Verdict(Reason.NO_GAIN, "judge", held.explanation))
    if not held.answerable:
        return _fallen(row, Verdict(Reason.UNANSWERABLE, "judge", held.explanation))
    return row


async def _answered(context: Context, row: Evolution) -> Evolution:
    teacher = context.ask.teacher("responder")
    row = replace(row, responder=teacher.model, demo=row.demo or teacher.demo)
    reply: Answer = await respond(context, _place(row, "respond"), row.text)
    row = replace(_spent(row, reply.usage), output=reply.text.strip(), reasoning=reply.reasoning)
    return _fallen(row, eliminate(RESPONSE_RULES, Response(row.text, reply), "respond"))


def _place(row: Evolution, stage: Stage) -> Place:
    return Place(row.seed_id, row.round, stage)


def _spent(row: Evolution, usage: Usage) -> Evolution:
    return replace(
        row,
        prompt_tokens=row.prompt_tokens + usage.prompt_tokens,
        completion_tokens=row.completion_tokens + usage.completion_tokens,
    )


def _fallen(row: Evolution, verdict: Verdict | None) -> Evolution:
    return row if verdict is None else replace(row, reason=verdict.reason, stage=verdict.stage, detail=verdict.detail)
