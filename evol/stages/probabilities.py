"""What a judge's reply says between the lines: the probabilities of the tokens in place of its verdict's values.

One sampled number clusters at a few favourites; the expectation over all ten is finer, and needs one call all the same.
Where the tokens do not say it there is no number, never a default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evol.records import Token

LEAST, MOST = 1, 10  # of a difficulty
ONE = b"1"
NUMBER = re.compile(rb"\d{1,9}(?!\d)")
DIGITS = 4  # of what is told: beyond them the arithmetic of two machines may differ
LARGEST_DOUBT = 0.05  # of the probability may be on tokens that leave open which number is meant


@dataclass(frozen=True, slots=True)
class _Value:
    """The tokens of a reply from a field's value on: the alternatives to the first of them, and what follows it."""

    alternatives: Mapping[bytes, float]  # text without what stands before the value -> probability
    chosen: bytes
    rest: Sequence[Token]


def probability_of_true(tokens: Sequence[Token], field: str, written: bool) -> float | None:
    """The probability that the field's value is true and not false; None where the tokens do not say.

    `written` is what was read of the reply: tokens that spell another value are not those of the verdict.
    """
    value = _value_of(tokens, field, b"true" if written else b"false")
    if value is None:
        return None
    true = sum(share for text, share in value.alternatives.items() if _begins(text, b"true"))
    false = sum(share for text, share in value.alternatives.items() if _begins(text, b"false"))
    return round(true / (true + false), DIGITS) if true + false > 0 else None


def expected_number(tokens: Sequence[Token], field: str, written: int) -> float | None:
    """The expectation of the field's value over the whole numbers from 1 to 10; None where the tokens do not say.

    What is no number has no part in it: that belongs to other ways of writing the reply. `written` is as above.
    """
    value = _value_of(tokens, field, str(written).encode())
    if value is None:
        return None
    shares = dict.fromkeys(range(LEAST, MOST + 1), 0.0)
    for text, share in value.alternatives.items():
        if text != ONE and (number := NUMBER.match(text)) and LEAST <= int(number[0]) <= MOST:
            shares[int(number[0])] += share
    doubt = _share_out_one(shares, value)
    total = sum(shares.values())
    if total <= 0 or doubt > LARGEST_DOUBT * (total + doubt):
        return None
    return round(sum(number * share for number, share in shares.items()) / total, DIGITS)


def up_to(tokens: Sequence[Token], text: str) -> tuple[Token, ...]:
    """The tokens to the end of the last place where this text stands; all of them where it does not.

    What a reply says behind its verdict may be a verdict too, and not its own.
    """
    written, end = b"", b"".join(token.text for token in tokens).rfind(text.encode())
    if end < 0:
        return tuple(tokens)
    end += len(text.encode())
    taken: list[Token] = []
    for token in tokens:
        if len(written) >= end:
            break
        written += token.text
        taken.append(token)
    return tuple(taken)


def _share_out_one(shares: dict[int, float], value: _Value) -> float:
    """Adds the share of a bare "1", which where each digit is a token may go on to be a 10; returns what stays open."""
    share = value.alternatives.get(ONE, 0.0)
    zero = 0.0
    if value.chosen == ONE and value.rest:
        following = _shares(value.rest[0]) or {value.rest[0].text: 1.0}
        zero = min(1.0, sum(part for text, part in following.items() if text.startswith(b"0")))
    elif value.chosen != ONE and share and not shares[MOST]:
        return share
    shares[1] += share * (1 - zero)
    shares[MOST] += share * zero
    return 0.0


def _value_of(tokens: Sequence[Token], field: str, written: bytes) -> _Value | None:
    """The last value of the field that is what was written: a reply that thinks aloud may name it before and after."""
    text = b"".join(token.text for token in tokens)
    found = list(re.finditer(rb'"%s"\s*:\s*(?=%s\b)' % (re.escape(field.encode()), written), text, re.IGNORECASE))
    if not found:
        return None
    start, position = found[-1].end(), 0
    for number, token in enumerate(tokens):
        end = position + len(token.text)
        if start < end:
            before = token.text[: start - position]
            return _Value(_after(_shares(token), before), token.text[start - position :], tokens[number + 1 :])
        position = end
    return None


def _after(shares: Mapping[bytes, float], before: bytes) -> dict[bytes, float]:
    """The alternatives that begin like the token itself, without that beginning; white space is as good as none."""
    after: dict[bytes, float] = {}
    for text, share in shares.items():
        if before.strip() and not text.startswith(before):
            continue
        value = (text[len(before) :] if before.strip() else text).lstrip()
        if value:
            after[value] = after.get(value, 0.0) + share
    return after


def _shares(token: Token) -> dict[bytes, float]:
    return {text: math.exp(min(0.0, logprob)) for text, logprob in token.logprobs.items() if not math.isnan(logprob)}


def _begins(text: bytes, word: bytes) -> bool:
    """Whether a token's text is the word, or the beginning of it, or goes on after it."""
    lower = text.lower()
    return lower.startswith(word) or word.startswith(lower)
