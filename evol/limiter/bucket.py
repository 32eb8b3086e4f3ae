"""Levels that rise with time: what bounds the requests or the tokens of a minute."""

from __future__ import annotations

from math import inf, isfinite
from typing import TypeGuard

from evol.records import Left

SHORTEST_WAIT = 1e-4  # seconds: less is not worth a timer
LONGEST_PAUSE = 1800.0  # seconds: what a teacher may ask for at most
DAY = 86_400.0  # seconds: a reset beyond it is no reset but a date, or nonsense
ABSURD = 1e12  # no limit of requests or tokens is that high


class Bucket:
    """A level that rises by `rate` per second up to `most`; whoever finds 1 or more in it may go.

    `whole` is the time at which it is full in any case. Without arguments it bounds nothing.
    """

    __slots__ = ("_then", "level", "most", "rate", "whole")

    def __init__(self, rate: float = 0.0, most: float = inf) -> None:
        self.rate = rate
        self.most = most
        self.level = most
        self.whole = inf
        self._then = 0.0

    def fill(self, now: float) -> None:
        """Brings the level to what it is now."""
        if now >= self.whole:
            self.level, self.whole = self.most, inf
            self.rate = max(self.rate, self.most / 60)  # nothing was heard since: no reason to starve
        self.level = min(self.most, self.level + self.rate * (now - self._then))
        self._then = now

    def wait(self, now: float) -> float:
        """Seconds until somebody may go, 0.0 for now."""
        self.fill(now)
        if self.level >= 1.0 - 1e-6:
            return 0.0
        wait = (1.0 - self.level) / self.rate if self.rate else inf
        return max(SHORTEST_WAIT, min(wait, self.whole - now))

    def hear(self, left: Left | None, uncounted: float, now: float) -> float:
        """Takes in what the teacher says is left; returns the seconds to pause, 0.0 for none.

        `uncounted` is in flight and perhaps not counted yet: it is taken off at first, and later bounds from below what
        the level says itself. The rate is the highest heard of late, since of a reset that is rounded, or that of a
        fixed window, a single answer says too little. What is missing or cannot be is passed over.
        """
        if left is None or left.limit == 0 or not sane(left.remaining) or not sane(left.reset):
            return 0.0
        remaining, reset = left.remaining, left.reset
        if not SHORTEST_WAIT < reset <= DAY:
            return 0.0
        self.fill(now)
        self.most = max(1.0, remaining, left.limit if sane(left.limit) else 0.0)
        self.rate = max(self.rate * 0.99, (self.most - remaining) / reset)
        level = self.level if isfinite(self.level) else 0.0
        self.level = max(remaining - uncounted, min(level, remaining))
        self.whole = now + min(reset, LONGEST_PAUSE)
        return reset if remaining < 1.0 else 0.0


def capped(per_minute: float | None, parts: int) -> Bucket:
    """A bucket that lets at most `per_minute` and one through in any minute, and one of `parts` of that at once."""
    if per_minute is None:
        return Bucket()
    at_once = max(1.0, per_minute / parts)
    return Bucket((per_minute + 1.0 - at_once) / 60.0, at_once)


def sane(value: float | None) -> TypeGuard[float]:
    """Whether this can be a number of seconds, requests or tokens."""
    return value is not None and isfinite(value) and 0 <= value < ABSURD
