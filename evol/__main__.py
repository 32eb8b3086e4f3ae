"""The command `evol`, and `python -m evol`."""

from __future__ import annotations

import signal


def main() -> None:
    """Runs the command line. Until that is there to answer an interrupt, one ends the process without a word."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from evol.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
