"""Concurrent awaitables that are all cancelled when one fails."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from itertools import chain, islice
from typing import TypeVar

T = TypeVar("T")

_STARTED = 4096
"""Awaitables that are started at once: more than any server answers at once, so that only memory is saved."""


async def gather_or_cancel(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """Await all and return their results in order; an iterator is read only as far as awaitables are started.

    If one fails, the rest are cancelled and awaited before the error is raised. ``asyncio.gather`` lets them run
    on: requests to a dead server would block the same requests to its replacement.
    """
    import asyncio

    numbered = enumerate(awaitables)
    results: dict[int, T] = {}

    async def work(first: tuple[int, Awaitable[T]]) -> None:
        for position, each in chain((first,), numbered):
            results[position] = await each

    tasks = [asyncio.ensure_future(work(first)) for first in islice(numbered, _STARTED)]
    try:
        await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    return [results[position] for position in range(len(results))]
