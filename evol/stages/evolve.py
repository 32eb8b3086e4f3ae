"""The evolver rewrites an instruction by one operator."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evol.records import Answer, Place
from evol.stages.context import Context

FENCED = re.compile(r"\A```[\w-]*\n(?P<inside>.*)\n```\Z", re.DOTALL)
SECTION = re.compile(r"\A<(?P<tag>\w+-[0-9a-f]{8})>(?P<inside>.*?)</(?P=tag)>\Z", re.DOTALL)
LABEL = re.compile(r"\A[#*\s]*(?:rewritten|created|evolved|new) (?:prompt|instruction)[#*\s]*:[#*\s]*", re.IGNORECASE)
QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("\u00ab", "\u00bb"), ("\u300c", "\u300d"))


@dataclass(frozen=True, slots=True)
class Evolved:
    """A reply of the evolver, and the instruction in it."""

    text: str
    reply: Answer


async def evolve(context: Context, place: Place, operator: str, choices: dict[str, str], parent: str) -> Evolved:
    """One evolution of the parent's text by this operator."""
    reply = await context.put(place, operator, {"instruction": parent, **choices}, operator=operator)
    return Evolved(clean(reply.text), reply)


def clean(text: str) -> str:
    """The text without what models wrap an instruction in: a label, our section tags, one fence, one pair of quotes."""
    text = LABEL.sub("", text.strip())
    for wrapping in (SECTION, FENCED, SECTION):
        match = wrapping.match(text)
        if match and (wrapping is SECTION or "```" not in match["inside"]):
            text = match["inside"].strip()
    for opening, closing in QUOTES:
        inside = text[1:-1]
        if len(text) > 2 and text[0] == opening and text[-1] == closing and not {opening, closing} & set(inside):
            return inside.strip()
    return text
