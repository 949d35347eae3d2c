from __future__ import annotations

import asyncio

import pytest

from evalsuite.serving.slots import Slots


async def run_pending():
    for _ in range(5):
        await asyncio.sleep(0)


class Holders:
    """Tasks that hold a slot until they are released."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.started: list[str] = []
        self.released: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, name: str, depth: int = 0) -> None:
        self.released[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, depth))
        await run_pending()

    async def release(self, name: str) -> None:
        self.released[name].set()
        await run_pending()

    async def _hold(self, name: str, depth: int) -> None:
        async with self.slots.slot(depth):
            self.started.append(name)
            await self.released[name].wait()


async def test_the_deepest_goes_first_and_equal_depths_in_order_of_arrival():
    holders = Holders(Slots(1))
    for name, depth in (("a", 0), ("b", 0), ("c", 0), ("second turn", 1), ("third turn", 2), ("second turn too", 1)):
        await holders.start(name, depth)
    for name in ("a", "third turn", "second turn", "second turn too", "b"):
        assert holders.started[-1] == name
        await holders.release(name)
    assert holders.started[-1] == "c"
    await holders.release("c")


async def test_the_number_of_holders_is_limited():
    holders = Holders(Slots(2))
    for name in "abcd":
        await holders.start(name)
    assert holders.started == ["a", "b"]
    await holders.release("b")
    assert holders.started == ["a", "b", "c"]


async def test_a_cancelled_waiter_is_skipped():
    holders = Holders(Slots(1))
    for name in "abc":
        await holders.start(name)
    holders.tasks["b"].cancel()
    await holders.release("a")
    assert holders.started == ["a", "c"]


async def test_a_slot_granted_to_a_waiter_that_is_being_cancelled_goes_to_the_next():
    holders = Holders(Slots(1))
    for name in "abc":
        await holders.start(name)
    holders.released["a"].set()
    while not holders.tasks["a"].done():
        await asyncio.sleep(0)
        holders.tasks["b"].cancel()
    await run_pending()
    assert holders.started == ["a", "c"]


async def test_an_error_releases_the_slot():
    slots = Slots(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with slots.slot():
                raise ZeroDivisionError
    async with asyncio.timeout(5), slots.slot():
        pass


def test_zero_slots_are_rejected():
    with pytest.raises(ValueError, match="0 slots"):
        Slots(0)
