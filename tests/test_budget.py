"""What a run may spend: never more, by no call, no token and no cent, however many calls are in flight."""

from __future__ import annotations

import asyncio
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import evol
from evol.accounts import Note, boot
from evol.ask import PROBE, Ask, Limits, Stopped
from evol.budget import WRAPPING_TOKENS, Budget, Caps, Spending
from evol.errors import (
    BadReply,
    BudgetReached,
    DriftError,
    RateLimited,
    TeacherError,
    TimedOut,
    Unavailable,
    UsageError,
)
from evol.journal import Journal
from evol.limiter import Pace
from evol.recipe import ROLES
from evol.records import Place, Price, Request, Sampling, Usage
from evol.tally import Tally
from evol.teachers import ScriptedTeacher
from tests import virtual_time
from tests.conftest import SeedFile

PRICE = Price(Decimal("0.25"), Decimal(2))
PROMPT = "twelve bytes"
M = ScriptedTeacher([], model="m")
WORST = len(PROMPT) + WRAPPING_TOKENS  # tokens of the prompt


def request(reply: int = 100, user: str = PROMPT) -> Request:
    return Request("evolve", "", user, Sampling(reply))


def budget(**caps: int | str) -> Budget:
    cost = caps.pop("cost", None)
    return Budget(Caps(**caps, cost=Decimal(cost) if cost else None), {M: PRICE})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("caps", "named"),
    [
        ({"calls": 2}, r"2 calls \(--max-calls"),
        ({"tokens": 2 * (WORST + 100)}, r"tokens \(--max-tokens"),
        ({"cost": "0.000438"}, r"--max-cost\) is reached: \$0\.0004"),
    ],
)
def test_what_may_be_spent_is_spent_and_no_more(caps: dict[str, int | str], named: str) -> None:
    async def spend() -> None:
        account = budget(**caps)
        for _ in range(2):
            account.settle(await account.reserve(request(), M), None)
        with pytest.raises(BudgetReached, match=named):
            await account.reserve(request(), M)

    asyncio.run(spend())


def test_who_does_not_fit_waits_for_what_others_give_back() -> None:
    async def spend() -> Spending:
        account = budget(tokens=WORST + 100 + 50)
        first = await account.reserve(request(), M)
        second = asyncio.create_task(account.reserve(request(), M))
        await asyncio.sleep(0)
        assert not second.done()
        account.settle(first, Usage(20, 30))
        account.settle(await second, Usage(20, 30))
        return account.spent

    assert asyncio.run(spend()) == Spending(2, 100, PRICE.of(Usage(40, 60)))


def test_a_server_that_counts_more_than_it_was_allowed_makes_the_next_worst_worse() -> None:
    async def spend() -> None:
        account = budget(tokens=1_000_000)
        for used, prompt, reply in (((10, 300), 1, 3), ((10, 600), 1, 6), ((2 * WORST, 50), 2, 6)):
            account.settle(await account.reserve(request(), M), Usage(*used))
            assert (await account.reserve(request(), M)).tokens == Usage(prompt * WORST, reply * 100)
        assert (await account.reserve(request(), ScriptedTeacher([]))).tokens == Usage(WORST, 100)
        assert len(account.notices) == 1

    asyncio.run(spend())


@pytest.mark.parametrize("text", ["", "x", "[1]", "[1, 2, 3, 4]", '["a", "b", "c"]', "{}", "[1, 2, null]"])
def test_a_spending_that_cannot_be_read_is_none(text: str) -> None:
    assert Spending.from_json(text) == Spending()


def test_a_spending_is_read_as_it_was_written() -> None:
    spent = Spending(3, 1000, Decimal("0.1000007"))
    assert Spending.from_json(spent.to_json()) == spent


class Meter:
    """A teacher that counts what it was asked, bills every reply, and may fail in every way."""

    def __init__(self, chance: random.Random, faults: float) -> None:
        self.chance = chance
        self.faults = faults
        self.billed = Spending()
        self.teacher = ScriptedTeacher(self._reply, model="m", latency=0.1)

    def _reply(self, asked: Request) -> bytes | Exception:
        self.billed += Spending(1)
        if self.chance.random() < self.faults:
            fault = self.chance.choice((Unavailable("500"), RateLimited("429", 0.2), TimedOut("hung"), BadReply("cut")))
            if fault.billed:  # nobody is told what it used, and it used all it could
                self._bill(Usage(len(asked.user.encode()) + WRAPPING_TOKENS // 2, asked.sampling.max_tokens))
            return fault
        size = len(asked.user.encode())
        usage = Usage(self.chance.randint(size // 4, size), self.chance.randint(1, asked.sampling.max_tokens))
        self._bill(usage)
        message = {"role": "assistant", "content": "hello"}
        said = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
        return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": said}).encode()

    def _bill(self, usage: Usage) -> None:
        self.billed += Spending(0, usage.total, PRICE.of(usage))


def spend_all(path: Path, meter: Meter, caps: Caps, before: Spending, calls: int) -> Budget:
    """Asks so many questions at once under these caps, at some concurrency, until they are asked or the run stops."""
    account = Budget(caps, {meter.teacher: PRICE}, before)

    async def one(ask: Ask, number: int) -> None:
        try:
            await ask(Place(f"s{number}", 1, "evolve"), request(1 + number * 37 % 200, "x" * number))
        except BudgetReached as reached:
            ask.stop(reached)
        except Stopped:
            pass

    async def ask_all(ask: Ask) -> None:
        await asyncio.gather(*(one(ask, number) for number in range(1, calls)))

    with Journal(path) as journal:
        limits = Limits(Pace(meter.chance.choice((1, 4, 16))), tries=50)
        ask = Ask(journal, dict.fromkeys(ROLES, meter.teacher), "recipe", Tally(), limits, account)
        virtual_time.run(ask_all(ask), threads=virtual_time.JOURNAL)
    return account


def random_caps(chance: random.Random) -> Caps:
    cost = Decimal(chance.randint(1, 20_000)).scaleb(-6)
    calls, tokens = chance.randint(1, 60), chance.randint(1, 10_000)
    return Caps(calls if chance.random() < 0.6 else None, tokens if chance.random() < 0.6 else None, cost)


@pytest.mark.parametrize("times", [30, pytest.param(1000, marks=pytest.mark.torture)])
def test_no_cap_is_ever_exceeded_by_one_call_token_or_cent(tmp_path: Path, times: int) -> None:
    for number in range(times):
        chance = random.Random(number)
        meter, caps, spent = Meter(chance, chance.choice((0, 0.2))), random_caps(chance), Spending()
        for _ in range(2):  # the second is a resume
            spent = spend_all(tmp_path / f"{number}.db", meter, caps, spent, 40).spent
        billed = meter.billed
        assert caps.calls is None or billed.calls <= caps.calls
        assert caps.tokens is None or billed.tokens <= caps.tokens
        assert caps.cost is None or billed.cost <= caps.cost
        assert spent.calls == billed.calls
        assert spent.tokens >= billed.tokens
        assert spent.cost >= billed.cost


def answering(_: Request) -> str:
    return "A proper answer of some words."


def test_a_run_that_reached_its_budget_goes_on_with_more_and_pays_for_nothing_twice(seed_file: SeedFile) -> None:
    seeds = seed_file(20, output="")
    teacher = ScriptedTeacher(answering)
    for cap in (5, 12):
        with pytest.raises(BudgetReached, match=f"{cap} calls"):
            evol.run(seeds, teacher=teacher, rounds=0, max_calls=cap, concurrency=4)
        assert len(teacher.requests) == cap
    assert len(evol.run(seeds, teacher=teacher, rounds=0, max_calls=20).frame()) == 20
    assert len(teacher.requests) == 20


def test_calls_that_failed_are_paid_for_too(seed_file: SeedFile) -> None:
    replies = iter(["", "", ""])
    teacher = ScriptedTeacher(lambda request: next(replies, answering(request)))
    with pytest.raises(BudgetReached):
        evol.run(seed_file(20, output=""), teacher=teacher, rounds=0, max_calls=10)
    assert len(teacher.requests) == 10


def test_a_budget_of_money_needs_prices(seed_file: SeedFile) -> None:
    options: dict[str, Any] = {"teacher": ScriptedTeacher(answering), "rounds": 0}
    seeds = seed_file(5, output="")
    with pytest.raises(UsageError, match="that of scripted is not known: give --price-in and --price-out"):
        evol.run(seeds, max_cost="1", **options)
    with pytest.raises(UsageError, match="go together"):
        evol.run(seeds, max_cost="1", price_in=1, **options)
    assert len(evol.run(seeds, max_cost="1", price_in=1, price_out=2, **options).frame()) == 5
    with pytest.raises(BudgetReached, match=r"\$0.001 "):
        evol.run(seed_file(20, output="", name="b.json"), max_cost="0.001", prices={"scripted": (1, 2)}, **options)


def test_a_run_ends_when_its_time_is_over(seed_file: SeedFile) -> None:
    teacher = ScriptedTeacher(answering, latency=0.05)
    with pytest.raises(BudgetReached, match=r"0\.3 seconds"):
        evol.run(seed_file(50, output=""), teacher=teacher, rounds=0, max_time=0.3, concurrency=1)
    assert 1 < len(teacher.requests) < 10


@pytest.mark.parametrize("calls", [2, 5])
def test_what_failed_before_a_stop_counts_for_the_next_process(seed_file: SeedFile, calls: int) -> None:
    teacher = ScriptedTeacher(lambda _: Unavailable("500"))
    for _ in range(3):
        with pytest.raises(BudgetReached):
            evol.run(seed_file(5, output=""), teacher=teacher, rounds=0, tries=1, max_calls=calls, concurrency=1)
    assert len(teacher.requests) == calls


def test_what_was_in_flight_at_a_stop_counts_for_the_next_process(seed_file: SeedFile) -> None:
    options: dict[str, Any] = {"rounds": 0, "concurrency": 4, "max_calls": 6}
    seeds = seed_file(20, output="")
    slow = ScriptedTeacher(answering, latency=2)
    slow._reply = lambda request: answering(request)
    refusing = ScriptedTeacher(lambda _: TeacherError("401"))
    refusing.latency = 0.05

    class Both(ScriptedTeacher):
        async def send(self, request: Request) -> bytes:
            self.requests.append(request)
            return await (refusing if len(self.requests) % 4 == 0 else slow).send(request)

    both = Both([])
    for _ in range(3):
        with pytest.raises((TeacherError, BudgetReached)):
            evol.run(seeds, teacher=both, **options)
    assert len(both.requests) <= 6


def test_a_note_of_a_kill_counts_even_where_the_next_process_does_nothing(seed_file: SeedFile) -> None:
    seeds = seed_file(20, output="")
    evol.run(seeds, teacher=ScriptedTeacher(answering), rounds=0, limit=2)
    lock = Path("outputs/seeds/run.lock")
    spent = Spending(8, 10, Decimal(0))
    lock.write_text(f"process 1 on here\n{Note(7, spent, boot()).to_text()}", encoding="utf-8")
    with pytest.raises(DriftError):
        evol.run(seeds, teacher=ScriptedTeacher([]), rounds=0, random_seed=7)
    teacher = ScriptedTeacher(answering)
    with pytest.raises(BudgetReached):
        evol.run(seeds, teacher=teacher, rounds=0, max_calls=9, concurrency=1)
    assert len(teacher.requests) == 1


def test_the_same_model_elsewhere_has_a_price_of_its_own(seed_file: SeedFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test-and-of-nothing-else")
    with pytest.raises(UsageError, match="that of gpt-5-mini is not known"):
        evol.run(
            seed_file(),
            max_cost="1",
            teacher="openai:gpt-5-mini@https://api.openai.com/v1",
            judge="openai:gpt-5-mini@http://127.0.0.1:1/v1",
        )


def test_the_small_question_costs_too(seed_file: SeedFile) -> None:
    teacher = ScriptedTeacher(lambda asked: "ready" if asked.user == PROBE else Unavailable("500"))
    with pytest.raises(BudgetReached):
        evol.run(seed_file(3, output=""), teacher=teacher, rounds=0, tries=1, max_calls=2, concurrency=1)
    assert len(teacher.requests) == 2
