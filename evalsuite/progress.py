"""Progress as the run reports it, and three ways to show it: lines that move, plain lines, silence."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from rich.progress import TaskID

_PLAIN_EVERY_S = 10.0


class Progress(Protocol):
    """Told by the run what it is doing; safe to call from any thread."""

    def step(self, words: str) -> None:
        """Say what the run as a whole is at; "" when that is over."""
        ...

    def begin(self, task: str, total: int | None) -> None:
        """Start (or start again) a line for ``task`` with ``total`` items, None where not yet known."""
        ...

    def advance(self, task: str, count: int = 1) -> None: ...

    def settle(self, task: str, done: int, total: int) -> None:
        """Set a task's line to ``done`` of ``total``."""
        ...

    def say(self, words: str) -> None:
        """Leave a line that stays."""
        ...


class Silence:
    """Show nothing."""

    def step(self, words: str) -> None: ...

    def begin(self, task: str, total: int | None) -> None: ...

    def advance(self, task: str, count: int = 1) -> None: ...

    def settle(self, task: str, done: int, total: int) -> None: ...

    def say(self, words: str) -> None: ...


class PlainLines:
    """For logs and pipes: a line on stderr at most every ten seconds a task, and at its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: dict[str, int] = {}
        self._total: dict[str, int | None] = {}
        self._shown: dict[str, float] = {}

    def step(self, words: str) -> None:
        if words:
            with self._lock:
                self._maybe("", words, force=False)

    def begin(self, task: str, total: int | None) -> None:
        with self._lock:
            self._done[task], self._total[task] = 0, total

    def advance(self, task: str, count: int = 1) -> None:
        self.settle(task, self._done.get(task, 0) + count, self._total.get(task) or 0)

    def settle(self, task: str, done: int, total: int) -> None:
        with self._lock:
            self._done[task], self._total[task] = done, total or None
            self._maybe(task, f"{task}: {done}/{total or '?'}", force=done == total)

    def say(self, words: str) -> None:
        print(words, file=sys.stderr, flush=True)  # noqa: T201

    def _maybe(self, task: str, words: str, *, force: bool) -> None:
        now = time.monotonic()
        if force or now - self._shown.get(task, -_PLAIN_EVERY_S) >= _PLAIN_EVERY_S:
            self._shown[task] = now
            self.say(words)


class MovingLines:
    """One moving line a suite with rate and time left, through rich, on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=False,
        )
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def step(self, words: str) -> None:
        with self._lock:
            line = self._line("·")
            self._progress.update(line, description=words or "·", visible=bool(words))

    def begin(self, task: str, total: int | None) -> None:
        with self._lock:
            self._progress.reset(self._line(task), total=total, completed=0, visible=True)

    def advance(self, task: str, count: int = 1) -> None:
        with self._lock:
            line = self._line(task)
            self._progress.advance(line, count)
            self._rate(line)

    def settle(self, task: str, done: int, total: int) -> None:
        with self._lock:
            line = self._line(task)
            self._progress.update(line, completed=done, total=total or None)
            self._rate(line)

    def say(self, words: str) -> None:
        self._progress.console.print(words, highlight=False)

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
