"""An event loop in a separate thread, which keeps the main thread free.

lm-eval's scorers set alarms, which is only possible in the main thread, and Ctrl-C arrives there. So the
client's coroutines run here, and callers wait for a future.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from contextlib import AbstractContextManager, closing
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread(AbstractContextManager["LoopThread"]):
    """Runs coroutines on a loop in another thread; a context manager that cancels the remaining tasks."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="evalsuite-loop", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result; an interrupt of the waiting thread cancels it."""
        future = self.submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._cancel_all)
        self._thread.join(timeout=10)

    def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        gathered = asyncio.gather(*tasks, return_exceptions=True)
        gathered.add_done_callback(lambda _: self.loop.stop())

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        with closing(self.loop):
            self.loop.run_forever()
