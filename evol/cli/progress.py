"""The progress of a run: a panel on a terminal, a line now and then anywhere else, nothing when quiet."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from evol.cli.talk import say
from evol.words import one_line, printable

if TYPE_CHECKING:
    from rich.table import Table

    from evol.tally import Tally

LINE_SECONDS = 10.0
LOOKED_AT = 0.2  # seconds between two looks at what the teachers are busy with
PANEL_PER_SECOND = 5
FAILURE_SHOWN = 120  # characters


def watch(*, quiet: bool) -> Callable[[Tally], AbstractContextManager[object]]:
    """How to watch a run on this standard error."""
    if quiet:
        return nullcontext
    # There is no stderr at all where a daemon starts us.
    return _panel if sys.stderr is not None and sys.stderr.isatty() else _lines


@contextmanager
def _lines(tally: Tally) -> Iterator[None]:
    done = threading.Event()
    started = time.monotonic()

    for line in tally.opening:
        say(line)

    def talk() -> None:
        last, busy = started, ""
        while not done.wait(LOOKED_AT):
            now = time.monotonic()
            if _busy(tally) != busy and (busy := _busy(tally)):
                say(busy)
            if now - last >= LINE_SECONDS:
                last = now
                say(_line(tally, now - started))

    thread = threading.Thread(target=talk, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        say(_line(tally, time.monotonic() - started))


@contextmanager
def _panel(tally: Tally) -> Iterator[None]:
    from rich.console import Console
    from rich.live import Live

    for line in tally.opening:
        say(line)
    started = time.monotonic()
    with Live(
        get_renderable=lambda: _table(tally, time.monotonic() - started),
        console=Console(stderr=True),
        refresh_per_second=PANEL_PER_SECOND,
    ):
        yield


def _table(tally: Tally, seconds: float) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("done", ProgressBar(total=1.0, completed=tally.share_done, width=40))
    table.add_row("seeds", f"{tally.seeds_done:,} of {tally.seeds:,} through all {tally.rounds} rounds")
    table.add_row("rounds", _rounds(tally))
    table.add_row("kept", f"{tally.kept.total():,}")
    table.add_row("eliminated", _eliminated(tally))
    table.add_row("calls", f"{tally.calls:,} ({tally.in_flight} in flight{_extra(tally)})")
    if tally.busy_with:
        table.add_row("teacher", Text(printable(tally.busy_with)))
    if tally.stopping:
        table.add_row("", Text(printable(tally.stopping)))
    if tally.last_failure:
        table.add_row("last failure", Text(_last_failure(tally)))  # what a server says is no markup
    table.add_row("tokens", _tokens(tally, seconds))
    table.add_row("time", _times(tally, seconds))
    return table


def _line(tally: Tally, seconds: float) -> str:
    return (
        f"{tally.share_done:4.0%} | kept {tally.kept.total():,} | eliminated {tally.eliminated.total():,} | "
        f"calls {tally.calls:,} ({tally.in_flight} in flight{_extra(tally)}) | {_tokens(tally, seconds)} | "
        f"{_times(tally, seconds)}"
    ) + "".join(
        f" | {name}: {said}"
        for name, said in (("teacher", tally.busy_with), ("last failure", _last_failure(tally)))
        if said
    )


def _busy(tally: Tally) -> str:
    """What the run waits for, where it is not the teachers' replies as usual."""
    return tally.stopping or tally.busy_with


def _rounds(tally: Tally) -> str:
    return "  ".join(f"{number}: {tally.attempts[number]:,}" for number in range(tally.rounds + 1))


def _eliminated(tally: Tally) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in tally.eliminated.most_common())
    return f"{tally.eliminated.total():,}" + (f" ({reasons})" if reasons else "")


def _extra(tally: Tally) -> str:
    replayed = f", {tally.replayed:,} from the journal" if tally.replayed else ""
    return replayed + (f", {tally.failed_tries:,} failed tries" if tally.failed_tries else "")


def _last_failure(tally: Tally) -> str:
    """Why the last try failed, while that is what the run waits for."""
    return one_line(tally.last_failure)[:FAILURE_SHOWN]


def _tokens(tally: Tally, seconds: float) -> str:
    paid = tally.paid
    rate = (paid.completion_tokens / seconds) if seconds else 0.0
    money = f", ${tally.cost:,.2f}" if tally.cost else ""
    return f"{paid.prompt_tokens:,} in, {paid.completion_tokens:,} out, {rate:,.0f} out/s{money}"


def _times(tally: Tally, seconds: float) -> str:
    # What came from the journal took no time: only what is paid says how long the rest takes.
    share = tally.share_done
    paid = share * tally.calls / max(1, tally.calls + tally.replayed)
    left = f", about {_clock((1 - share) * seconds / paid)} left" if paid > 0.01 and share < 1 else ""
    return f"{_clock(seconds)}{left}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
