"""What every stage needs to put a question: the door, the pack, the sampling of each role, the run's random seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evol import chance
from evol.ask import Ask
from evol.packs import Pack
from evol.records import ROLE_OF_STAGE, SEEDS, Answer, Place, Request, Role, Sampling


@dataclass(frozen=True, slots=True)
class Context:
    """One lineage's way to the teachers.

    `order` is the place of its seed in the pool: lower goes first. `by_probability` is how judge and scorer are read.
    """

    ask: Ask
    pack: Pack
    sampling: Mapping[Role, Sampling]
    random_seed: int
    order: int
    by_probability: bool = False

    async def put(
        self,
        place: Place,
        template: str,
        values: Mapping[str, str],
        schema: Mapping[str, Any] | None = None,
        *,
        operator: str = "",
    ) -> Answer:
        """Renders the template with these values and asks. A place with a sample above 0 asks for the same again."""
        rendered = self.pack.templates[template].render(
            values, self.pack.words, self.random_seed, place, again=place.sample > 0
        )
        sampling = self.sampling[ROLE_OF_STAGE[place.stage]]
        if sampling.seed is not None:
            # Of its own for each call: the same one would bring the same reply to the next try of the same parent.
            sampling = replace(sampling, seed=chance.bits(sampling.seed, place) % SEEDS)
        probabilities = self.by_probability and schema is not None
        request = Request(
            place.stage, rendered.system, rendered.user, sampling, operator, values, schema, probabilities
        )
        return await self.ask(place, request, self.order)
