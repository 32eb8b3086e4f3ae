"""The disk: full, far away, damaged, or left by a process that died without a word."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import evol
from benchmarks.mock_teacher import MockTeacher
from evol.accounts import Note
from evol.ask import SPENT
from evol.ballast import SIZE
from evol.budget import Spending
from evol.errors import CannotWrite, FolderInUse, JournalDamaged
from evol.filesystem import remote_kind
from evol.folder import RunFolder
from evol.journal import Entry, Journal, JournalView
from tests.conftest import SeedFile

RUN = [sys.executable, "-m", "evol", "run"]
HERE = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/home rw shared:20 - nfs4 server:/home rw
31 30 8:2 / /mnt/home/fast rw - xfs /dev/sdb1 rw
32 22 0:41 / /mnt/with\040space rw - fuse.sshfs user@host: rw
33 22 0:42 / /mnt/covered rw - cifs //host/share rw
34 22 8:3 / /mnt/covered rw - btrfs /dev/sdc1 rw
35 22 0:43 / /scratch rw - lustre server:/scratch rw
36 22 0:44 / /dev/shm rw - tmpfs tmpfs rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/run/outputs", ""),
        ("/mnt/home/me/outputs/not/there/yet", "nfs4"),
        ("/mnt/homes", ""),
        ("/mnt/home/fast/outputs", ""),
        ("/mnt/with space/outputs", "fuse.sshfs"),
        ("/mnt/covered/outputs", ""),
        ("/scratch", "lustre"),
        ("/dev/shm/x", ""),
    ],
)
def test_a_remote_file_system_is_known(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(HERE, encoding="utf-8")
    assert remote_kind(Path(path), mounts) == kind


def test_where_nothing_is_known_of_file_systems_nothing_is_refused(tmp_path: Path) -> None:
    assert remote_kind(tmp_path, tmp_path / "missing") == ""


def test_a_folder_on_a_remote_file_system_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 0:4 / {tmp_path} rw - nfs4 server:/ rw\n", encoding="utf-8")
    monkeypatch.setattr("evol.filesystem.remote_kind.__defaults__", (mounts,))
    with pytest.raises(CannotWrite, match=r"nfs4.*--out"), RunFolder(tmp_path / "x").locked():
        pass
    assert not (tmp_path / "x").exists()


def test_a_lock_tells_who_has_it_and_what_was_in_flight_when_its_holder_died(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    code = (
        "import sys, time; from pathlib import Path; from evol.folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked() as lock:\n"
        "    lock.note('16 in flight'); lock.note('7 in flight'); print(flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(folder.path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    holder.stdout.readline()
    with pytest.raises(FolderInUse, match=f"by process {holder.pid} on [^ ]+: wait"), folder.locked():
        pass
    holder.kill()
    holder.communicate()
    with folder.locked() as lock:
        assert (lock.unclean, lock.left) == (True, "7 in flight")
        lock.note("x" * 5000)
        lock.settle()
    with folder.locked() as lock:
        assert (lock.unclean, lock.left) == (False, "")


def entry(number: int, size: int = 2000) -> Entry:
    return Entry(f"s{number}/1/0/evolve/0", number.to_bytes(16, "big"), "recipe", os.urandom(size))


def fill(path: Path, numbers: range) -> None:
    async def record(journal: Journal) -> None:
        await asyncio.gather(*(journal.record(entry(number)) for number in numbers))

    with Journal(path) as journal:
        asyncio.run(record(journal))


def test_room_is_set_aside_while_a_journal_is_open_and_given_back(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.db"):
        ballast = tmp_path / "journal.ballast"
        assert ballast.stat().st_blocks * 512 == SIZE
    assert not ballast.exists()


def test_a_damaged_journal_is_seen_after_an_unclean_end(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    fill(path, range(200))
    content = bytearray(path.read_bytes())
    for page in range(4, 40):
        content[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(JournalDamaged, match="evol repair"):
        Journal(path, check=True)


def test_the_log_of_a_journal_that_was_emptied_is_not_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    path.touch()
    log = tmp_path / "j.db-wal"
    log.write_bytes(b"frames")
    with pytest.raises(JournalDamaged, match="evol repair"):
        Journal(path)
    assert log.read_bytes() == b"frames"


def test_a_damaged_journal_is_refused_until_it_is_repaired(seed_file: SeedFile) -> None:
    subprocess.run([*RUN, "--seed", str(seed_file(60)), "--teacher", "demo", "-q"], check=True)
    path, lock = Path("outputs/seeds/journal.db"), Path("outputs/seeds/run.lock")
    content = bytearray(path.read_bytes())
    for page in range(8, 40):
        content[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    path.write_bytes(content)
    lock.write_text("process 1 on here", encoding="utf-8")
    for _ in range(2):
        with pytest.raises(JournalDamaged, match="evol repair"):
            evol.run(seed_file(60), teacher="demo")


@pytest.mark.parametrize("column", ["digest = x'00'", "recipe = 'x'", "failure = 'x'", "tries = 9", "seconds = 0.5"])
def test_an_answer_that_was_changed_in_any_column_is_not_whole(tmp_path: Path, column: str) -> None:
    path = tmp_path / "j.db"
    fill(path, range(1))
    with Journal(path) as journal:
        journal._reader.execute(f"UPDATE answers SET {column}")
        journal._reader.commit()
        digest = bytes(1) if "digest" in column else bytes(16)
        with pytest.raises(JournalDamaged, match="checksum"):
            journal.find("s0/1/0/evolve/0", digest, "recipe")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("only root can make a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_costs_no_answer_and_the_run_goes_on_when_there_is_room(
    seed_file: SeedFile, small_disk: Path, tmp_path: Path
) -> None:
    seeds, out = str(seed_file(120)), small_disk / "run"
    with MockTeacher(latency=0.005) as server:
        command = [*RUN, "--seed", seeds, "--teacher", server.spec, "--concurrency", "32"]
        subprocess.run([*command, "--out", str(tmp_path / "whole"), "-q"], check=True)
    with MockTeacher(latency=0.005) as server:
        command = [*RUN, "--seed", seeds, "--teacher", server.spec, "--concurrency", "32"]
        stopped = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False)
        assert stopped.returncode == 4, stopped.stderr
        assert "make room" in stopped.stderr.splitlines()[-1]
        assert "Traceback" not in stopped.stderr
        with JournalView(out / "journal.db") as view:
            assert view.count_answers() == server.served.total()
        assert not (out / "journal.ballast").exists()
        sent = server.requests
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        resumed = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False)
        assert resumed.returncode == 0, resumed.stderr
        assert server.stats()["repeated"] == 0
        assert sent < server.requests
    for name in ("dataset.jsonl", "eliminated.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_disk_without_any_room_is_refused_before_anything_is_asked(seed_file: SeedFile, small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(3_600_000))
    with MockTeacher() as server:
        command = [*RUN, "--seed", str(seed_file(3)), "--teacher", server.spec, "--out", str(small_disk / "run")]
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (refused.returncode, server.requests) == (4, 0)
    assert "make room" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_the_next_run_says_what_a_kill_may_have_cost(seed_file: SeedFile) -> None:
    with MockTeacher(latency=0.3) as server:
        command = [*RUN, "--seed", str(seed_file(40)), "--teacher", server.spec, "--concurrency", "8"]
        killed = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while server.requests < 24:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        note = Note.from_text(Path("outputs/seeds/run.lock").read_text(encoding="utf-8").splitlines()[1])
        in_flight = note.in_flight
        assert 0 < in_flight <= 16
        server.latency = 0.0
        resumed = subprocess.run(command, capture_output=True, text=True, check=True)
        assert f"ended without a word, with {in_flight} calls in flight" in resumed.stderr
        assert server.stats()["repeated"] <= in_flight
        log = Path("outputs/seeds/run.log").read_text(encoding="utf-8")
        assert "ended without a word" in log
        assert note.spent.calls >= 24


def test_what_a_kill_may_have_cost_is_not_forgotten_by_who_comes_after_it(seed_file: SeedFile) -> None:
    launcher = str(Path(__file__).with_name("die_at.py"))
    with MockTeacher(latency=20) as server:
        options = ["run", "--seed", str(seed_file(20)), "--teacher", server.spec, "--concurrency", "8"]
        killed = subprocess.Popen([*RUN[:-1], *options], stderr=subprocess.DEVNULL)
        while server.requests < 8:
            time.sleep(0.01)
        killed.kill()
        killed.wait()
        # One is killed before it sends anything, one ends before that.
        dying = [sys.executable, launcher, "SIGKILL", "the pool is being set", "1", *options]
        assert subprocess.run(dying, stderr=subprocess.DEVNULL, check=False).returncode == -signal.SIGKILL
        ended = [*RUN[:-1], *options, "--max-calls", "1"]
        said = subprocess.run(ended, capture_output=True, text=True, check=False)
        assert said.returncode == 6
        assert "ended without a word, with 8 calls in flight" in said.stderr
        with JournalView(Path("outputs/seeds/journal.db")) as view:
            assert Spending.from_json(view.meta()[SPENT]).calls == server.requests == 8
