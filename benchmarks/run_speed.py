"""How close a run is to its teacher's own limit, what it costs in CPU, and how much memory it takes.

    python -m benchmarks.run_speed --seeds 500 --rounds 4 --concurrency 64 --latency 0.2

The teacher is `benchmarks/mock_teacher.py` in a process of its own (or any other with --teacher). The limit is what the
calls take if the teacher's slots are never empty: calls x mean latency / concurrency.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Runs once and prints the figures."""
    parser = argparse.ArgumentParser(description="Measure one run against the mock teacher.")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2, help="mean of a call, in seconds (lognormal)")
    parser.add_argument("--sigma", type=float, default=0.6)
    parser.add_argument("--teacher", help="a teacher that is running already")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = None if options.teacher else _start_teacher(options)
        try:
            spec = options.teacher or f"openai:mock@{_address(server)}"
            _measure(options, spec, Path(folder))
        finally:
            if server is not None:
                server.terminate()
                server.wait()


def _measure(options: argparse.Namespace, spec: str, folder: Path) -> None:
    seeds = [
        {"instruction": f"Describe how number {number} is used in a craft of your choice.", "output": "As a measure."}
        for number in range(options.seeds)
    ]
    (folder / "seeds.json").write_text(json.dumps(seeds))
    command = [sys.executable, "-c", "from evol.cli import main; main()", "run", "--seed", "seeds.json"]
    command += ["--rounds", str(options.rounds), "--concurrency", str(options.concurrency), "--teacher", spec]
    started = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    wall = time.monotonic() - started
    # The only child waited for so far, so the children's figures are the run's own.
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    match = re.search(r"cost: ([\d,]+) calls", done.stderr)
    assert match, done.stderr
    calls = int(match[1].replace(",", ""))
    limit = calls * options.latency / options.concurrency
    cpu = used.ru_utime + used.ru_stime
    _say(
        f"{options.seeds} seeds x {options.rounds} rounds, {options.concurrency} at once, {options.latency:g} s a call"
    )
    _say(f"calls                    {calls:>10,}")
    _say(f"wall time                {wall:>10.1f} s")
    _say(f"wall / teacher's limit   {wall / limit:>10.2f}")
    _say(f"CPU per 1,000 calls      {cpu / calls * 1000:>10.2f} s")
    _say(f"peak memory              {used.ru_maxrss / 1024:>10.0f} MB")


def _start_teacher(options: argparse.Namespace) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.mock_teacher", "--latency", str(options.latency)]
    return subprocess.Popen([*command, "--sigma", str(options.sigma)], stdout=subprocess.PIPE, text=True)


def _address(server: subprocess.Popen[str] | None) -> str:
    assert server is not None
    assert server.stdout is not None
    return server.stdout.readline().strip()


def _say(line: str) -> None:
    print(line)  # noqa: T201


if __name__ == "__main__":
    main()
