"""Torture: whatever a teacher does, no row is given up for it, and nothing is paid for after it refused."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.mock_teacher import Call, MockTeacher, Reply
from tests.conftest import SeedFile
from tests.torture import EVOL, answers, failures, files, run, whole

OUT = "outputs/faulty"
CONCURRENCY = 16
QUOTA = json.dumps({"error": {"message": "no money left", "code": "insufficient_quota"}}).encode()
REFUSALS = {
    "401": Reply(401, b'{"error": {"message": "no such key"}}'),
    "403": Reply(403, b'{"error": {"message": "the account is closed"}}'),
    "quota": Reply(429, QUOTA),
}
Note = Callable[[str, object], None]


@pytest.mark.parametrize("count", [25, pytest.param(1950, marks=pytest.mark.torture)])
def test_a_tenth_of_all_calls_failing_changes_nothing_but_the_calls(
    seed_file: SeedFile, record_property: Note, count: int
) -> None:
    seeds = seed_file(count)
    expected = whole(seeds)
    with MockTeacher(fault_rate=0.1, latency=0.01) as server:
        options = ("--timeout", "2", "--concurrency", "64", "--tries", "8")
        subprocess.run([*EVOL, *run(seeds, server, OUT, *options)], check=True)
        record_property("requests", server.requests)
    record_property("calls", len(answers(Path(OUT))))
    assert failures(Path(OUT)) == 0
    assert files(Path(OUT)) == expected


class Refusing:
    """Answers so many calls and refuses all after them, and knows when that began."""

    def __init__(self, answered: int, refusal: Reply) -> None:
        self.left = answered
        self.refusal = refusal
        self.refused = 0
        self.since = 0.0
        self.server = MockTeacher(latency=0.05)
        self._usual, self.server.handler = self.server.handler, self.reply

    def reply(self, call: Call) -> Reply:
        self.left -= 1
        if self.left >= 0:
            return self._usual(call)
        self.refused += 1
        self.since = self.since or time.monotonic()
        return self.refusal


@pytest.mark.parametrize(
    ("answered", "soon"), [(99, 5.0), *(pytest.param(n, 2.0, marks=pytest.mark.torture) for n in (0, 499))]
)  # a busy machine is slow to end
@pytest.mark.parametrize("refusal", ["403", *(pytest.param(name, marks=pytest.mark.torture) for name in REFUSALS)])
def test_a_refusal_stops_the_run_and_costs_no_more_than_what_was_in_flight(
    seed_file: SeedFile, record_property: Note, answered: int, soon: float, refusal: str
) -> None:
    seeds = seed_file(max(answered, 30) // 6)
    expected = whole(seeds)
    refusing = Refusing(answered, REFUSALS[refusal])
    with refusing.server as server:
        command = run(seeds, server, OUT, "--concurrency", str(CONCURRENCY))
        stopped = subprocess.run([*EVOL, *command], capture_output=True, text=True, check=False)
        seconds = time.monotonic() - refusing.since
        assert stopped.returncode == 5, stopped.stderr
        assert len(stopped.stderr.splitlines()) == 1
        assert len(answers(Path(OUT))) == answered
        record_property("refused", refusing.refused)
        record_property("seconds", seconds)
        assert refusing.refused <= CONCURRENCY
        assert seconds < soon
    with MockTeacher(port=server.port) as healthy:
        subprocess.run([*EVOL, *command], check=True)
        assert healthy.requests == len(answers(Path(OUT))) - answered
    assert failures(Path(OUT)) == 0
    assert files(Path(OUT)) == expected


OUTAGES = {"answers 503": Reply(503, b"<html>upstream</html>"), "hangs": Reply(fault="hang")}


class Failing:
    """Answers, but for a time in which it fails in one way."""

    def __init__(self, failure: Reply) -> None:
        self.failure = failure
        self.is_out = False
        self.server = MockTeacher(latency=0.02)
        self._usual, self.server.handler = self.server.handler, self.reply

    def reply(self, call: Call) -> Reply:
        return self.failure if self.is_out else self._usual(call)


@pytest.mark.parametrize(
    ("outage", "seconds"),
    [("answers 503", 3), *(pytest.param(name, 60, marks=pytest.mark.torture) for name in OUTAGES)],
)
def test_a_teacher_that_is_out_of_order_for_a_time_costs_no_row(
    seed_file: SeedFile, outage: str, seconds: float
) -> None:
    seeds = seed_file(30)
    expected = whole(seeds)
    failing = Failing(OUTAGES[outage])
    with failing.server as server:
        process = subprocess.Popen([*EVOL, *run(seeds, server, OUT, "--timeout", "1")])
        wait_for_calls(process, server, 100)
        failing.is_out = True
        time.sleep(seconds)
        failing.is_out = False
        assert process.wait(timeout=120) == 0
    assert failures(Path(OUT)) == 0
    assert files(Path(OUT)) == expected


@pytest.mark.parametrize("seconds", [pytest.param(60, marks=pytest.mark.torture)])
def test_a_teacher_that_is_gone_for_a_time_costs_no_row(seed_file: SeedFile, seconds: float) -> None:
    seeds = seed_file(30)
    expected = whole(seeds)
    with MockTeacher(latency=0.02) as server:
        process = subprocess.Popen([*EVOL, *run(seeds, server, OUT)])
        wait_for_calls(process, server, 100)
    time.sleep(seconds)
    with MockTeacher(latency=0.02, port=server.port):
        assert process.wait(timeout=120) == 0
    assert failures(Path(OUT)) == 0
    assert files(Path(OUT)) == expected


def wait_for_calls(process: subprocess.Popen[bytes], server: MockTeacher, calls: int) -> None:
    while server.requests < calls:
        assert process.poll() is None
        time.sleep(0.002)
