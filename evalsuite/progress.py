"""Progress reporting: live bars, log lines or nothing."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from evalsuite.text import printable

if TYPE_CHECKING:
    from rich.progress import TaskID

_LOG_EVERY_S = 10.0


class Progress:
    """Receives progress from a run, safe to call from any thread; this base shows nothing."""

    def step(self, message: str) -> None:
        """Show the current step of the run as a whole; "" clears it."""

    def begin(self, task: str, total: int | None) -> None:
        """Start (or restart) the line of ``task`` with ``total`` items, None if not yet known."""

    def advance(self, task: str, count: int = 1) -> None:
        """Add ``count`` to the line of a task."""

    def update(self, task: str, done: int, total: int) -> None:
        """Set the line of a task to ``done`` of ``total``."""

    def log(self, message: str) -> None:
        """Print a permanent line."""


class NoProgress(Progress):
    """Shows nothing."""


class LogProgress(Progress):
    """For logs and pipes: one line on stderr per task at most every ten seconds, and at its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: dict[str, int] = {}
        self._total: dict[str, int | None] = {}
        self._logged_at: dict[str, float] = {}

    def step(self, message: str) -> None:
        if message:
            with self._lock:
                self._log_throttled("", message, force=False)

    def begin(self, task: str, total: int | None) -> None:
        with self._lock:
            self._done[task], self._total[task] = 0, total

    def advance(self, task: str, count: int = 1) -> None:
        self.update(task, self._done.get(task, 0) + count, self._total.get(task) or 0)

    def update(self, task: str, done: int, total: int) -> None:
        with self._lock:
            self._done[task], self._total[task] = done, total or None
            self._log_throttled(task, f"{task}: {done}/{total or '?'}", force=done == total)

    def log(self, message: str) -> None:
        print(printable(message), file=sys.stderr, flush=True)  # noqa: T201

    def _log_throttled(self, task: str, message: str, *, force: bool) -> None:
        now = time.monotonic()
        if force or now - self._logged_at.get(task, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged_at[task] = now
            self.log(message)


class LiveProgress(Progress):
    """One live progress bar per task with rate and time left, using rich, on stderr."""

    def __init__(self) -> None:
        from rich import progress as bars

        from evalsuite.terminal import Console

        self._progress = bars.Progress(
            bars.SpinnerColumn(),
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=24),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def step(self, message: str) -> None:
        with self._lock:
            line = self._line("·")
            self._progress.update(line, description=message or "·", visible=bool(message))

    def begin(self, task: str, total: int | None) -> None:
        with self._lock:
            self._progress.reset(self._line(task), total=total, completed=0, visible=True)

    def advance(self, task: str, count: int = 1) -> None:
        with self._lock:
            line = self._line(task)
            self._progress.advance(line, count)
            self._rate(line)

    def update(self, task: str, done: int, total: int) -> None:
        with self._lock:
            line = self._line(task)
            self._progress.update(line, completed=done, total=total or None)
            self._rate(line)

    def log(self, message: str) -> None:
        self._progress.console.print(message, highlight=False, markup=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for line in self._tasks.values():
            self._progress.stop_task(line)
        self._progress.stop()

    def _line(self, task: str) -> TaskID:
        if task not in self._tasks:
            self._tasks[task] = self._progress.add_task(task, total=None, visible=False, rate="")
        return self._tasks[task]

    def _rate(self, line: TaskID) -> None:
        speed = self._progress.tasks[line].speed
        self._progress.update(line, rate=f"{speed:.1f}/s" if speed else "")
