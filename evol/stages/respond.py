"""The responder answers an instruction."""

from __future__ import annotations

from evol.records import Answer, Place
from evol.stages.context import Context


async def respond(context: Context, place: Place, instruction: str) -> Answer:
    """The answer to the instruction, which is sent as it is."""
    return await context.put(place, "respond", {"instruction": instruction})
