"""What slots and the prefix cache bring with a local model: two figures, on models of random weights.

    python -m benchmarks.run_local

1. Generated tokens per CPU second with one slot and with several, on a model of about 100 M parameters: the weights are
   read once for all slots that are generating.
2. Prompt tokens that llama.cpp had to evaluate, of those it was sent, in a run with the shipped prompts and seeds: what
   its own `timings` and `usage` say in every reply.

Random weights change neither: both depend on sizes and on which texts begin alike, not on what the words mean.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.random_model import write_model
from evol.journal import JournalView
from evol.records import Request, Sampling
from evol.shipped import shipped
from evol.teachers import LocalOptions
from evol.teachers.local import LocalTeacher

CALLS = 200  # at least, for the second figure
SEEDS = 24  # which come to somewhat more, in four rounds


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measure slots and the prefix cache of a local model.")
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--requests", type=int, default=64, help="for each number of slots")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder) / "large.gguf", Path(folder) / "small.gguf"
        parameters = write_model(large, width=768, layers=14, heads=12)
        _say(f"generated tokens per CPU second, {parameters / 1e6:.0f} M parameters, {options.threads} threads")
        rates = {
            slots: asyncio.run(_tokens_per_cpu_second(large, slots, options.threads, options.requests))
            for slots in (1, options.slots)
        }
        for slots, rate in rates.items():
            _say(f"  {slots} slots {rate:>26.1f}   x {rate / rates[1]:.2f}")
        write_model(small)
        calls, sent, evaluated = _prompt_tokens(small, options.threads)
        _say(f"prompt tokens of {calls} calls, shipped prompts and seeds")
        _say(f"  sent {sent / calls:>26,.0f} a call")
        _say(f"  evaluated {evaluated / calls:>21,.0f} a call, {evaluated / sent:.1%}")


async def _tokens_per_cpu_second(model: Path, slots: int, threads: int, requests: int) -> float:
    """Of the server process alone, loading included; prompts are short, so that generating is what counts."""
    teacher = LocalTeacher(model, LocalOptions(slots=slots, threads=threads, context=1024), timeout=600)
    sampling = Sampling(200, 1.0, 0.9)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        replies = await asyncio.gather(
            *(teacher.send(Request("respond", "", f"Number {number}.", sampling)) for number in range(requests))
        )
    finally:
        await teacher.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    generated: int = sum(json.loads(reply)["usage"]["completion_tokens"] for reply in replies)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return generated / used


def _prompt_tokens(model: Path, threads: int) -> tuple[int, int, int]:
    """Calls, prompt tokens sent, and prompt tokens evaluated, in a run of four rounds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "from evol.cli import main; main()", "run", "--rounds", "4", "--out", "run"]
        command += ["--seed", str(shipped("seeds") / "alpaca.json"), "--limit", str(SEEDS)]
        command += ["--teacher", f"local:{model}", "--threads", str(threads)]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        with JournalView(Path(folder) / "run" / "journal.db") as journal:
            replies = [json.loads(body) for _, body in journal.answers()]
    assert len(replies) >= CALLS, len(replies)
    sent = sum(reply["usage"]["prompt_tokens"] for reply in replies)
    return len(replies), sent, sum(reply["timings"]["prompt_n"] for reply in replies)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
