"""A limit on concurrent requests in which later turns have priority, and how many connections are possible."""

from __future__ import annotations

import asyncio
import heapq
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_OTHER_FILES = 256
"""Other open files of a run: the store, logs, data, libraries."""


class Slots:
    """A semaphore whose waiters are served by depth, deepest first, and in order of arrival at equal depth.

    A request of depth n continues a conversation with n answers, whose beginning is in the server's prefix cache
    now, but no longer after all other waiting requests. If all requests of a run wait from the start, first come,
    first served would send every first turn before any second one. For a single event loop.
    """

    def __init__(self, size: int) -> None:
        """Allow ``size`` (at least 1) concurrent holders."""
        if size < 1:
            raise ValueError(f"{size} slots; expected at least 1")
        self._free = size
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0

    @asynccontextmanager
    async def slot(self, depth: int = 0) -> AsyncIterator[None]:
        """Hold a slot in an ``async with`` block."""
        await self._acquire(depth)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, depth: int) -> None:
        if self._free:
            self._free -= 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._waiting, (-depth, self._arrivals, granted))
        try:
            await granted
        except asyncio.CancelledError:
            # Cancelled after the slot was granted: pass it on.
            if granted.done() and not granted.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            _, _, granted = heapq.heappop(self._waiting)
            if not granted.done():
                granted.set_result(None)
                return
        self._free += 1


def max_connections(wanted: int) -> int:
    """Raise the soft limit on open files for ``wanted`` connections; return how many of them are possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    return min(wanted, max(soft // 2, soft - _OTHER_FILES))
