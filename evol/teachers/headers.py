"""What the headers of a reply say of waiting: how long, and what is left of the rate limits.

Providers write seconds, milliseconds, durations ("6m0s"), moments as seconds or milliseconds since 1970, as RFC 3339 or
as HTTP's dates. What is none of these, negative or not finite says nothing.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from evol.records import Allowance, Left

# By what is limited: the names under which a provider tells it, `{}` standing for limit, remaining and reset.
REQUESTS = (
    "x-ratelimit-{}-requests",
    "anthropic-ratelimit-requests-{}",
    "x-ratelimit-{}-req-minute",
    "x-ratelimit-{}-requests-minute",
    "x-ratelimit-{}",
    "ratelimit-{}",
)
TOKENS = (
    "x-ratelimit-{}-tokens",
    "anthropic-ratelimit-tokens-{}",
    "x-ratelimit-{}-tokens-minute",
    "x-tokenlimit-{}",
)
NUMBER = re.compile(r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*(?:[,;].*)?", re.ASCII | re.DOTALL)  # "100, 100;w=60" is 100
DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|us|ns|[dhms]))+", re.ASCII)
PART = re.compile(r"([\d.]+)(ms|us|ns|[dhms])")
SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
EPOCH_SECONDS, EPOCH_MILLISECONDS = 1e9, 1e11  # a number from here on is a moment, not a span


def allowance(headers: Iterable[tuple[bytes, bytes]]) -> Allowance | None:
    """What is left of the rate limits by the raw headers of a reply; None where they say nothing of it."""
    limits = {name.lower().decode("latin-1"): value for name, value in headers if b"limit" in name.lower()}
    if not limits:
        return None
    told = {name: value.decode("latin-1").strip() for name, value in limits.items()}
    now = _date(next((value.decode("latin-1") for name, value in headers if name.lower() == b"date"), None))
    requests, tokens = (_left(told, names, now or datetime.now(UTC)) for names in (REQUESTS, TOKENS))
    return Allowance(requests, tokens) if requests or tokens else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, where the teacher says it: in milliseconds, in seconds, or as a date by its own clock."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with contextlib.suppress(KeyError, ValueError):
            seconds = float(headers[name]) / unit
            if math.isfinite(seconds):
                return max(0.0, seconds)
    until, now = _date(headers.get("retry-after")), _date(headers.get("date"))
    if until is None:
        return None
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def _left(told: Mapping[str, str], names: Iterable[str], now: datetime) -> Left | None:
    """By the first of the names that tells a number."""
    for name in names:
        limit, remaining = (_number(told.get(name.format(part))) for part in ("limit", "remaining"))
        reset = _reset(told.get(name.format("reset")), now)
        if limit is not None or remaining is not None or reset is not None:
            return Left(limit, remaining, reset)
    return None


def _number(text: str | None) -> float | None:
    match = NUMBER.fullmatch(text or "")
    return float(match[1]) if match else None


def _reset(text: str | None, now: datetime) -> float | None:
    """Seconds until then."""
    if not text:
        return None
    if (number := _number(text)) is not None:
        if number < EPOCH_SECONDS:
            return number
        moment = number / 1000 if number >= EPOCH_MILLISECONDS else number
        return max(0.0, moment - now.timestamp())
    if DURATION.fullmatch(text):
        return sum(float(count) * SECONDS[unit] for count, unit in PART.findall(text))
    until = _moment(text) or _date(text)
    return None if until is None else max(0.0, (until - now).total_seconds())


def _moment(text: str) -> datetime | None:
    """A moment as RFC 3339 writes it; None for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _date(text: str | None) -> datetime | None:
    """A date as HTTP writes it; None for anything else."""
    try:
        date = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
