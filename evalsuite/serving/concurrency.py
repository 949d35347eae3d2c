"""Questions that are asked at once, none of which outlives the failure of another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def gather_or_cancel(work: Iterable[Awaitable[T]]) -> list[T]:
    """Await all and return their results in order.

    When one fails, the rest are cancelled and waited for before that failure is raised. ``asyncio.gather`` lets them
    go on: questions to a dead server, in the way of the same questions to its successor.
    """
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
