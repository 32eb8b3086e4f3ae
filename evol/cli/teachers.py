"""`evol teachers`: list, check."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evol.cli.talk import show

if TYPE_CHECKING:
    from evol.recipe import Recipe

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
    """List the kinds of teacher, those that the evol.toml here names, and which of them would answer now."""
    from evol.recipe import FILE_NAME, ROLES, resolve
    from evol.teachers import TEACHER_KINDS
    from evol.teachers.found import llama_cpp, servers, states

    for name, meaning in TEACHER_KINDS.items():
        show(f"{name:20} {meaning}")
    recipe = resolve({"seed": Path()})
    named = {role: spec for role in ("teacher", *ROLES) if (spec := getattr(recipe, role))}
    show()
    for (role, spec), state in zip(named.items(), asyncio.run(states(list(named.values()), recipe.keys)), strict=True):
        show(f"{FILE_NAME} names {spec} as {role}: {state}")
    if not named:
        show(f"no {FILE_NAME} here names one: give --teacher to a run")
    show()
    show(f"On this machine now: {llama_cpp()}")
    for name, state in asyncio.run(servers()).items():
        show(f"  {name:18} {state}")


@app.command("check")
def check(
    spec: Annotated[str, typer.Argument(help="A teacher, written as for --teacher.")],
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the reply.")] = 60.0,
) -> None:
    """Ask one question, and say what answers: model, latency, JSON mode, context."""
    from evol.recipe import resolve

    # The rest of what a run is told counts here too: how a local model is run, and which key is whose.
    asyncio.run(_check(spec, resolve({"seed": Path(), "teacher": spec}), timeout))


def _is_json(text: str) -> bool:
    try:
        return "fruit" in json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return False


async def _check(spec: str, recipe: Recipe, seconds_to_wait: float) -> None:
    from evol.errors import CallFailed, TeacherError
    from evol.records import Request
    from evol.teachers import read_completion, send_in_any_form, teacher_named
    from evol.words import one_line

    teacher = teacher_named(spec, recipe.keys, seconds_to_wait, recipe.local)
    sampling = recipe.sampling_of("responder")  # what a run asks with: a server that takes less should say so now
    try:
        await teacher.describe()  # a local model is loaded before the time is taken
        started = time.monotonic()
        request = Request("score", "Do as the user says.", QUESTION, sampling, schema=SCHEMA)
        body = await send_in_any_form(teacher, request)
        seconds = time.monotonic() - started
        answer = read_completion(body)
        about = await teacher.describe()
    except CallFailed as error:
        raise TeacherError(f"{spec}: {error}") from error
    finally:
        await teacher.close()
    show(f"model    {teacher.model} ({about.where})")
    show(f"latency  {seconds * 1000:.0f} ms for {answer.usage.completion_tokens} tokens")
    show(f"json     {about.json_mode}, and the reply {'keeps' if _is_json(answer.text) else 'does NOT keep'} to it")
    show(f"context  {f'{about.context:,} tokens' if about.context else 'not told'}")
    show(f"reply    {one_line(answer.text, 200)}")
    for notice in teacher.notices:
        show(f"note     {notice}")
