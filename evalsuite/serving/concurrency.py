"""Concurrent awaitables that are all cancelled when one fails."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def gather_or_cancel(awaitables: Iterable[Awaitable[T]]) -> list[T]:
    """Await all and return their results in order.

    If one fails, the rest are cancelled and awaited before the error is raised. ``asyncio.gather`` lets them run
    on: requests to a dead server would block the same requests to its replacement.
    """
    import asyncio

    tasks = [asyncio.ensure_future(each) for each in awaitables]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
