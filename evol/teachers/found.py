"""What is there right now: whether a teacher that was named would answer, without asking it anything."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

from evol.errors import CallFailed, TeacherError
from evol.teachers.keys import read_key
from evol.teachers.named import Endpoint, LocalModel, key_variable, parse_spec
from evol.teachers.servers import SERVERS, is_here

PATIENCE = 2.0  # seconds for a server on this machine to say that it is there
NAMES_SHOWN = 5


async def states(specs: list[str], keys: Mapping[str, str]) -> list[str]:
    """A line for each teacher: whether it answers, else what is missing and how it is usually got."""
    return list(await asyncio.gather(*(_state(spec, keys) for spec in specs)))


async def servers() -> dict[str, str]:
    """The same for each kind of server that may be running on this machine, by its name. No key is shown to them."""
    endpoints = [Endpoint("", server.url, name) for name, server in SERVERS.items()]
    found = await asyncio.gather(*(_state_of_server(endpoint, "", "") for endpoint in endpoints))
    return dict(zip(SERVERS, found, strict=True))


def llama_cpp() -> str:
    """Whether models on this machine can be run."""
    try:
        return f"llama.cpp is installed (xllamacpp {version('xllamacpp')})"
    except PackageNotFoundError:
        from evol.teachers.local import INSTALL

        return f"llama.cpp is not installed: {INSTALL}"


async def _state(spec: str, keys: Mapping[str, str]) -> str:
    named = parse_spec(spec)
    if named is None:
        return "rules, always there"
    if isinstance(named, LocalModel):
        return _state_of_model(named)
    variable = key_variable(named, keys)
    try:
        key = read_key(variable)
    except TeacherError as error:
        return str(error)
    if is_here(named.url):
        return await _state_of_server(named, key, variable)
    return f"on another machine; its key in {variable} is {'set' if key else 'not set'}"


def _state_of_model(model: LocalModel) -> str:
    if model.path is None:
        return f"a model of the Hugging Face hub, downloaded when it is not on this machine yet; {llama_cpp()}"
    from evol.teachers.local import check_file

    try:
        check_file(model.path)
    except TeacherError as error:
        return str(error)
    return f"the file is there; {llama_cpp()}"


async def _state_of_server(endpoint: Endpoint, key: str, variable: str) -> str:
    from evol.teachers.openai import OpenAITeacher

    parts = urlsplit(endpoint.url)
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
            )
        writer.close()
    except OSError:  # a time-out is one too
        start = endpoint.server.start
        return f"not running{f'; usually started with: {start}' if start else ''}"
    teacher = OpenAITeacher(endpoint.model, endpoint.url, key, PATIENCE, key_variable=variable)
    try:
        names = await teacher.models()
    except (CallFailed, TeacherError) as error:
        return "something is there that lists no models" + (f": {error}" if endpoint.model else "")
    finally:
        await teacher.close()
    if endpoint.model and endpoint.model not in names:
        return f"answers, but has no {endpoint.model}; it has {_some(names)}"
    return f"answers: {_some(names)}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more if names else "no model is loaded"
