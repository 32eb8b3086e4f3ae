"""The search for two numbers: how many calls a teacher takes at once, and how many per second.

The *limit* of calls in flight is doubled while more of them bring more completions per second, and falls back where
they do not: a server that queues gains nothing but late answers. The *rhythm* of starts is free until the teacher
refuses. A refusal at a rank where nobody gets in lowers the limit; any other lowers the rhythm, to what was taken since
the last one. After a cut both are held, the longer the more often they were cut to the same place, and then raised in
growing steps: so refusals are rare, and a teacher that takes more than before is still noticed. Latencies are not
compared: a limit that follows them collapses.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, sqrt

from evol.limiter.bucket import Bucket

FIRST_PAUSE = 0.1  # seconds after a refusal that does not say how long; doubled with every cut in a row
LONGEST_OWN_PAUSE = 30.0
FIRST_HOLD = 5.0  # seconds without growth after a cut; doubled while the cuts come at the same place,
LONG_HOLD = 60.0  # up to this, or as long as HELD_CALLS take,
LONGEST_HOLD = 600.0  # but never longer
HELD_CALLS = 400
SAME_PLACE = 0.15  # the part by which two cuts differ at most that come at the same place
RECENT = (1 << 50) - 1  # mask of the outcomes that decide whether refusals are chance
MOST_NOISE = 0.03  # no teacher refuses a larger part of its calls by mere chance
SOFTER = (0.97, 0.93, 0.85, 0.7, 0.5)  # what the first, second, ... cut in a row leaves of the rhythm
SHORT_WAIT = 0.1  # seconds: who asks for no more may be busy by chance
LATE = 6  # timeouts of the last 50 calls that are no chance any more
SLOWEST = 0.1  # calls per second: no cut goes below it
MARGIN = 0.98  # what is used of the rhythm that a teacher seems to sustain
FIRST_STEP = 0.01  # the part of itself by which the rhythm grows at first; doubled with every step


@dataclass(slots=True, eq=False)
class Slot:
    """Leave to make one call. Set `used` when the tokens it really took are known; until then the estimate counts."""

    tokens: int
    used: int | None = None
    began: float = 0.0  # by the loop's clock
    rank: int = 0  # calls in flight when it began, itself included
    era: int = 0  # cuts before it began


class Outcomes:
    """What was sent, taken and refused since the last cut: whether refusals are chance, and where they happen."""

    def __init__(self, highest: int, now: float, before: float) -> None:
        self.since = now
        self.before = before  # the part refused before the last cut
        self.sent = 0
        self.refused = 0
        self._taken = [0] * (highest + 1)  # by rank
        self._lowest = highest  # rank refused
        self._recent = 0  # bits, 1 for a refusal
        self._timeouts = 0  # bits, 1 for a timeout

    @property
    def share(self) -> float:
        """The part of calls that was refused."""
        return self.refused / max(1, self.sent)

    @property
    def room(self) -> int:
        """The highest rank at which nobody was refused."""
        return self._lowest - 1

    def took(self, rank: int) -> None:
        self._recent = self._recent << 1 & RECENT
        self._timeouts = self._timeouts << 1 & RECENT
        self._taken[rank] += 1

    def refuse(self, rank: int) -> int:
        """Returns how many of the last 50 calls were refused."""
        self.refused += 1
        self._lowest = min(self._lowest, rank)
        self._recent = (self._recent << 1 | 1) & RECENT
        return self._recent.bit_count()

    def late(self) -> int:
        """A call timed out; returns how many of the last 50 did."""
        self._timeouts = (self._timeouts << 1 | 1) & RECENT
        return self._timeouts.bit_count()

    def crowded(self) -> bool:
        """Whether hardly anybody gets in at the ranks that were refused: it is their number and not their rhythm."""
        return sum(self._taken[self._lowest :]) < self.refused

    def steady(self, now: float) -> float:
        """Calls per second that the teacher took between two refusals, infinite where that is too short to say.

        Its bucket was empty at both: it sustains that, or more where the bucket ran over in between.
        """
        seconds, taken = now - self.since, self.sent - self.refused
        return taken / seconds if seconds > 2.0 and taken >= 8 else inf


class Rhythm:
    """How many calls may start per second; `bucket` is None while that is free."""

    def __init__(self) -> None:
        self.bucket: Bucket | None = None
        self.used = False  # somebody had to wait for it since the last look
        self.step = FIRST_STEP
        self._survived = 0.0  # the rate before it last grew
        self._guessed = False  # the last cut went by more than what is known to be sustained
        self._bursty = False  # and that was wrong: for a while this teacher takes more than it sustains
        self._looked, self._sent = 0.0, 0  # the last look, and what was sent by then

    def cut(self, outcomes: Outcomes, now: float, softer: float, held: bool, without: float) -> float:
        """Returns the new rate. `without` is the one in place of none; `held`: this cut came soon after the last."""
        rate = self.bucket.rate if self.bucket else without
        steady = outcomes.steady(now)
        self._bursty = self._bursty or (self._guessed and held)
        self._guessed = steady < self._survived and not self._bursty
        if self._guessed:
            steady = sqrt(steady * self._survived)
        return self._set(max(SLOWEST, rate / 2, min(rate * softer, steady * MARGIN)), now)

    @property
    def is_idle(self) -> bool:
        """Whether there is one, and nobody has waited for it since the last look."""
        return self.bucket is not None and not self.used

    def hold(self, now: float) -> None:
        """Begins to grow anew, from now on in small steps."""
        self.step, self.used, self._survived = FIRST_STEP, False, 0.0
        self._looked, self._sent = now, 0

    def grow(self, sent: int, now: float, latency: float) -> None:
        """A step upwards where the rhythm was used up since the last look, which is about a latency ago."""
        if self.bucket is None or now < self._looked + max(2.0, latency, 2 / self.bucket.rate):
            return
        if self.used and sent - self._sent >= self.bucket.rate * (now - self._looked) * 0.8:
            self._survived = self.bucket.rate
            self._set(self.bucket.rate * (1 + self.step), now)
            self.step = min(1.0, self.step * 2)
        self._looked, self._sent, self.used = now, sent, False

    def survived(self, outcomes: Outcomes, noise: float) -> float:
        """A hold is over; returns the part of calls that is refused whatever one does, so far thought to be `noise`."""
        if self._guessed:
            self._bursty = self._bursty or outcomes.share > noise + 0.01
            return noise
        return min(MOST_NOISE, outcomes.share, outcomes.before) if outcomes.sent >= 100 else noise

    def _set(self, rate: float, now: float) -> float:
        if self.bucket is None:
            self.bucket = Bucket(rate, 1.0)
            self.bucket.level = 0.0
        self.bucket.fill(now)
        self.bucket.rate, self.bucket.most = rate, max(1.0, rate / 50)  # a late timer may be made up for
        return rate


class Search:
    """What is learnt from how calls end: `limit` and `rhythm`."""

    def __init__(self, first: int, highest: int) -> None:
        self.limit = first
        self.rhythm = Rhythm()
        self.latency = 1.0  # seconds, of late
        self.full = False  # somebody had to wait for the limit since the last look
        self._highest = highest
        self._era = 0  # cuts
        self._outcomes = Outcomes(highest, 0.0, 0.0)
        self._noise = 0.0  # the part of calls that is refused whatever one does
        self._stride = first  # what the limit grows by next
        self._base = (first, 0.0)  # the limit to fall back to, and the completions per second it brought
        self._window, self._completed = 0.0, 0  # when counting began, and the completions since
        self._late, self._overrun = 0, 0  # timeouts since the last cut by one, and how many were in flight then
        self._dam = highest  # what the limit does not grow beyond until then, and for how many seconds
        self._dammed_until, self._dammed = 0.0, LONGEST_HOLD / 2
        self._hold, self._held_until = FIRST_HOLD / 2, 0.0
        self._place = 0.0  # the limit after the last cut, or the rhythm, below 0
        self._row, self._soon = 0, 0.0  # cuts in a row, and until when the next one belongs to them

    def restart(self, now: float) -> None:
        """Counts completions anew: what came before now was not at full speed."""
        self._window, self._completed = now, 0
        self.full = self.rhythm.used = False

    def began(self, slot: Slot, now: float) -> None:
        """A call is sent."""
        if not self._era and not self._outcomes.sent:
            self._outcomes.since = self._window = now
        slot.era = self._era
        self._outcomes.sent += 1

    def succeeded(self, slot: Slot, now: float) -> None:
        """It was answered: the only time at which anything grows."""
        self.latency += (now - slot.began - self.latency) * 0.1
        if slot.era == self._era:
            self._outcomes.took(slot.rank)
        self._completed += 1
        if self._completed >= self._enough():
            self._look(now)
        if now >= self._held_until:
            before = self.rhythm.step
            self.rhythm.grow(self._outcomes.sent, now, self.latency)
            if before == FIRST_STEP < self.rhythm.step:
                self._survived_hold()

    def refused(self, slot: Slot, now: float, asked: float) -> float:
        """It was refused. Returns the seconds to pause; `asked` are those that the teacher asked for, 0.0 for none.

        A call that was sent before the last cut says nothing about it. Few refusals may be chance, except where the
        teacher says how long to wait.
        """
        if slot.era != self._era:
            return asked
        of_late = self._outcomes.refuse(slot.rank)
        if asked <= SHORT_WAIT and of_late < (3 if now < self._held_until else 2) + 150 * self._noise:
            return asked
        if asked <= SHORT_WAIT and self.rhythm.is_idle and not self._outcomes.crowded():
            return asked  # fewer were sent than it allows: it is not what was refused
        self._row = self._row + 1 if now < self._soon else 0
        pause = asked or min(LONGEST_OWN_PAUSE, FIRST_PAUSE * 2.0 ** min(self._row, 20))
        self._soon = now + pause + max(2.0, self.latency)
        self._cut(now)
        return pause

    def timed_out(self, slot: Slot, now: float, in_flight: int) -> None:
        """It was not answered in time: `in_flight`, itself included, may be more than it can serve.

        Where it was not one but many of them, growth stops short of that for a long time.
        """
        if slot.era == self._era and self._outcomes.late() >= LATE:
            self.limit = max(1, min(self.limit, in_flight) // 2)
            self._late, self._overrun = 0, in_flight
            self._new_era(now, self.limit, self.limit)
        self._late += 1
        if self._late == max(2, self._overrun // 4):
            self._dammed *= 2
            self._dammed_until = now + self._dammed
            self._dam = max(1, self._overrun * 3 // 4)

    def _cut(self, now: float) -> None:
        """Lowers the limit where nobody gets in, else the rhythm, and both where that did not help the last times."""
        crowded = self._outcomes.crowded()
        goal = max(self.limit, self._base[0]) if self._row else self.limit
        free = self.limit / self.latency
        if crowded or self._row > 1:
            self.limit = max(1, self._outcomes.room, self.limit // 2)
        place = float(self.limit)
        if not crowded:
            softer = SOFTER[min(self._row, len(SOFTER) - 1)]
            place = -self.rhythm.cut(self._outcomes, now, softer, now < self._held_until, free)
        self._new_era(now, goal, place)

    def _new_era(self, now: float, goal: int, place: float) -> None:
        """Below `goal` calls in flight growth is not asked for what it brings."""
        self._era += 1
        last = self._outcomes
        self._outcomes = Outcomes(self._highest, now, last.share if last.sent >= 20 else last.before)
        self._keep(now, place)
        self._base = (goal, 0.0)

    def _keep(self, now: float, place: float) -> None:
        """No growth for a while; longer where the last time came to the same place."""
        same = abs(place - self._place) <= abs(self._place) * SAME_PLACE
        rate = self.rhythm.bucket.rate if self.rhythm.bucket else self.limit / self.latency
        longest = min(LONGEST_HOLD, max(LONG_HOLD, HELD_CALLS / rate))
        self._hold = min(longest, self._hold * 2) if same else FIRST_HOLD
        self._place = place
        self._held_until = now + self._hold
        self._stride = 1
        self.rhythm.hold(now)
        self.restart(now)

    def _survived_hold(self) -> None:
        self._noise = self.rhythm.survived(self._outcomes, self._noise)

    def _grown(self) -> bool:
        """Whether the limit is so far above the base that its worth can be seen."""
        return self._base[1] > 0 and self.limit >= self._base[0] * 1.5

    def _enough(self) -> int:
        """Completions to count before looking at them: about one latency, and more where a change is small."""
        if not self._grown():
            return max(4, self.limit)
        return max(32 if self._stride > self._base[0] else 128, self.limit)

    def _look(self, now: float) -> None:
        """A window is over: falls back, or remembers what the limit brings, and grows where it was used up."""
        speed = self._completed / max(now - self._window, 1e-9)
        full, self.full = self.full, False
        self._window, self._completed = now, 0
        if not full:
            return
        if self._grown() and not self.rhythm.used and speed < self._wanted():
            self.limit = self._base[0]
            self._keep(now, self.limit)
            return
        self._remember(speed)
        if now >= self._held_until:
            if self._stride == 1 and self.rhythm.step == FIRST_STEP:
                self._survived_hold()
            self.limit = min(self._ceiling(now), self.limit + self._stride)
            self._stride = min(self.limit, self._stride * 2)

    def _ceiling(self, now: float) -> int:
        """Where the next growth is asked for what it brings: it is the double only while that was worth it."""
        limit, speed = self._base
        highest = self._dam if now < self._dammed_until else self._highest
        if speed > 0 and self._stride < limit and not self.rhythm.used:
            highest = min(highest, ceil(limit * 1.5))
        return max(self.limit, min(highest, self._highest))

    def _wanted(self) -> float:
        """Completions per second that make the growth worth while: half of the ideal, a quarter when it doubles."""
        limit, speed = self._base
        return speed * (1 + (self.limit / limit - 1) * (0.25 if self._stride > limit else 0.5))

    def _remember(self, speed: float) -> None:
        limit, before = self._base
        if self.limit == limit and before:
            self._base = (limit, before + (speed - before) * 0.3)
        elif self.limit >= limit and (self._grown() or self.rhythm.used or not before):
            self._base = (self.limit, speed)
