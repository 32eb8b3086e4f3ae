"""Power cuts, as ext4 simulates them: an answer that was acknowledged is there afterwards, whole."""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evol.journal import Entry, Journal

SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN: nothing is written from then on, the file system's log too
CUTS = 40
WRITER = """
import asyncio, sys
from pathlib import Path
from evol.journal import Journal
from tests.test_power_cuts import entry

async def write(journal, first):
    async def record(number):
        await journal.record(entry(number))
        print(number, flush=True)

    while True:
        await asyncio.gather(*(record(number) for number in range(first, first + 8)))
        first += 8

with Journal(Path(sys.argv[1])) as journal:
    asyncio.run(write(journal, int(sys.argv[2])))
"""


def entry(number: int) -> Entry:
    body = random.Random(number).randbytes(30_000 if number % 50 == 0 else 800)
    return Entry(f"s{number}/1/0/evolve/0", number.to_bytes(16, "big"), "recipe", body)


@contextmanager
def mounted(device: str, disk: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "ext4", device, disk], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A block device of 64 MiB with an ext4 on it."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    try:
        attached = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there are no loop devices")
    if attached.returncode:
        pytest.skip("only root can attach a loop device")
    name = attached.stdout.strip()
    try:
        made = subprocess.run(["mkfs.ext4", "-q", "-F", name], capture_output=True, check=False)
        if made.returncode:
            pytest.skip("there is no mkfs.ext4")
        yield name
    finally:
        subprocess.run(["losetup", "--detach", name], check=True)


def cut_power(disk: Path, seconds: float, first: int) -> list[int]:
    """Lets a journal be written for so long; returns which answers were acknowledged by then."""
    command = [sys.executable, "-c", WRITER, str(disk / "journal.db"), str(first)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert writer.stdout
    line = writer.stdout.readline()
    time.sleep(seconds)
    folder = os.open(disk, os.O_RDONLY)
    try:
        fcntl.ioctl(folder, SHUTDOWN, NO_LOG_FLUSH.to_bytes(4, "little"))
    finally:
        os.close(folder)
        writer.kill()
        rest, _ = writer.communicate()
    return [int(number) for number in (line + rest).splitlines() if number]


def count_missing(path: Path, acknowledged: list[int]) -> int:
    with Journal(path, check=True) as journal:
        found = (journal.find(entry(number).place, entry(number).digest, "recipe") for number in acknowledged)
        return sum(one != entry(number) for one, number in zip(found, acknowledged, strict=True))


@pytest.mark.torture
def test_no_power_cut_costs_an_acknowledged_answer(device: str, tmp_path: Path) -> None:
    disk, chance = tmp_path / "disk", random.Random(1)
    disk.mkdir()
    acknowledged: list[int] = []
    for _ in range(CUTS):
        with mounted(device, disk):
            acknowledged += cut_power(disk, chance.uniform(0.0, 0.5), max(acknowledged, default=-1) + 1)
        with mounted(device, disk):
            missing = count_missing(disk / "journal.db", acknowledged)
            assert missing == 0, f"{missing} of {len(acknowledged)} acknowledged answers are missing"
    print(f"{CUTS} power cuts, {len(acknowledged)} answers acknowledged, none lost")  # noqa: T201 - figures of the test
    assert len(acknowledged) > CUTS
