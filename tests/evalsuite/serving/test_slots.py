from __future__ import annotations

import asyncio

import pytest

from evalsuite.serving.slots import Slots


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


class Work:
    """Questions that hold their slot until they are told to end."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.began: list[str] = []
        self.may_end: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str, depth: int = 0) -> None:
        self.may_end[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, depth))
        await settle()

    async def end(self, name: str) -> None:
        self.may_end[name].set()
        await settle()

    async def _hold(self, name: str, depth: int) -> None:
        async with self.slots.held(depth):
            self.began.append(name)
            await self.may_end[name].wait()


async def test_the_deepest_goes_first_and_equals_go_in_the_order_they_came():
    work = Work(Slots(1))
    for name, depth in (("a", 0), ("b", 0), ("c", 0), ("second turn", 1), ("third turn", 2), ("second turn too", 1)):
        await work.start(name, depth)
    for name in ("a", "third turn", "second turn", "second turn too", "b"):
        assert work.began[-1] == name
        await work.end(name)
    assert work.began[-1] == "c"
    await work.end("c")


async def test_no_more_hold_a_slot_than_there_are():
    work = Work(Slots(2))
    for name in "abcd":
        await work.start(name)
    assert work.began == ["a", "b"]
    await work.end("b")
    assert work.began == ["a", "b", "c"]


async def test_who_is_cancelled_while_waiting_leaves_no_gap():
    work = Work(Slots(1))
    for name in "abc":
        await work.start(name)
    work.tasks["b"].cancel()
    await work.end("a")
    assert work.began == ["a", "c"]


async def test_a_slot_handed_to_one_that_is_cancelled_in_that_moment_goes_to_the_next():
    work = Work(Slots(1))
    for name in "abc":
        await work.start(name)
    work.may_end["a"].set()
    while not work.tasks["a"].done():
        await asyncio.sleep(0)
        work.tasks["b"].cancel()
    await settle()
    assert work.began == ["a", "c"]


async def test_an_error_gives_its_slot_back():
    slots = Slots(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with slots.held():
                raise ZeroDivisionError
    async with asyncio.timeout(5), slots.held():
        pass


def test_no_slots_at_all_are_refused():
    with pytest.raises(ValueError, match="0 slots"):
        Slots(0)
