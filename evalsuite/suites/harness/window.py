"""A bounded window of coroutines on the event loop of another thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from evalsuite.errors import ServerError

_WATCH_S = 0.5
"""How often a blocked caller looks whether the loop is still there."""


class Window:
    """Runs coroutines on ``loop``, at most ``size`` at a time, for a caller in another thread.

    As a context manager it waits for all of them. The first exception that one raises cancels
    the others and is raised in the caller; so does an exception of the caller (Ctrl-C).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self._loop = loop
        self._size = size
        self._slots = threading.Semaphore(size)
        self._lock = threading.Lock()
        self._open: set[Future[Any]] = set()
        self._first_error: BaseException | None = None

    def submit(self, work: Coroutine[Any, Any, None]) -> None:
        """Start ``work`` as soon as a place is free; raises what an earlier one raised."""
        try:
            self._take_slot()
        except BaseException:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        with self._lock:
            self._open.add(future)
        future.add_done_callback(self._settle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            try:
                for _ in range(self._size):
                    self._take_slot()
            except BaseException:
                self._cancel()
                raise
        else:
            self._cancel()

    def _take_slot(self) -> None:
        while not self._slots.acquire(timeout=_WATCH_S):
            if not self._loop.is_running():
                raise ServerError("the event loop that talks to the server has stopped; start the run again")
        if self._first_error is not None:
            self._slots.release()
            raise self._first_error

    def _settle(self, future: Future[Any]) -> None:
        with self._lock:
            self._open.discard(future)
            error = None if future.cancelled() else future.exception()
            fails_first = error is not None and self._first_error is None
            if fails_first:
                self._first_error = error
        if fails_first:
            self._cancel()
        self._slots.release()

    def _cancel(self) -> None:
        with self._lock:
            futures = list(self._open)
        for future in futures:
            future.cancel()
