"""From what a user types after `--teacher` to a teacher."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from evol.errors import TeacherError, UsageError
from evol.teachers.base import Teacher

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
OTHER_KEY = "EVOL_API_KEY"  # OpenAI's key goes to OpenAI and to nobody else
TEACHER_KINDS: Mapping[str, str] = {
    "openai:MODEL": f"a model of OpenAI; the key is read from {OPENAI_KEY}",
    "openai:MODEL@URL": f"the same API elsewhere: openai:qwen3@http://localhost:8000/v1; key, if any, in {OTHER_KEY}",
    "demo": "rules instead of a model, free and offline, to see evol at work; not for training",
}
ADDRESS = re.compile(r"://|@[\w.-]+:\d+(?:/|\Z)")  # in the name of a model: an address that is not written as one
SPEC = re.compile(r"openai:(?P<model>.+?)(?:@(?P<url>https?://\S+))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model and the base URL of the API that serves it."""

    model: str
    url: str

    @property
    def host(self) -> str:
        """The host as it stands in the URL, with the port if there is one."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


def parse_spec(spec: str) -> Endpoint | None:
    """The endpoint a spec names, None for `demo`. Raises `UsageError` with the choices for anything else."""
    if spec.strip() == "demo":
        return None
    match = SPEC.fullmatch(spec.strip())
    if not match:
        raise UsageError(f"no teacher is called {spec!r}; the choices are: {', '.join(TEACHER_KINDS)}")
    url = match["url"] or OPENAI_URL
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise UsageError(f"the address of {match['model']} holds a password; give it in the environment instead")
    if ADDRESS.search(match["model"]):
        raise UsageError(
            "an address is written with http:// or https:// in front: openai:MODEL@http://localhost:8000/v1"
        )
    try:
        parts = urlsplit(url)
        well_formed = bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed:
        raise UsageError(f"{url} is not the address of a server; one looks like http://localhost:8000/v1")
    return Endpoint(match["model"], url.rstrip("/"))


def teacher_named(spec: str, keys: Mapping[str, str], timeout: float) -> Teacher:
    """The teacher of this name. `keys` says which environment variable holds the key of which host.

    `timeout` is the longest a call may take, in seconds. Raises `UsageError`, and `TeacherError` where a key is needed
    and missing.
    """
    endpoint = parse_spec(spec)
    if endpoint is None:
        from evol.teachers.demo import DemoTeacher

        return DemoTeacher()
    from evol.teachers.openai import OpenAITeacher

    variable = keys.get(endpoint.host, OPENAI_KEY if endpoint.url == OPENAI_URL else OTHER_KEY)
    key = os.environ.get(variable, "").strip()
    if not key and (endpoint.url == OPENAI_URL or endpoint.host in keys):
        raise TeacherError(f"{spec} needs a key: set {variable} in the environment")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise TeacherError(f"the key in {variable} holds characters that no key has: set it again")
    return OpenAITeacher(endpoint.model, endpoint.url, key, timeout, key_variable=variable)
