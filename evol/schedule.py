"""All lineages of a run, side by side, until they are through or the run is told to stop.

To stop is to send nothing more and to let what is in flight come in: it is paid for. The first interrupt does that, and
so does whatever else ends a run: a budget, a teacher that refuses, a full disk. A second interrupt drops it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from evol.ask import Ask, Stopped
from evol.errors import BudgetReached, CannotWrite, EvolError, Interrupted, TeacherError
from evol.journal import Journal
from evol.records import Seed
from evol.tally import Tally

LINEAGES_PER_SLOT = 2  # so many are alive for every call in flight: a commit never leaves a slot of the teacher empty
# Seconds for what is in flight when a run stops, where it is not waited for to its end: what costs no money may be
# asked for again, and whoever refuses one call will hardly answer another.
GRACE = 1.0
LOOKED_AT = 0.2  # seconds between two looks at whether the work is done
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@dataclass
class Schedule:
    """The work of one process: `grow` takes a seed through its rounds.

    `seconds` is how long calls may be sent. `where` names the run to the user.
    """

    ask: Ask
    journal: Journal
    tally: Tally
    seeds: Sequence[Seed]
    grow: Callable[[Seed], Awaitable[None]]
    where: str
    seconds: float | None = None
    dropped: int = 0
    _task: asyncio.Task[None] | None = field(default=None, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _interrupts: int = field(default=0, init=False)
    _is_refused: bool = field(default=False, init=False)

    def complete(self) -> None:
        """Does it, on an event loop of its own: in a thread where this one has a loop already, as in a notebook.

        Raises what stopped it. Whoever is through before that is no less through for it.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(self._run())
            return
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(asyncio.run, self._run())
            while True:
                try:
                    # In short waits: a long one may not hear of an interrupt before it ends.
                    while not wait([done], timeout=LOOKED_AT).done:
                        pass
                except KeyboardInterrupt:
                    self._interrupt()
                else:
                    break
            done.result()

    async def _run(self) -> None:
        self._task, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        self.journal.in_trouble = lambda error: self._tell(self.stop, error)
        ending = asyncio.create_task(self._end_in_time())
        try:
            with self._hearing_signals():
                try:
                    await self._grow_all()
                finally:
                    ending.cancel()
                    for teacher in self.tally.teachers:
                        await teacher.close()
        except asyncio.CancelledError:
            if self.ask.stopped is None:
                raise
        if self.ask.stopped is not None and self.tally.seeds_done < len(self.seeds):
            raise self._last_words(self.ask.stopped)

    async def _grow_all(self) -> None:
        """Lineages that come first in the pool go first; there is no barrier between rounds."""
        alive = 0

        async def live(seed: Seed) -> None:
            nonlocal alive
            try:
                await self.grow(seed)
                self.tally.seeds_done += 1
            except Stopped:
                pass
            except EvolError as error:
                self.stop(error)
            finally:
                alive -= 1
                self.ask.changed.set()

        async with asyncio.TaskGroup() as group:
            for seed in self.seeds:
                while alive >= LINEAGES_PER_SLOT * self.ask.capacity and self.ask.stopped is None:
                    self.ask.changed.clear()
                    await self.ask.changed.wait()
                if self.ask.stopped is not None:
                    break
                alive += 1
                group.create_task(live(seed))
        await self.journal.flush()

    def stop(self, error: EvolError) -> None:
        """Sends nothing more, and says so. The first reason stands, unless what was in flight cannot be kept."""
        self._is_refused = self._is_refused or isinstance(error, TeacherError)
        if self.ask.stopped is not None:
            if isinstance(error, CannotWrite) and self.journal.failed:
                self.ask.stopped = error
                self._drop()
            return
        self.ask.stop(error)
        if self.ask.in_flight:
            again = " (interrupt again to drop them)" if isinstance(error, Interrupted) else ""
            self.tally.stopping = f"stopping: {self.ask.in_flight} calls in flight are waited for{again}"

    async def _end_in_time(self) -> None:
        """Stops when the time is over; and when it was stopped, gives what is in flight as much time as it deserves."""
        try:
            async with asyncio.timeout(self.seconds):
                await self.ask.wait_for_stop()
        except TimeoutError:
            self.stop(
                BudgetReached(
                    f"the budget of {self.seconds:g} seconds (--max-time) is reached; what was answered is kept: run "
                    "the same command again to go on"
                )
            )
        loop = asyncio.get_running_loop()
        spare = loop.time()  # since when nothing is in flight that is waited for to its end
        while loop.time() - spare < GRACE:
            await asyncio.sleep(GRACE / 10)
            if self.ask.paid_in_flight and not self._is_refused:
                spare = loop.time()
        self._drop()

    def _drop(self) -> None:
        self.dropped = self.ask.in_flight
        if self._task is not None:
            self._task.cancel()

    def _interrupt(self) -> None:
        """The first stops, the second drops. Called from any thread."""
        self._interrupts += 1
        if self._interrupts > 1:
            self._tell(self._drop)
        else:
            again = "the same command goes on from there"
            self._tell(self.stop, Interrupted(f"interrupted; what was answered is safe in {self.where}; {again}"))

    def _tell(self, what: Callable[..., None], *values: object) -> None:
        """Has it done on the loop, from any thread, if that is still there."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(what, *values)

    @contextmanager
    def _hearing_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
        # Who is told to ignore a signal, as by nohup, goes on ignoring it.
        heard = {
            number: signal.getsignal(number) for number in numbers if signal.getsignal(number) is not signal.SIG_IGN
        }
        for number in heard:
            signal.signal(number, lambda *_: self._interrupt())
        try:
            yield
        finally:
            for number, before in heard.items():
                signal.signal(number, before or signal.SIG_DFL)

    def _last_words(self, error: EvolError) -> EvolError:
        if not self.dropped or isinstance(error, CannotWrite) or all(teacher.free for teacher in self.tally.teachers):
            return error
        return type(error)(f"{error} ({self.dropped} calls in flight were dropped, and may be paid for again)")
