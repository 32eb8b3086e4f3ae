"""Torture: whoever asks a run to end is heard at once, and what is paid for is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.mock_teacher import MockTeacher
from tests.conftest import SeedFile
from tests.die_at import POINTS
from tests.torture import EVOL, answers, files, run, whole

OUT = "outputs/stopped"
LAUNCHER = str(Path(__file__).with_name("die_at.py"))
AT_THE_END = [point for point in POINTS if "written" in point or "closed" in point]


@pytest.fixture(autouse=True)
def _signals_are_heard() -> Iterator[None]:
    """Where tests run in the background, what they start would ignore an interrupt."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def begin(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_calls(server: MockTeacher, calls: int) -> None:
    while server.requests < calls:
        time.sleep(0.002)


def end(process: subprocess.Popen[str]) -> list[str]:
    """What it said, in lines."""
    said = process.communicate(timeout=30)[1]
    assert "Traceback" not in said, said
    return said.splitlines()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_is_in_flight_is_waited_for(seed_file: SeedFile, number: signal.Signals) -> None:
    with MockTeacher(latency=0.5) as server:
        command = [*EVOL, *run(seed_file(40), server, OUT, "--concurrency", "16")]
        process = begin(command)
        wait_for_calls(server, 24)
        process.send_signal(number)
        (said,) = end(process)
        assert process.returncode == 130
        assert "interrupted; what was answered is safe" in said
        assert server.requests == server.served.total() == len(answers(Path(OUT)))
        server.latency = 0
        subprocess.run(command, check=True)
        assert server.stats()["repeated"] == 0


@pytest.mark.parametrize("soon", [5.0, pytest.param(1.0, marks=pytest.mark.torture)])  # a busy machine is slow to end
@pytest.mark.parametrize("apart", [0.0005, 0.3])
def test_a_second_one_drops_it(
    seed_file: SeedFile, record_property: Callable[[str, object], None], apart: float, soon: float
) -> None:
    with MockTeacher(latency=20) as server:
        process = begin([*EVOL, *run(seed_file(40), server, OUT, "--concurrency", "16")])
        wait_for_calls(server, 16)
        process.send_signal(signal.SIGINT)
        time.sleep(apart)
        process.send_signal(signal.SIGTERM)  # two of a kind, so near to each other, are one
        asked = time.monotonic()
        (said,) = end(process)
        seconds = time.monotonic() - asked
        record_property("seconds", seconds)
        assert seconds < soon
        assert process.returncode == 130
        assert "16 calls in flight were dropped, and may be paid for again" in said


def test_who_is_told_to_ignore_a_hang_up_does(seed_file: SeedFile) -> None:
    with MockTeacher(latency=0.02) as server:
        process = begin(["nohup", *EVOL, *run(seed_file(5), server, OUT)])
        wait_for_calls(server, 5)
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.01)
        end(process)
        assert process.returncode == 0
        assert server.requests == len(answers(Path(OUT)))


@pytest.mark.parametrize(
    ("number", "point"),
    [
        ("SIGINT", "the dataset was written"),
        *(
            pytest.param(name, point, marks=pytest.mark.torture)
            for name in ("SIGINT", "SIGTERM")
            for point in AT_THE_END
        ),
    ],
)
def test_a_signal_while_files_are_finished_leaves_them_whole(seed_file: SeedFile, number: str, point: str) -> None:
    seeds = seed_file(5)
    expected = whole(seeds)
    with MockTeacher() as server:
        command = run(seeds, server, OUT)
        process = begin([sys.executable, LAUNCHER, number, point, "1", *command])
        end(process)
        assert process.returncode in (130, -signal.SIGALRM)
        calls = server.requests
        assert len(answers(Path(OUT))) == calls
        subprocess.run([*EVOL, *command], check=True)
        assert server.requests == calls
    assert files(Path(OUT)) == expected


@pytest.mark.parametrize("times", [3, pytest.param(60, marks=pytest.mark.torture)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_it_starts_ends_it_without_a_traceback(
    seed_file: SeedFile, number: signal.Signals, times: int
) -> None:
    started = {**os.environ, "PYTHONVERBOSE": "1"}  # which says what is imported: before it is ours nothing can be done
    with MockTeacher(latency=0.1) as server:
        command = [*EVOL, *run(seed_file(1), server, OUT)]
        for moment in range(times):
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=started)
            said = until_it_is_ours(process)
            time.sleep(0.6 * moment / times)
            process.send_signal(number)
            said += process.communicate(timeout=30)[1]
            assert "Traceback" not in said, said[said.index("Traceback") :]
            # By SIGINT dies who was interrupted while Python evaluated a text, whatever it exits with after that.
            assert process.returncode in (130, -number, -signal.SIGINT)


def until_it_is_ours(process: subprocess.Popen[str]) -> str:
    """Reads what it says until it has come to the command line."""
    assert process.stderr
    for line in process.stderr:
        if "evol/cli/" in line:
            return line
    return ""
