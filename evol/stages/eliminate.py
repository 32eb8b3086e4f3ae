"""The rules that eliminate a row without asking anybody, each with its name.

The paper's rules 2 to 4 are here (rule 1, no information gain, is the judge's); beside them stands what costs nothing
to see. A rule takes what there is to see and returns a line that says what it saw, or None. In `EVOLUTION_RULES` and
`RESPONSE_RULES` the first that speaks decides.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from evol.records import Answer, Reason, Stage, Verdict
from evol.stages.refusals import REFUSAL
from evol.stages.stop_words import ENGLISH, OTHERS
from evol.words import count_words, split_words

SORRY_WORDS = 80  # a response with "sorry" and fewer words is a refusal (WizardLM, section 3.3)
OPENING = 200  # characters in which a refusal shows itself
OPERATORS = re.compile(r"(?<= )[*/&|-](?= )|[\[\]{}]")  # punctuation that makes another formula or piece of code
ABBREVIATION = re.compile(r"\b[A-Z]{2,}\b")  # US, IT and WHO are no stop words


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What can be seen of an evolution before anybody judges it."""

    parent: str
    child: str
    reply: Answer
    word_limit: int
    scaffold: tuple[re.Pattern[str], ...]


@dataclass(frozen=True, slots=True)
class Response:
    """What can be seen of a response."""

    instruction: str
    reply: Answer


Seen = TypeVar("Seen", Rewrite, Response)
Rule = tuple[str, Callable[[Seen], str | None]]


def eliminate(rules: Sequence[Rule[Seen]], seen: Seen, stage: Stage) -> Verdict | None:
    """The verdict of the first rule that speaks, None where all are silent."""
    for reason, rule in rules:
        detail = rule(seen)
        if detail is not None:
            return Verdict(reason, stage, detail)
    return None


def truncated(seen: Rewrite | Response) -> str | None:
    """The reply was cut at the cap on its tokens."""
    return "cut at its cap of tokens" if seen.reply.truncated else None


def empty_rewrite(seen: Rewrite) -> str | None:
    """Nothing is left of the reply once its wrapping is gone."""
    return None if split_words(seen.child) else "there is no word in it"


def empty_response(seen: Response) -> str | None:
    """There is no text."""
    return None if seen.reply.text.strip() else "there is no text in it"


def refused_rewrite(seen: Rewrite) -> str | None:
    """The evolver declines instead of rewriting."""
    return _refusal(seen.child, seen.parent)


def refused_response(seen: Response) -> str | None:
    """The responder declines instead of answering."""
    return _refusal(seen.reply.text, seen.instruction)


def scaffold_leak(seen: Rewrite) -> str | None:
    """Words of the evolving prompt stand in the child, and not because the parent had them (the paper's rule 4)."""
    for pattern in seen.scaffold:
        match = pattern.search(seen.child)
        if match and not pattern.search(seen.parent):
            return f"it says {match[0]!r}"
    return None


def unchanged(seen: Rewrite) -> str | None:
    """The child is the parent, give or take case, spacing and punctuation; but C is not C++, and 7 + 3 not 7 % 3."""
    parent, child = _straight(seen.parent), _straight(seen.child)
    same_words = split_words(child) == split_words(parent) and _signs(child) == _signs(parent)
    if not same_words or OPERATORS.findall(child) != OPERATORS.findall(parent):
        return None
    return "the same words as its parent"


def over_budget(seen: Rewrite) -> str | None:
    """Far more words were added than asked for."""
    added = count_words(seen.child) - count_words(seen.parent)
    return f"{added} words added, over the limit of {seen.word_limit}" if added > seen.word_limit else None


def hard_to_answer(seen: Response) -> str | None:
    """The response is short and says "sorry" (the paper's rule 2); a task about apologies may say it."""
    if "sorry" not in seen.reply.text.lower() or re.search(r"sorry|apolog", seen.instruction, re.IGNORECASE):
        return None
    words = count_words(seen.reply.text)
    return f'"sorry" in a response of {words} words' if words < SORRY_WORDS else None


def degenerate_response(seen: Response) -> str | None:
    """The response is nothing but punctuation and stop words (the paper's rule 3); a sign can be an answer."""
    text = seen.reply.text
    words = set(split_words(text))
    nothing = words <= ENGLISH or (len(words) > 1 and words <= OTHERS)
    if not nothing or ABBREVIATION.search(text) or _signs(text):
        return None
    return "nothing but punctuation and stop words"


EVOLUTION_RULES: tuple[Rule[Rewrite], ...] = (
    (Reason.TRUNCATED, truncated),
    (Reason.EMPTY, empty_rewrite),
    (Reason.REFUSED, refused_rewrite),
    (Reason.SCAFFOLD_LEAK, scaffold_leak),
    (Reason.UNCHANGED, unchanged),
    (Reason.OVER_BUDGET, over_budget),
)
RESPONSE_RULES: tuple[Rule[Response], ...] = (
    (Reason.TRUNCATED, truncated),
    (Reason.EMPTY, empty_response),
    (Reason.HARD_TO_ANSWER, hard_to_answer),
    (Reason.DEGENERATE_RESPONSE, degenerate_response),
    (Reason.REFUSED, refused_response),
)


def _refusal(text: str, context: str) -> str | None:
    """What is said in declining, unless the context says it too: then it is what the text is about."""
    context = _straight(context).lower()
    for match in REFUSAL.finditer(_straight(text[:OPENING]).lower()):
        said = match["said"] or match[0]
        if said not in context:
            return f"it declines: {said!r}"
    return None


def _straight(text: str) -> str:
    return text.replace("\u2019", "'")


def _signs(text: str) -> list[str]:
    """The characters beside words that say something: signs of mathematics, currencies, arrows, emoji."""
    return [char for char in text if char in "%#" or (unicodedata.category(char)[0] == "S" and char not in "`^|~")]
