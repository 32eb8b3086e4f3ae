"""Torture: a run of any length takes no more memory and no more files than a short one, and is read again at once."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.mock_teacher import MockTeacher
from evol.journal import JournalView
from tests.conftest import SeedFile
from tests.torture import EVOL, answers, run

OUT = "outputs/soak"
MEGABYTE = 1024  # in the kilobytes of /proc
WARM = 0.3  # of the calls: until then caches fill


@dataclass(frozen=True)
class Sample:
    """A look at a process: calls until then, kilobytes of memory, open files."""

    calls: int
    memory: int
    files: int


def watch(command: list[str], server: MockTeacher) -> list[Sample]:
    """Runs it, and looks at it while it asks; returns nothing of before the first call."""
    samples = []
    process = subprocess.Popen(command)
    proc = Path(f"/proc/{process.pid}")
    while process.poll() is None:
        try:
            status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
            open_files = sum(1 for _ in (proc / "fd").iterdir())
        except OSError:
            break
        if server.requests and "VmRSS" in status:
            samples.append(Sample(server.requests, int(status["VmRSS"].split()[0]), open_files))
        time.sleep(0.02)
    assert process.wait() == 0
    return samples


def while_asking(samples: list[Sample]) -> list[Sample]:
    """Those between the first of the calls and the last, without what follows on them."""
    calls = samples[-1].calls
    return [one for one, later in pairwise(samples) if WARM * calls < one.calls < later.calls]


@pytest.mark.parametrize(
    ("count", "growth", "seconds"),
    [(150, 20.0, 5.0), pytest.param(19_500, 1.0, 5.0, marks=pytest.mark.torture)],  # megabytes per 10,000 calls
)
def test_a_long_run_takes_no_more_memory_than_a_short_one(
    seed_file: SeedFile, record_property: Callable[[str, object], None], count: int, growth: float, seconds: float
) -> None:
    with MockTeacher() as server:
        command = [*EVOL, *run(seed_file(count), server, OUT, "--concurrency", "16")]
        started = time.monotonic()
        samples = watch(command, server)
        record_property("seconds", time.monotonic() - started)
        calls = server.requests
        started = time.monotonic()
        subprocess.run(command, check=True)
        again = time.monotonic() - started
        started = time.monotonic()
        with JournalView(Path(OUT) / "journal.db") as view:
            read = sum(1 for _ in view.calls())
        reading = time.monotonic() - started
        assert server.requests == calls == read == len(answers(Path(OUT)))
    asking = while_asking(samples)
    grown = (asking[-1].memory - asking[0].memory) / MEGABYTE / (asking[-1].calls - asking[0].calls) * 10_000
    for name, value in {
        "calls": calls,
        "megabytes per 10,000 calls": grown,
        "megabytes at the last call": asking[-1].memory / MEGABYTE,
        "megabytes at most": max(sample.memory for sample in samples) / MEGABYTE,
        "open files": sorted({sample.files for sample in asking}),
        "seconds of the resume": again,
        "seconds of one pass over the answers": reading,
    }.items():
        record_property(name, value)
    assert grown < growth
    assert max(one.files for one in asking) - min(one.files for one in asking) <= 2
    assert reading < seconds
