"""What replies say of rate limits, in the forms that providers give it."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mock_teacher import MockTeacher, Reply, completion
from evol.errors import RateLimited
from evol.records import Allowance, Left, Request, Sampling
from evol.teachers.headers import allowance
from evol.teachers.openai import OpenAITeacher

CLOCK = "Sat, 21 Nov 2026 12:00:00 GMT"
NOON = 1_795_262_400  # the same in seconds since 1970


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("12ms", 0.012),
        ("1h2m3.5s", 3723.5),
        ("2d", 172_800.0),
        ("500us", 0.0005),
        ("0", 0.0),
        ("30", 30.0),
        ("0.25", 0.25),
        (" 7 ", 7.0),
        (str(NOON + 90), 90.0),
        (f"{NOON + 90}.5", 90.5),
        (str((NOON + 90) * 1000), 90.0),
        (str(NOON - 5), 0.0),
        ("2026-11-21T12:00:45Z", 45.0),
        ("2026-11-21T14:00:45+02:00", 45.0),
        ("2026-11-21T11:00:00Z", 0.0),
        ("Sat, 21 Nov 2026 12:01:00 GMT", 60.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("-3", None),
        ("-1s", None),
        ("1e9", None),
        ("1_000", None),
        ("1s and more", None),
        ("9" * 400, None),
        ("9" * 400 + "s", None),
        ("٣", None),
        ("2026-99-99T00:00:00Z", None),
    ],
)
def test_the_time_until_it_is_whole_again_is_read_in_every_form(text: str, seconds: float | None) -> None:
    found = allowance(raw({"Date": CLOCK, "x-ratelimit-limit-requests": "10", "x-ratelimit-reset-requests": text}))
    assert found is not None
    assert found.requests is not None
    assert found.requests.reset == (seconds if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"content-type": "application/json", "x-request-id": "1"}, None),
        (
            {
                "X-RateLimit-Limit-Requests": "5000",
                "x-ratelimit-limit-tokens": "160000",
                "x-ratelimit-remaining-requests": "4999",
                "x-ratelimit-remaining-tokens": "159976",
                "x-ratelimit-reset-requests": "12ms",
                "x-ratelimit-reset-tokens": "4ms",
            },
            Allowance(Left(5000, 4999, 0.012), Left(160_000, 159_976, 0.004)),
        ),
        (
            {
                "date": CLOCK,
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2026-11-21T12:00:01Z",
                "anthropic-ratelimit-tokens-remaining": "30000",
            },
            Allowance(Left(50, 49, 1.0), Left(None, 30_000, None)),
        ),
        ({"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "40"}, Allowance(Left(100, 40, None))),
        ({"x-ratelimit-limit": "20", "x-ratelimit-reset": "60"}, Allowance(Left(20, None, 60))),
        (
            {"x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-tokens-minute": "9"},
            Allowance(Left(60, None, None), Left(None, 9, None)),
        ),
        ({"x-tokenlimit-remaining": "7"}, Allowance(None, Left(None, 7, None))),
        ({"x-ratelimit-remaining-requests": "0"}, Allowance(Left(None, 0, None))),
        ({"x-ratelimit-limit-requests": "-1", "x-ratelimit-remaining-requests": "nan"}, None),
        ({"x-ratelimit-limit-requests": "many", "x-ratelimit-remaining-requests": "5"}, Allowance(Left(None, 5, None))),
        ({"x-ratelimit-limit-images": "5"}, None),
    ],
    ids=str,
)
def test_what_is_left_is_read_under_the_names_of_each_provider(
    headers: dict[str, str], expected: Allowance | None
) -> None:
    assert allowance(raw(headers)) == expected


@given(st.dictionaries(st.sampled_from(["limit", "remaining", "reset"]), st.binary(max_size=40)))
def test_no_bytes_in_a_header_break_a_call(values: dict[str, bytes]) -> None:
    found = allowance([(f"x-ratelimit-{name}-tokens".encode(), value) for name, value in values.items()])
    if found and found.tokens:
        told = (found.tokens.limit, found.tokens.remaining, found.tokens.reset)
        assert all(number is None or (math.isfinite(number) and number >= 0) for number in told)


def test_a_teacher_says_what_it_was_told_of_its_limits_and_nothing_where_it_was_not() -> None:
    replies = [{"x-ratelimit-remaining-requests": "5"}, {}, {"x-ratelimit-remaining-requests": "4"}]
    seen: list[Allowance | None] = []

    async def send(teacher: OpenAITeacher) -> None:
        request = Request("respond", "", "Say hello.", Sampling(64))
        for _ in range(2):
            await teacher.send(request)
            seen.append(teacher.allowance)
        with pytest.raises(RateLimited):
            await teacher.send(request)
        seen.append(teacher.allowance)
        await teacher.close()

    with MockTeacher(
        lambda call: Reply(200 if len(replies) > 1 else 429, completion("hello", call), replies.pop(0))
    ) as server:
        asyncio.run(send(OpenAITeacher("mock", server.url, "", 5.0, key_variable="K")))
    assert seen.pop(1) is None  # times count from the reply they came with
    assert seen == [Allowance(Left(None, left, None)) for left in (5, 4)]
