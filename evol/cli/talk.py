"""Talking to whoever watches: on stderr, and never a reason for a run to end; and what a command shows, on stdout.

Texts of seeds and teachers, and names of files, reach a terminal by these two alone, and never steer it.
"""

from __future__ import annotations

import contextlib

import typer

from evol.words import printable


def say(line: str = "") -> None:
    """A line to stderr, if anybody is there to read it: a closed or full stderr must not cost a run its dataset."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        typer.echo(printable(line), err=True)


def show(line: str = "") -> None:
    """A line to stdout. Raises `OSError` where it cannot be written."""
    typer.echo(printable(line))
