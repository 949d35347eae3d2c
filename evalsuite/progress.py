"""Progress reporting: live bars, log lines or nothing."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from evalsuite.files import machine
from evalsuite.text import printable

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, Task, TaskID

RUNNING = ".running"
"""The folder among the results where running commands keep their progress."""

_LOG_EVERY_S, _KEEP_EVERY_S, _LOST_S = 10.0, 2.0, 60.0


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

    def note(self, task: str, text: str) -> None:
        """Show ``text`` beside the line of a task from its next advance on; "" shows none."""

    def log(self, message: str) -> None:
        """Print a permanent line."""

    def answered(self, n_tokens: int) -> None:
        """Count tokens that a server has just generated."""


class NoProgress(Progress):
    """Shows nothing."""


class LogProgress(Progress):
    """For logs and pipes: one line on stderr per task at most every ten seconds, and at its end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done: dict[str, int] = {}
        self._total: dict[str, int | None] = {}
        self._notes: dict[str, str] = {}
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
            note = f", {self._notes[task]}" if self._notes.get(task) else ""
            self._log_throttled(task, f"{task}: {done}/{total or '?'}{note}", force=done == total)

    def note(self, task: str, text: str) -> None:
        self._notes[task] = text

    def log(self, message: str) -> None:
        print(printable(message), file=sys.stderr, flush=True)  # noqa: T201

    def _log_throttled(self, task: str, message: str, *, force: bool) -> None:
        now = time.monotonic()
        if force or now - self._logged_at.get(task, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            self._logged_at[task] = now
            self.log(message)


class KeptProgress(Progress):
    """Hands progress on to ``shown``, and keeps it in the results folder, where ``evalsuite view`` looks.

    A folder that cannot be written to costs the view, and nothing else.
    """

    def __init__(self, shown: Progress, results: Path, command: str) -> None:
        self._shown = shown
        self._path = results / RUNNING / f"{machine()}-{os.getpid()}.json"
        self._state: dict[str, Any] = {"command": command, "step": "", "tasks": {}, "tokens": 0}
        self._notes: dict[str, str] = {}
        self._lock = threading.Lock()
        self._written_at = -_KEEP_EVERY_S

    def step(self, message: str) -> None:
        self._shown.step(message)
        with self._lock:
            self._state["step"] = printable(message)
            self._keep(force=True)

    def begin(self, task: str, total: int | None) -> None:
        self._shown.begin(task, total)
        self._set(task, 0, total, force=True)

    def advance(self, task: str, count: int = 1) -> None:
        self._shown.advance(task, count)
        done, total = self._state["tasks"].get(task, (0, None))
        self._set(task, done + count, total)

    def update(self, task: str, done: int, total: int) -> None:
        self._shown.update(task, done, total)
        self._set(task, done, total or None)

    def note(self, task: str, text: str) -> None:
        self._shown.note(task, text)
        self._notes[task] = printable(text)

    def log(self, message: str) -> None:
        self._shown.log(message)

    def answered(self, n_tokens: int) -> None:
        self._shown.answered(n_tokens)
        with self._lock:
            self._state["tokens"] += n_tokens
            self._keep()

    def _set(self, task: str, done: int, total: int | None, *, force: bool = False) -> None:
        with self._lock:
            self._state["tasks"][task] = (done, total)
            self._keep(force=force or done == total)

    def _keep(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._written_at < _KEEP_EVERY_S:
            return
        self._written_at = now
        tasks = [
            {"name": name, "done": done, "total": total, "note": self._notes.get(name, "")}
            for name, (done, total) in self._state["tasks"].items()
        ]
        partial = self._path.with_suffix(".partial")
        with suppress(OSError):
            self._path.parent.mkdir(exist_ok=True)
            partial.write_text(json.dumps({**self._state, "tasks": tasks}), encoding="utf-8")
            partial.replace(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()


def running_commands(results: Path) -> list[dict[str, Any]]:
    """Return what the running commands of a results folder have kept: command, step, tasks and tokens, oldest first.

    Files of processes that have been killed, on other machines those not written for a minute, are left out.
    """
    import psutil

    found = []
    with suppress(OSError):
        for path in sorted((results / RUNNING).glob("*.json")):
            with suppress(OSError, ValueError):
                host, _, pid = path.stem.partition("-")
                is_recent = time.time() - path.stat().st_mtime < _LOST_S
                if psutil.pid_exists(int(pid)) if host == machine() else is_recent:
                    found.append(json.loads(path.read_text(encoding="utf-8")))
    return found


class LiveProgress(Progress):
    """One live progress bar per task with rate and time left, using rich, on stderr."""

    def __init__(self) -> None:
        from rich import progress as bars

        from evalsuite.terminal import Console

        self._progress = bars.Progress(
            bars.SpinnerColumn(),
            # At 80 columns there is no room for a note beside the times.
            bars.TextColumn("{task.description}{task.fields[note]}", markup=False),
            bars.BarColumn(bar_width=24),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            _times_column(),
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

    def note(self, task: str, text: str) -> None:
        with self._lock:
            self._progress.update(self._line(task), note=f"\n  {text}" if text else "")

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
            self._tasks[task] = self._progress.add_task(task, total=None, visible=False, rate="", note="")
        return self._tasks[task]

    def _rate(self, line: TaskID) -> None:
        speed = self._progress.tasks[line].speed
        self._progress.update(line, rate=f"{speed:.1f}/s" if speed else "")


def _times_column() -> ProgressColumn:
    """Return a column with the elapsed and the remaining time, both named."""
    from rich.progress import ProgressColumn
    from rich.text import Text

    class Times(ProgressColumn):
        def render(self, task: Task) -> Text:
            seconds = task.finished_time if task.finished else task.elapsed
            times = [] if seconds is None else [f"elapsed {clock(seconds)}"]
            # A step without a total, such as a server's start, has no end that could be told.
            if task.total and not task.finished and task.time_remaining is not None:
                times.append(f"remaining {clock(task.time_remaining)}")
            return Text(", ".join(times), style="progress.elapsed")

    return Times()


def duration(seconds: float) -> str:
    """Print seconds as a person says them.

    >>> duration(4.2), duration(200), duration(9000)
    ('4 s', '3 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def clock(seconds: float) -> str:
    """Print seconds as 3:05 or 1:03:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
