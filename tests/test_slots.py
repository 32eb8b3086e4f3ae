"""Slots: never too many inside, like goes to like, nobody is passed over for long, and no slot is ever lost.

A visitor's name begins with the letter of its kind: the prefix of its prompt.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress

import pytest

from evol.teachers.slots import PATIENCE, Slots

SOON = 5.0  # seconds after which a test that hangs has failed


def run(scene: Coroutine[None, None, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(SOON):
            await scene

    asyncio.run(in_time())


async def settle() -> None:
    """Lets all that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


class Room:
    """Visitors of some slots, in the order in which they came and went in; each stays until it is sent out."""

    def __init__(self, count: int) -> None:
        self.slots = Slots(count)
        self.came: list[str] = []
        self.went_in: list[str] = []
        self.inside: list[str] = []
        self.most = 0
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._out: dict[str, asyncio.Event] = {}

    async def read(self, kinds: str) -> None:
        """One of each kind goes in and out, while nobody else is there, and is forgotten."""
        assert not self.inside
        for kind in kinds:
            await self.come(kind)
            await settle()
            self.send_out(kind)
            await settle()
        self.came, self.went_in, self.most = [], [], 0

    async def come(self, *names: str) -> None:
        """They line up."""
        for name in names:
            self.came.append(name)
            self._out[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._visit(name))
            await asyncio.sleep(0)

    def send_out(self, *names: str) -> None:
        for name in names:
            self._out[name].set()

    def cancel(self, *names: str) -> None:
        for name in names:
            self._tasks[name].cancel()

    async def drain(self) -> None:
        """Sends out whoever is inside until nobody waits."""
        while self.inside:
            self.send_out(self.inside[0])
            await settle()

    async def check_all_slots_are_there(self, count: int) -> None:
        """So many can go in at once, and no more."""
        await self.read("z")
        await self.come(*(f"z{number}" for number in range(count + 1)))
        await settle()
        assert len(self.inside) == count
        self.send_out(*self._out)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _visit(self, name: str) -> None:
        async with self.slots.take(name[0]):
            self.went_in.append(name)
            self.inside.append(name)
            self.most = max(self.most, len(self.inside))
            try:
                await self._out[name].wait()
            finally:
                self.inside.remove(name)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_never_more_are_inside_than_there_are_slots(count: int) -> None:
    async def scene() -> None:
        room = Room(count)
        await room.read("abc")
        await room.come(*(f"{'abc'[number % 3]}{number}" for number in range(count * 4)))
        assert len(room.inside) == count
        await room.drain()
        assert room.most == count
        assert sorted(room.went_in) == sorted(room.came)
        await room.check_all_slots_are_there(count)

    run(scene())


def test_while_slots_are_free_nobody_waits_for_its_like() -> None:
    async def scene() -> None:
        room = Room(3)
        await room.come("a1", "b1", "c1", "d1")
        assert room.inside == ["a1", "b1", "c1"]
        await room.drain()

    run(scene())


@pytest.mark.parametrize(
    ("waiting", "order"),
    [
        pytest.param("b1 b2 a1", "a1 b1 b2", id="like goes to like, then the first in line"),
        pytest.param("b1 a1 b2 a2", "a1 a2 b1 b2", id="as long as there are any"),
        pytest.param("c1 b1 c2 b2", "c1 c2 b1 b2", id="without any, the first in line and then its like"),
        pytest.param("a1 a2 a3", "a1 a2 a3", id="among its like the first in line"),
        pytest.param("b1 c1 d1", "b1 c1 d1", id="without likeness as they came"),
    ],
)
def test_a_slot_goes_to_the_first_of_its_kind(waiting: str, order: str) -> None:
    async def scene() -> None:
        room = Room(1)
        await room.read("abcd")
        await room.come("a0", *waiting.split())
        await room.drain()
        assert room.went_in == ["a0", *order.split()]

    run(scene())


def test_of_several_slots_each_goes_to_its_own_kind() -> None:
    async def scene() -> None:
        room = Room(2)
        await room.read("ab")
        await room.come("a0", "b0", "a1", "b1")
        room.send_out("b0")
        await settle()
        assert room.inside == ["a0", "b1"]
        room.send_out("a0")
        await settle()
        assert room.inside == ["b1", "a1"]
        await room.drain()

    run(scene())


def test_one_of_another_kind_is_passed_over_so_often_and_not_oftener() -> None:
    async def scene() -> None:
        room = Room(1)
        await room.read("ab")
        await room.come("a0", "b0", *(f"a{number}" for number in range(1, PATIENCE * 3)))
        await room.drain()
        assert room.went_in.index("b0") == PATIENCE + 1

    run(scene())


def test_those_who_come_while_one_waits_do_not_make_it_wait_for_ever() -> None:
    async def scene() -> None:
        room = Room(1)
        await room.come("a0", "b0")
        for number in range(1, PATIENCE * 2):
            await room.come(f"a{number}")
            room.send_out(room.inside[0])
            await settle()
        assert room.went_in.index("b0") == PATIENCE + 1
        await room.drain()

    run(scene())


def passed_over(room: Room) -> int:
    """The most later comers that went in before anyone who waited."""
    came = {name: number for number, name in enumerate(room.came)}
    order = [came[name] for name in room.went_in]
    return max(sum(later > own for later in order[:at]) for at, own in enumerate(order))


async def traffic(room: Room, chance: random.Random, kinds: str) -> None:
    """Many come, go, and are cancelled, wherever they are then."""
    for number in range(300):
        await room.come(f"{chance.choice(kinds)}{number}")
        if chance.random() < 0.2:
            room.cancel(chance.choice(room.came))
        if room.inside and chance.random() < 0.6:
            room.send_out(chance.choice(room.inside))
        if chance.random() < 0.5:
            await settle()
    await settle()
    await room.drain()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("seed", range(10))
def test_in_any_traffic_nobody_is_passed_over_for_long_and_no_slot_is_lost(count: int, seed: int) -> None:
    chance = random.Random(seed)

    async def scene() -> None:
        room = Room(count)
        await room.read("abcd")
        await traffic(room, chance, "aaaaabcd")
        assert room.most == count
        assert passed_over(room) <= PATIENCE
        await room.check_all_slots_are_there(count)

    run(scene())


@pytest.mark.parametrize("seed", range(10))
def test_in_any_traffic_of_much_that_was_never_read_no_slot_is_lost(seed: int) -> None:
    async def scene() -> None:
        room = Room(3)
        await traffic(room, random.Random(seed), "abcdefghijklmnopqrst")
        assert room.most <= 3
        await room.check_all_slots_are_there(3)

    run(scene())


def test_what_was_never_read_is_read_by_one_alone_while_others_go_in() -> None:
    async def scene() -> None:
        room = Room(3)
        await room.come("a0", "a1", "a2", "b0", "b1")
        assert room.inside == ["a0", "b0"]
        room.send_out("a0")
        await settle()
        assert room.inside == ["b0", "a1", "a2"]
        await room.drain()
        assert room.went_in[-1] == "b1"

    run(scene())


def test_where_the_one_that_reads_is_cancelled_one_other_reads() -> None:
    async def scene() -> None:
        room = Room(3)
        await room.come("a0", "a1", "a2")
        room.cancel("a0")
        await settle()
        assert room.inside == ["a1"]
        await room.drain()
        await room.check_all_slots_are_there(3)

    run(scene())


def test_where_the_one_that_would_read_is_cancelled_as_it_is_given_a_slot_one_other_reads() -> None:
    async def scene() -> None:
        room = Room(1)
        await room.come("b0", "a0", "a1", "a2")
        await _just_given_a_slot(room, "b0", "a0")
        assert room.inside == ["a1"]
        await room.drain()
        assert room.went_in == ["b0", "a1", "a2"]
        await room.check_all_slots_are_there(1)

    run(scene())


def test_prompts_that_have_nothing_in_common_wait_for_nobody_to_read() -> None:
    async def scene() -> None:
        slots = Slots(2)
        async with slots.take(""), slots.take(""):
            pass

    run(scene())


def test_one_is_not_passed_over_oftener_for_those_who_waited_for_a_reading() -> None:
    async def scene() -> None:
        room = Room(2)
        await room.read("bc")
        await room.come("a0", "b0", "a1", "a2", "c0")
        for number in range(PATIENCE):
            await room.come(f"b{number + 1}")
            room.send_out(f"b{number}")
            await settle()
        assert room.inside == ["a0", f"b{PATIENCE}"]
        room.send_out("a0")
        await settle()
        await room.come("b99")
        room.send_out(f"b{PATIENCE}")
        await settle()
        assert "c0" in room.went_in
        await room.drain()

    run(scene())


async def _in_line(room: Room) -> None:
    room.cancel("a1", "b1", "a2")
    await settle()


async def _in_line_as_a_slot_comes_free(room: Room) -> None:
    room.cancel("a1", "b1", "a2")
    room.send_out("a0")
    await settle()


async def _just_given_a_slot(room: Room, out: str = "a0", chosen: str = "a1") -> None:
    room.send_out(out)
    await asyncio.sleep(0)
    assert not room.inside
    room.cancel(chosen)
    await settle()
    assert chosen not in room.went_in


async def _each_just_given_the_slot_of_the_other(room: Room) -> None:
    room.send_out("a0")
    for name in ("a1", "a2", "b1"):
        await asyncio.sleep(0)
        room.cancel(name)
    await settle()


async def _all_at_once_as_a_slot_comes_free(room: Room) -> None:
    room.send_out("a0")
    await asyncio.sleep(0)
    room.cancel("a1", "b1", "a2", "b2")
    await settle()


async def _inside(room: Room) -> None:
    room.cancel("a0")
    await settle()
    assert room.inside == ["a1"]


@pytest.mark.parametrize(
    "cancel",
    [
        _in_line,
        _in_line_as_a_slot_comes_free,
        _just_given_a_slot,
        _each_just_given_the_slot_of_the_other,
        _all_at_once_as_a_slot_comes_free,
        _inside,
    ],
    ids=lambda cancel: cancel.__name__.strip("_").replace("_", " "),
)
def test_who_is_cancelled_takes_no_slot_along(cancel: Callable[[Room], Coroutine[None, None, None]]) -> None:
    async def scene() -> None:
        room = Room(1)
        await room.come("a0", "a1", "b1", "a2", "b2")
        await cancel(room)
        await room.drain()
        assert room.most == 1
        await room.check_all_slots_are_there(1)

    run(scene())


def test_the_next_in_line_goes_in_where_one_is_cancelled_as_it_is_given_a_slot() -> None:
    async def scene() -> None:
        room = Room(1)
        await room.come("a0", "a1", "b1")
        await _just_given_a_slot(room)
        assert room.inside == ["b1"]
        assert room.went_in == ["a0", "b1"]
        await room.drain()

    run(scene())


def test_many_that_are_cancelled_at_once_leave_all_slots() -> None:
    async def scene() -> None:
        room = Room(4)
        await room.read("ab")
        names = [f"{'ab'[number % 2]}{number}" for number in range(200)]
        await room.come(*names)
        room.cancel(*names)
        await settle()
        assert (room.inside, room.went_in) == ([], names[:4])
        await room.check_all_slots_are_there(4)

    run(scene())


def test_an_error_inside_gives_the_slot_back() -> None:
    async def scene() -> None:
        slots = Slots(1)
        for _ in range(3):
            with suppress(ValueError):
                async with slots.take("a"):
                    raise ValueError

    run(scene())


def test_after_a_new_start_of_the_server_a_beginning_is_read_by_one_alone_again() -> None:
    async def scene() -> None:
        slots, inside, most = Slots(2), 0, []

        async def ask() -> None:
            nonlocal inside
            async with slots.take("a"):
                inside += 1
                most.append(inside)
                await settle()
                inside -= 1

        for forgotten in (False, True):
            if forgotten:
                slots.forget()
            most.clear()
            await ask()
            await asyncio.gather(ask(), ask())
            assert max(most) == 2
            slots.forget()
            most.clear()
            await asyncio.gather(ask(), ask())
            assert max(most) == 1

    run(scene())
