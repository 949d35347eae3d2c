"""What a notebook shows: the progress of a run, and its figures as the terminal's tables."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from evalsuite.documents import Scores
from evalsuite.progress import NoProgress, Progress
from evalsuite.tables import print_models
from evalsuite.terminal import Console

_REFRESH_S = 0.5
_WIDTH = 100
_PAGE = '<pre style="line-height:1.2">{code}</pre>'


def default_progress() -> Progress:
    """Return the progress for a call from Python: shown in a notebook, silent anywhere else."""
    return NotebookProgress() if "ipykernel" in sys.modules else NoProgress()


class Results(list[dict[str, Any]]):
    """One scores.json per model, which a notebook shows as the tables of ``evalsuite run``."""

    def __init__(self, models: Sequence[Scores]) -> None:
        super().__init__(scores.as_json() for scores in models)
        self._models = models

    def _repr_html_(self) -> str:
        console = Console(file=io.StringIO(), record=True, width=_WIDTH)
        print_models(console, self._models)
        return console.export_html(inline_styles=True, code_format=_PAGE)


class NotebookProgress(Progress):
    """One text in the cell's output, a line per task, renewed at most twice a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._step = ""
        self._tasks: dict[str, tuple[int, int | None]] = {}
        self._handle: Any = None
        self._shown_at = 0.0

    def step(self, message: str) -> None:
        with self._lock:
            self._step = message
            self._show(now=not message)

    def begin(self, task: str, total: int | None) -> None:
        self._set(task, 0, total)

    def advance(self, task: str, count: int = 1) -> None:
        done, total = self._tasks.get(task, (0, None))
        self._set(task, done + count, total)

    def update(self, task: str, done: int, total: int) -> None:
        self._set(task, done, total)

    def log(self, message: str) -> None:
        sys.stderr.write(f"{message}\n")

    def _set(self, task: str, done: int, total: int | None) -> None:
        with self._lock:
            self._tasks[task] = (done, total)
            self._show(now=done == total)

    def _show(self, *, now: bool) -> None:
        if not now and time.monotonic() - self._shown_at < _REFRESH_S:
            return
        from IPython.display import DisplayHandle, Pretty, display

        self._shown_at = time.monotonic()
        lines = [
            f"{task}: {done}" + ("" if total is None else f" of {total}") for task, (done, total) in self._tasks.items()
        ]
        text = Pretty("\n".join([*lines, *([self._step] if self._step else [])]))
        if isinstance(self._handle, DisplayHandle):
            self._handle.update(text)
        else:
            self._handle = display(text, display_id=True)
