"""Keys: where they come from, and that they are shown to nobody.

A key comes from an environment variable, or from the file that the variable of the same name with `_FILE` names.
Servers repeat it in error messages, in replies and in headers; `Secrets` takes it out of whatever they say, in each of
the forms in which text is escaped on its way, before anything is cut, kept or shown.
"""

from __future__ import annotations

import errno
import os
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from evol.errors import TeacherError

FILE = "_FILE"
LONGEST_KEY = 16_384  # bytes of a file with a key in it
SHORTEST_SECRET = 8  # characters: "none" and "EMPTY" keep nobody out, and occur in texts
SHORTEST_KEY = 16  # ... and shorter ones may be in the name of a model
SHOWN = "[key]"
ESCAPE = re.compile(
    r"\\[uU]0*[2-7]|\\x|\\/|%[0-9A-Fa-f]{2}|&#"
)  # without one of them a text holds no escaped letter of a key
ESCAPE_BYTES = re.compile(ESCAPE.pattern.encode())
# How providers begin their keys; it is for what was written in the wrong place, so it must not hit a model's name.
KEY = re.compile(
    r"\b(?:sk|csk|pplx|xai|nvapi)-[A-Za-z0-9_-]{16,}|\b(?:gsk|hf|r8|fw|ghp|tgp_v1|key)_[A-Za-z0-9]{20,}"
    r"|\bgithub_pat_\w{20,}|\bAIza[\w-]{30,}"
)
RANDOM = re.compile(r"(?=.*[a-z])(?=.*\d)\w{24,}")  # no name of a variable
ONE_WORD = re.compile(r"[A-Za-z0-9_\-.=/+]{32,}")


def read_key(variable: str) -> str:
    """The key in this variable, or in the file that it names; empty where there is neither.

    Raises `TeacherError` where the file cannot be read or holds nothing, and for what cannot be a key: it names the
    variable and the path, never the content.
    """
    source, key = variable, os.environ.get(variable, "").strip()
    if not key and (path := os.environ.get(variable + FILE, "").strip()):
        source, key = f"{path} ({variable}{FILE})", _read_file(variable + FILE, path)
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise TeacherError(f"the key in {source} holds characters that no key has: set it again")
    return key


def is_like_a_key(text: str) -> bool:
    """Whether this is a key by its looks, or one that the environment holds."""
    known = (value.strip() for name, value in os.environ.items() if name.upper().endswith(("_KEY", "_TOKEN")))
    return bool(KEY.search(text)) or any(len(value) >= SHORTEST_KEY and value in text for value in known)


def may_be_a_key(text: str) -> bool:
    """Whether this might be a key, where nothing of the kind is expected: one long word."""
    return is_like_a_key(text) or ONE_WORD.fullmatch(text) is not None


def is_no_variable(name: str) -> bool:
    """Whether this is a key, by its looks, in the place of a variable's name."""
    return is_like_a_key(name) or (name not in os.environ and RANDOM.fullmatch(name) is not None)


class Secrets:
    """What is not to be shown: a key, and the passwords of the proxies that the environment names."""

    def __init__(self, key: str) -> None:
        secrets = [secret for secret in (key, *_proxy_passwords()) if len(secret) >= SHORTEST_SECRET]
        self._plain = list(dict.fromkeys(form for secret in secrets for form in _forms(secret)))
        self._plain_bytes = [form.encode() for form in self._plain]
        escaped = "|".join("".join(map(_escaped, secret)) for secret in secrets)
        self._escaped = re.compile(escaped) if escaped else None
        self._escaped_bytes = re.compile(escaped.encode()) if escaped else None

    def hidden(self, text: str) -> str:
        """The text without them."""
        for form in self._plain:
            text = text.replace(form, SHOWN)
        if self._escaped and ESCAPE.search(text):
            text = self._escaped.sub(SHOWN, text)
        return text

    def hidden_in(self, body: bytes) -> bytes:
        """The same for bytes. JSON stays JSON."""
        for form in self._plain_bytes:
            body = body.replace(form, SHOWN.encode())
        if self._escaped_bytes and ESCAPE_BYTES.search(body):
            body = self._escaped_bytes.sub(SHOWN.encode(), body)
        return body


def _read_file(variable: str, path: str) -> str:
    shown = path if "/" in path and not is_like_a_key(path) else "something without a folder, which may be a key"
    try:
        if Path(path).expanduser().is_fifo():
            raise OSError(errno.EINVAL, "it is no file")  # and whoever opens it waits
        with Path(path).expanduser().open("rb") as file:
            content = file.read(LONGEST_KEY + 1)
        key = content.decode("utf-8-sig").strip()
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or "it cannot be opened"
        raise TeacherError(f"{variable} names {shown}, which cannot be read: {why}") from error
    except ValueError:
        key = ""
    if not key or len(content) > LONGEST_KEY:
        raise TeacherError(f"{variable} names {shown}, which holds no key: write the key into it, and nothing else")
    return key


def _forms(secret: str) -> Iterator[str]:
    """As it is, and what base64 makes of it, wherever in a longer text it stands."""
    yield secret
    for before in range(3):
        for encode in (b64encode, urlsafe_b64encode):
            coded = encode(b"\0" * before + secret.encode()).decode()
            sure = slice((before * 8 + 5) // 6, (before + len(secret)) * 8 // 6)  # what the neighbours do not change
            yield coded[sure]


def _escaped(letter: str) -> str:
    """A pattern for a letter as it is, or as JSON, a URL, HTML or Python write it; bounded, against hostile text."""
    code = f"{ord(letter):02x}"
    either = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in code)
    return (
        rf"(?:\\{{0,4}}(?:{re.escape(letter)}|[uU]0{{2,6}}{either}|x{either})|%(?:25){{0,3}}{either}"
        rf"|&#(?:0{{0,5}}{ord(letter)}|[xX]0{{0,5}}{either});)"
    )


def _proxy_passwords() -> Iterator[str]:
    for proxy in getproxies().values():
        try:
            password = urlsplit(proxy).password or ""
        except ValueError:
            continue
        yield password
        yield unquote(password)
