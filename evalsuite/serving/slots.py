"""Who is asked next: a bound on the requests in flight that lets later turns go first."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """A semaphore whose waiters are served by depth, deepest first, and those of one depth in the order they came.

    A question of depth n continues a conversation in which n answers were given: the server has its beginning in
    the prefix cache now, and will not when everything that waits has been through. Where all of a run's questions
    wait from the start, first come, first served would ask every first turn before any second one. For one event
    loop.
    """

    def __init__(self, size: int) -> None:
        """Allow ``size`` (at least 1) holders at a time."""
        if size < 1:
            raise ValueError(f"{size} slots")
        self._free = size
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0

    @asynccontextmanager
    async def held(self, depth: int = 0) -> AsyncIterator[None]:
        """Hold a slot for the length of a ``with``."""
        await self._acquire(depth)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, depth: int) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._waiting, (-depth, self._arrivals, turn))
        try:
            await turn
        except asyncio.CancelledError:
            # Cancelled after the slot was handed over: the next one gets it.
            if turn.done() and not turn.cancelled():
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
