"""A bounded window of coroutines on the event loop of another thread."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, Self

from evalsuite.errors import ServerError

_WATCH_S = 0.5
"""How often a blocked caller checks that the loop is still running."""


class Window:
    """Runs coroutines on ``loop``, at most ``size`` at a time, for a caller in another thread.

    As a context manager it waits for all of them. The first exception that one raises is raised in the
    caller and cancels the others; so does an exception of the caller (Ctrl-C).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self._loop = loop
        self._size = size
        self._open: set[Future[None]] = set()
        self._ended: SimpleQueue[Future[None]] = SimpleQueue()

    def submit(self, work: Coroutine[Any, Any, None]) -> None:
        """Start ``work`` as soon as fewer than ``size`` are open; raises what an earlier one raised."""
        try:
            while len(self._open) >= self._size or not self._ended.empty():
                self._settle_one()
        except BaseException:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._open.add(future)
        future.add_done_callback(self._ended.put)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._open:
                self._settle_one()
        finally:
            for future in self._open:
                future.cancel()

    def _settle_one(self) -> None:
        while True:
            try:
                future = self._ended.get(timeout=_WATCH_S)
                break
            except Empty:
                if not self._loop.is_running():
                    raise ServerError("the event loop has stopped; run the same command again") from None
        self._open.discard(future)
        future.result()
