"""Talking to whoever watches: on stderr, and never a reason for a run to end."""

from __future__ import annotations

import contextlib

import typer


def say(line: str = "") -> None:
    """A line to stderr, if anybody is there to read it: a closed or full stderr must not cost a run its dataset."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        typer.echo(line, err=True)
