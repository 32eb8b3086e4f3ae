"""`evol teachers`: list, check."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Teachers: list, check.", invoke_without_command=True, rich_markup_mode=None)
QUESTION = "Which of these is a fruit: hammer, pear, cloud? Reply as a JSON object with one field, fruit."
SCHEMA = {
    "type": "object",
    "properties": {"fruit": {"type": "string"}},
    "required": ["fruit"],
    "additionalProperties": False,
}


@app.callback()
def _alone(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        list_teachers()


@app.command("list")
def list_teachers() -> None:
    """List the kinds of teacher, and those that the evol.toml here names."""
    from evol.recipe import FILE_NAME, ROLES, read_options
    from evol.teachers import TEACHER_KINDS

    for name, meaning in TEACHER_KINDS.items():
        typer.echo(f"{name:18} {meaning}")
    path = Path(FILE_NAME)
    options = read_options(path) if path.is_file() else {}
    named = {role: options[role] for role in ("teacher", *ROLES) if role in options}
    for role, spec in named.items():
        typer.echo(f"{FILE_NAME} names {spec} as {role}")
    if not named:
        typer.echo(f"no {FILE_NAME} here names one: give --teacher to a run")


@app.command("check")
def check(
    spec: Annotated[str, typer.Argument(help="A teacher, written as for --teacher.")],
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the reply.")] = 60.0,
) -> None:
    """Ask one question, and say what answers: model, latency, JSON mode, context."""
    from evol.errors import UsageError
    from evol.recipe import FILE_NAME, read_options

    path = Path(FILE_NAME)
    keys = read_options(path).get("keys", {}) if path.is_file() else {}
    if not isinstance(keys, dict):
        raise UsageError(f"{FILE_NAME}: keys: give a table of hosts, each with the name of a variable")
    asyncio.run(_check(spec, keys, timeout))


def _is_json(text: str) -> bool:
    try:
        return "fruit" in json.loads(text)
    except (ValueError, TypeError):
        return False


async def _check(spec: str, keys: dict[str, str], seconds_to_wait: float) -> None:
    from evol.errors import CallFailed, TeacherError
    from evol.recipe import SAMPLING
    from evol.records import Request
    from evol.teachers import read_completion, teacher_named

    teacher = teacher_named(spec, keys, seconds_to_wait)
    sampling = SAMPLING["responder"]  # what a run asks with: a server that takes less should say so now
    try:
        started = time.monotonic()
        body = await teacher.send(Request("score", "Do as the user says.", QUESTION, sampling, schema=SCHEMA))
        seconds = time.monotonic() - started
        answer = read_completion(body, sampling.max_tokens)
        about = await teacher.describe()
    except CallFailed as error:
        raise TeacherError(f"{spec}: {error}") from error
    finally:
        await teacher.close()
    typer.echo(f"model    {teacher.model} ({about.where})")
    typer.echo(f"latency  {seconds * 1000:.0f} ms for {answer.usage.completion_tokens} tokens")
    typer.echo(
        f"json     {about.json_mode}, and the reply {'keeps' if _is_json(answer.text) else 'does NOT keep'} to it"
    )
    typer.echo(f"context  {f'{about.context:,} tokens' if about.context else 'not told'}")
    typer.echo(f"reply    {' '.join(answer.text.split())[:200]}")
    for notice in teacher.notices:
        typer.echo(f"note     {notice}")
