"""Counting words, in scripts with and without spaces."""

from __future__ import annotations

import re

WORD = re.compile(r"[^\W_]+(?:['\u2019.-][^\W_]+)*")
# Scripts that put no space between words, with about how many characters make one.
UNSPACED = (
    (re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"), 2),  # Japanese and Chinese
    (re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"), 5),  # Thai, Lao, Burmese, Khmer
)


def split_words(text: str) -> list[str]:
    """The words of the text in lower case; a run of an unspaced script counts as one here."""
    return WORD.findall(text.lower())


def count_words(text: str) -> int:
    """How many words the text has; for unspaced scripts an estimate from its characters."""
    total = 0
    if not text.isascii():
        for script, characters_per_word in UNSPACED:
            text, characters = script.subn(" ", text)
            total += -(-characters // characters_per_word)
    return total + len(WORD.findall(text))
