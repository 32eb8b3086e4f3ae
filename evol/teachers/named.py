"""From what a user types after `--teacher` to a teacher."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from evol.errors import TeacherError, UsageError
from evol.records import NO_PRICE, Price
from evol.teachers.base import Teacher
from evol.teachers.keys import FILE, is_like_a_key, may_be_a_key, read_key
from evol.teachers.options import PREFERRED, LocalOptions
from evol.teachers.prices import known_price
from evol.teachers.servers import ANY_SERVER, OPENAI_URL, SERVERS, Server

OPENAI_KEY = "OPENAI_API_KEY"
TIMEOUT = 300.0  # seconds of a call
LOCAL_TIMEOUT = 3600.0  # two thousand tokens may take long on a few cores
LOCAL_DEFAULTS = LocalOptions()
OTHER_KEY = "EVOL_API_KEY"  # OpenAI's key goes to OpenAI and to nobody else
KEY_BELONGS = f"put it into the environment, as {OPENAI_KEY} for OpenAI or {OTHER_KEY} for others, and nowhere else"
TEACHER_KINDS: Mapping[str, str] = {
    "openai:MODEL": f"a model of OpenAI; the key is read from {OPENAI_KEY}",
    "openai:MODEL@URL": f"the same API elsewhere: openai:qwen3@http://localhost:8000/v1; key, if any, in {OTHER_KEY}",
    "local:FILE.gguf": "a model on this machine, run by llama.cpp: nothing to start, no account",
    "local:ORG/REPO:QUANT": f"the same, downloaded from the Hugging Face hub; :QUANT may be left out for {PREFERRED}",
    **{f"{name}:MODEL": f"that server, running at {server.url} (elsewhere: @URL)" for name, server in SERVERS.items()},
    "demo": "rules instead of a model, free and offline, to see evol at work; not for training",
}
ADDRESS = re.compile(r"://|@[\w.-]+:\d+(?:/|\Z)")  # in the name of a model: an address that is not written as one
KIND = "|".join(("openai", *SERVERS))
SPEC = re.compile(rf"(?P<kind>{KIND}):(?P<model>.+?)(?:@(?P<url>https?://\S+))?", re.DOTALL)
LOCAL = re.compile(r"local:(?P<name>.+)", re.DOTALL)
REPOSITORY = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?::(?P<quantization>[\w./-]+))?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model, the base URL of the API that serves it, and what kind of server that is (a key of `SERVERS`, or "")."""

    model: str
    url: str
    kind: str = ""

    @property
    def server(self) -> Server:
        """How this kind of server differs from others."""
        return SERVERS.get(self.kind, ANY_SERVER)

    @property
    def host(self) -> str:
        """The host as it stands in the URL, with the port if there is one."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model for llama.cpp: a file, or a repository of the Hugging Face hub and which of its quantizations."""

    path: Path | None
    repository: str = ""
    quantization: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        """Equal for two spellings of the same."""
        return (str(self.path.resolve()) if self.path else self.repository, self.quantization)


def parse_spec(spec: str) -> Endpoint | LocalModel | None:
    """What a spec names, None for `demo`. Raises `UsageError` with the choices for anything else."""
    if spec.strip() == "demo":
        return None
    try:
        spec.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the name of the teacher {spec!a} is not UTF-8: give it another") from error
    if is_like_a_key(spec):
        raise UsageError(f"the name of a teacher holds what looks like a key: {KEY_BELONGS}")
    if match := LOCAL.fullmatch(spec.strip()):
        return _local_model(match["name"])
    match = SPEC.fullmatch(spec.strip())
    if not match:
        called = f"what was given (if it is a key: {KEY_BELONGS})" if may_be_a_key(spec) else repr(spec)
        raise UsageError(f"no teacher is called {called}; the choices are: {', '.join(TEACHER_KINDS)}")
    kind = match["kind"] if match["kind"] in SERVERS else ""
    url = match["url"] or (SERVERS[kind].url if kind else OPENAI_URL)
    _check_address(url, match["model"])
    if ADDRESS.search(match["model"]) or (kind and ("@" in match["model"] or match["model"].startswith("/"))):
        raise UsageError(
            "an address is written with http:// or https:// in front, after the model: "
            f"{match['kind']}:MODEL@http://localhost:8000/v1"
        )
    return Endpoint(match["model"], url.rstrip("/"), kind)


def teacher_named(
    spec: str, keys: Mapping[str, str], timeout: float | None = None, local: LocalOptions = LOCAL_DEFAULTS
) -> Teacher:
    """The teacher of this name. `keys` says which environment variable holds the key of which host.

    `timeout` is the longest a call may take, in seconds; None is `TIMEOUT`, and `LOCAL_TIMEOUT` for local models. What
    is not on this machine yet is downloaded. Raises `UsageError`, and `TeacherError` where a key is needed and missing,
    or a model.
    """
    named = parse_spec(spec)
    if named is None:
        from evol.teachers.demo import DemoTeacher

        return DemoTeacher()
    if isinstance(named, LocalModel):
        from evol.teachers.hub import download
        from evol.teachers.local import LocalTeacher, check_machine

        check_machine(spec, local)  # before a model is downloaded that could not be run
        path = named.path or download(named.repository, named.quantization)
        return LocalTeacher(path, local, timeout or LOCAL_TIMEOUT)
    from evol.teachers.openai import OpenAITeacher

    variable = key_variable(named, keys)
    key = read_key(variable)
    if not key and (named.url == OPENAI_URL or named.host in keys):
        raise TeacherError(
            f"{spec} needs a key: set {variable} in the environment, or {variable}{FILE} to a file with it"
        )
    return OpenAITeacher(named.model, named.url, key, timeout or TIMEOUT, key_variable=variable, server=named.server)


def list_price(spec: str, own: Mapping[str, tuple[Decimal, Decimal]]) -> Price | None:
    """The price of what a spec names, where it is among the user's `own` (by model) or known; None where it is not."""
    named = parse_spec(spec)
    if not isinstance(named, Endpoint):
        return NO_PRICE
    return Price(*own[named.model]) if named.model in own else known_price(named.model, named.url)


def key_variable(endpoint: Endpoint, keys: Mapping[str, str]) -> str:
    """The environment variable that holds the key of this endpoint, if it has one."""
    return keys.get(endpoint.host, OPENAI_KEY if endpoint.url == OPENAI_URL else OTHER_KEY)


def _check_address(url: str, model: str) -> None:
    """Raises `UsageError` for what is no address of a server, or holds more than one."""
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise UsageError(f"the address of {model} holds a password; {KEY_BELONGS}")
    if "?" in url or "#" in url:
        raise UsageError(f"the address of {model} holds more than a path; if that is a key, {KEY_BELONGS}")
    try:
        parts = urlsplit(url)
        well_formed = bool(parts.hostname) and parts.port != 0
    except ValueError:
        well_formed = False
    if not well_formed:
        raise UsageError(f"{url} is not the address of a server; one looks like http://localhost:8000/v1")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # it may be there, for all that is known
        return True


def _local_model(name: str) -> LocalModel:
    """A file where it looks like one, or is there; else a repository."""
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:
        raise UsageError(f"local:{name}: there is no such user: write the path in full") from error
    is_repository = REPOSITORY.fullmatch(name)
    if _exists(path) or (name.lower().endswith(".gguf") and ":" not in name) or not is_repository:
        return LocalModel(path)
    return LocalModel(None, is_repository["repository"], is_repository["quantization"] or "")
