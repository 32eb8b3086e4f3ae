"""Torture: killed at any moment, a run has lost no answer that it committed, and pays for none of them again."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.mock_teacher import MockTeacher
from tests.conftest import SeedFile
from tests.die_at import POINTS
from tests.torture import EVOL, Victim, files, run, whole

OUT = "outputs/killed"
LONGEST_LIFE = 1.5  # seconds: some die while they start, some while they finish
LATE_POINTS = [point for point in POINTS if "written" in point or "closed" in point]
ONCE = [point for point in POINTS if "renamed" in point or "was written" in point or "closed" in point]
Note = Callable[[str, object], None]


@pytest.mark.parametrize(
    ("count", "kills", "chance"),
    [(10, 4, 0), *(pytest.param(200, 100, number, marks=pytest.mark.torture) for number in range(10))],
)
def test_killed_at_any_moment(seed_file: SeedFile, record_property: Note, count: int, kills: int, chance: int) -> None:
    seeds, moments = seed_file(count), random.Random(chance)
    expected = whole(seeds, "--concurrency", "3")
    with MockTeacher(latency=0.03) as server:
        command = [*EVOL, *run(seeds, server, OUT, "--concurrency", "8")]
        victim = Victim(server, OUT)
        while victim.kills < kills:
            process = subprocess.Popen(command)
            if moments.random() < 0.5:
                time.sleep(moments.uniform(0, LONGEST_LIFE))
            else:
                wait_for_calls(process, server, moments.randrange(1, 8 * count // kills))
                time.sleep(moments.uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
            process.wait()
            victim.look(killed=process.returncode == -signal.SIGKILL)
        subprocess.run(command, check=True)
        victim.look(killed=False)
    assert files(Path(OUT)) == expected
    report(record_property, victim)


def wait_for_calls(process: subprocess.Popen[bytes], server: MockTeacher, more: int) -> None:
    target = server.requests + more
    while server.requests < target and process.poll() is None:
        time.sleep(0.001)


def report(record_property: Note, victim: Victim) -> None:
    record_property("kills", victim.kills)
    record_property("calls paid twice", victim.paid_twice)
    record_property("of those in flight", victim.owed)


def die(point: str, times: int, command: list[str]) -> None:
    launcher = Path(__file__).with_name("die_at.py")
    died = subprocess.run([sys.executable, str(launcher), "SIGKILL", point, str(times), *command], check=False)
    assert died.returncode in (-signal.SIGKILL, -signal.SIGALRM), point


@pytest.mark.parametrize("point", [pytest.param(point, marks=pytest.mark.torture) for point in POINTS])
def test_killed_at_a_point_again_and_again(seed_file: SeedFile, record_property: Note, point: str) -> None:
    seeds, moments = seed_file(60), random.Random(point)
    expected = whole(seeds, "--concurrency", "3")
    with MockTeacher(latency=0.005) as server:
        command = run(seeds, server, OUT, "--concurrency", "8")
        victim = Victim(server, OUT)
        for _ in range(25):
            die(point, 1 if point in ONCE else moments.randrange(1, 12), command)
            victim.look()
        subprocess.run([*EVOL, *command], check=True)
        victim.look(killed=False)
    assert files(Path(OUT)) == expected
    report(record_property, victim)


def test_killed_at_every_point_once(seed_file: SeedFile) -> None:
    seeds = seed_file(20)
    expected = whole(seeds, "--concurrency", "3")
    with MockTeacher() as server:
        command = run(seeds, server, OUT, "--concurrency", "8")
        victim = Victim(server, OUT)
        for point in sorted(POINTS, key=LATE_POINTS.__contains__):  # what comes at the end is reached but once
            die(point, 1 if point in ONCE else 3, command)
            victim.look()
        subprocess.run([*EVOL, *command], check=True)
        victim.look(killed=False)
    assert files(Path(OUT)) == expected
