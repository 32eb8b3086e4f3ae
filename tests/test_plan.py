"""What is forecast, and what a pilot costs."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import evol
from benchmarks.mock_teacher import MockTeacher
from evol.pilot import CONFIDENCE, interval
from tests.conftest import SeedFile
from tests.test_cli import command


def figures(said: str) -> dict[str, tuple[float, float, float]]:
    """The lines of a plan: what is expected, and between what it lies."""
    found = {}
    for line in said.splitlines():
        if " between " in line:
            name, rest = line[:20].strip(), line[20:].replace(",", "").split()
            found[name] = (float(rest[0]), float(rest[2]), float(rest[4]))
    return found


def test_a_pilot_says_what_the_run_takes_and_is_not_paid_for_again(seed_file: SeedFile) -> None:
    seeds = str(seed_file(120))
    with MockTeacher(latency=0.002) as server:
        options = ("--seed", seeds, "--teacher", server.spec, "--price-in", "1", "--price-out", "2")
        planned = command("plan", *options)
        assert planned.returncode == 0, planned.stderr
        paid = server.requests
        assert paid < 20 * 13
        ran = command("run", *options, "-q")
        assert ran.returncode == 0, ran.stderr
        assert server.stats()["repeated"] == 0
        expected = figures(planned.stdout)
        run = evol.load("outputs/seeds")
        mean, low, high = expected["calls"]
        assert low <= mean <= high
        assert abs(server.requests - mean) < 0.15 * mean
        assert abs(len(run.frame()) - expected["rows kept"][0]) < 0.15 * expected["rows kept"][0]
    tokens = sum(row.prompt_tokens + 2 * row.completion_tokens for row in run.rows()) / 1e6
    assert abs(tokens - expected["dollars"][0]) < 0.15 * tokens
    again = command("plan", *options)
    assert "from 120 seeds" in again.stdout
    assert figures(again.stdout)["calls"][0] == server.requests


def test_a_plan_without_a_teacher_asks_nothing(seed_file: SeedFile) -> None:
    planned = command("plan", "--seed", str(seed_file(3)))
    assert planned.returncode == 0
    assert "3 seeds, 4 rounds, at most:" in planned.stdout
    assert "no teacher is named, so no price is known" in planned.stdout
    assert not Path("outputs").exists()


def test_a_plan_knows_the_prices_of_a_provider(seed_file: SeedFile) -> None:
    planned = command("plan", "--seed", str(seed_file(3)), "--pilot", "0", "--teacher", "openai:gpt-5-mini")
    assert "at the prices known: $" in planned.stdout


def test_a_plan_of_another_model_is_no_plan_of_this_one(seed_file: SeedFile) -> None:
    seeds = str(seed_file(30))
    with MockTeacher() as server:
        assert command("plan", "--seed", seeds, "--teacher", server.spec).returncode == 0
        other = command("plan", "--seed", seeds, "--teacher", server.spec.replace("mock", "other"))
    assert (other.returncode, other.stdout) == (1, "")
    assert "model of the judge (was mock, is other)" in other.stderr
    assert "--out" in other.stderr


def test_a_pilot_that_was_stopped_is_finished_by_the_next_and_a_larger_one_adds_to_it(seed_file: SeedFile) -> None:
    seeds = str(seed_file(60))
    with MockTeacher() as server:
        options = ("--seed", seeds, "--teacher", server.spec, "--rounds", "1")
        assert command("plan", *options, "--pilot", "6", "--max-calls", "3").returncode == 6
        assert "from 6 seeds" in command("plan", *options, "--pilot", "6").stdout
        assert "from 10 seeds" in command("plan", *options, "--pilot", "10").stdout
        assert server.stats()["repeated"] == 0


def test_a_pilot_keeps_to_the_budget(seed_file: SeedFile) -> None:
    with MockTeacher() as server:
        planned = command("plan", "--seed", str(seed_file(50)), "--teacher", server.spec, "--max-calls", "9")
        assert planned.returncode == 6
        assert server.requests == 9
    assert planned.stderr.splitlines()[-1].startswith("evol: the budget of 9 calls (--max-calls) is reached")


def test_the_interval_holds_the_total_as_often_as_it_says() -> None:
    chance, held = random.Random(1), 0
    for _ in range(1000):
        values = [chance.lognormvariate(3, 0.3) for _ in range(400)]
        found = interval(chance.sample(values, 20), len(values))
        held += found.low <= sum(values) <= found.high
    assert held / 1000 == pytest.approx(CONFIDENCE, abs=0.03)
