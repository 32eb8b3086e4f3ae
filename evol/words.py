"""Text: counting words in scripts with and without spaces, and what cannot be written as UTF-8 or must not be shown."""

from __future__ import annotations

import re

# Accents, vowel points and vowel signs: they belong to the letter before them, which Python's \\w does not know.
MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0970-\u0dff"
    "\u0e31-\u0e4e\u0eb1-\u0ece\u102b-\u103e\u1056-\u109d\u17b4-\u17dd\u200c\u200d"
)
LETTERS = rf"[^\W_](?:[^\W_]+|[{MARKS}]+)*"
WORD = re.compile(rf"{LETTERS}(?:['\u2019.-]{LETTERS})*")
# Scripts that put no space between words, with about how many characters make one.
UNSPACED = (
    (re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"), 2),  # Japanese and Chinese
    (re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"), 5),  # Thai, Lao, Burmese, Khmer
)
# What steers a terminal, or turns the order of what is read: C0 and C1 without tab and newline, line and paragraph
# separators, marks and overrides of direction; and half characters, which cannot be written.
UNPRINTABLE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
SPACES = re.compile(r"[ \t\n\r]+")


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


def well_formed(text: str) -> str:
    """The text without lone surrogates, which JSON can carry and UTF-8 cannot: U+FFFD stands in for each."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def printable(text: str) -> str:
    """The text as it may be shown on a terminal: what would steer one stands there as an escape that can be seen."""
    return UNPRINTABLE.sub(lambda match: _escape(match[0]), text)


def one_line(text: str, length: int | None = None) -> str:
    """The text, printable, on one line of at most `length` characters."""
    beginning = text if length is None else text[: 4 * length]
    line = printable(SPACES.sub(" ", beginning).strip(" "))
    return line if length is None or len(line) <= length else line[: length - 1] + "\u2026"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
