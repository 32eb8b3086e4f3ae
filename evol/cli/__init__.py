"""The command line: reads options, calls one function, prints. Data goes to stdout, talk to stderr.

Everything heavy is imported by the command that needs it, so that `evol --help` answers at once.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from evol.cli import plan, repair, review, run, teachers, templates
from evol.cli.talk import say
from evol.errors import CannotWrite, EvolError, Interrupted, UsageError
from evol.version import __version__

app = typer.Typer(
    name="evol",
    help="Evolve a seed file of instructions into harder, cleaner, documented training data (Evol-Instruct).",
    epilog="Begin with: evol run --rounds 4 --seed alpaca.json",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("stats")(review.stats)
app.command("show")(review.show)
app.command("repair")(repair.repair)
app.add_typer(templates.app, name="templates")
app.add_typer(teachers.app, name="teachers")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"evol {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options that go before a command."""


def _on_one_line(text: str) -> str:
    return text.replace("\n", "\\n")


def main() -> None:
    """Runs the command line; the one place where errors become exit codes."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        # To be told to end is to be interrupted, unless that is ignored, as by nohup.
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        app()
    except EvolError as error:
        # What the choices are takes several lines; a line break anywhere else is one of a file's name.
        say(f"evol: {error if isinstance(error, UsageError) else _on_one_line(str(error))}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # before a command is at work
        sys.exit(Interrupted.exit_code)
    except BrokenPipeError:
        # Whoever reads us has had enough (`evol show ... | head`).
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        say(f"evol: {error.strerror or error}: the output could not be written")
        sys.exit(CannotWrite.exit_code)
