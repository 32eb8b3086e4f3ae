"""What a run will ask for, before anything is asked: calls and tokens, with what they rest on."""

from __future__ import annotations

from dataclasses import dataclass

from evol.engine import Prepared
from evol.records import Place, Stage, Usage

BYTES_PER_TOKEN = 4  # of UTF-8: near enough for languages with and without spaces
ADDED_TOKENS = 25  # what one step adds to an instruction: about 15 words
JUDGEMENT_TOKENS = 60
RESPONSE_TOKENS = 300
ASSUMED = (
    f"{BYTES_PER_TOKEN} bytes of UTF-8 a token, {ADDED_TOKENS} tokens added in a round, "
    f"{JUDGEMENT_TOKENS} for a judgement, {RESPONSE_TOKENS} for a response"
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Calls and tokens by stage if every row is kept and no call fails; eliminated rows make it less."""

    calls: dict[Stage, int]
    tokens: dict[Stage, Usage]

    @property
    def total_calls(self) -> int:
        """Of all stages."""
        return sum(self.calls.values())

    @property
    def total_tokens(self) -> Usage:
        """Of all stages."""
        return sum(self.tokens.values(), Usage())


def forecast(prepared: Prepared) -> Forecast:
    """What this run asks for from its beginning, if every row is kept."""
    recipe, pool = prepared.recipe, prepared.pool
    tally: dict[Stage, list[int]] = {"evolve": [0, 0, 0], "judge": [0, 0, 0], "respond": [0, 0, 0], "score": [0, 0, 0]}
    fixed = {stage: _fixed_tokens(prepared, stage) for stage in tally}

    def add(stage: Stage, material: int, reply: int) -> None:
        counts = tally[stage]
        counts[0] += 1
        counts[1] += fixed[stage] + material
        counts[2] += reply

    for seed in pool.seeds:
        size = len(seed.text.encode()) // BYTES_PER_TOKEN + 1
        if recipe.reanswer_seeds or not seed.output:
            add("respond", size, RESPONSE_TOKENS)
        if recipe.score_seeds:
            add("score", size, JUDGEMENT_TOKENS)
        for _ in range(recipe.rounds):
            child = size + ADDED_TOKENS
            add("evolve", size, child)
            add("judge", size + child, JUDGEMENT_TOKENS)
            add("respond", child, RESPONSE_TOKENS)
            size = child
    return Forecast(
        {stage: counts[0] for stage, counts in tally.items()},
        {stage: Usage(counts[1], counts[2]) for stage, counts in tally.items()},
    )


def _fixed_tokens(prepared: Prepared, stage: Stage) -> int:
    """Tokens of a prompt without its material, the mean over the operators by their weight for `evolve`."""
    pack = prepared.pack
    weights = pack.weights if stage == "evolve" else {stage: 1.0}
    total = 0.0
    for name, weight in weights.items():
        template = pack.templates[name]
        rendered = template.render(dict.fromkeys(template.names, ""), pack.words, 0, Place("forecast", 0, stage))
        total += weight * len((rendered.system + rendered.user).encode())
    return round(total / sum(weights.values()) / BYTES_PER_TOKEN)
