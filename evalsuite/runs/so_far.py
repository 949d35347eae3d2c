"""What is known of a suite while it runs: the mean of its finished items, the unscored ones, tokens/s.

The figures that count are written by ``runs.writing`` once a suite is complete; these are only shown.
"""

from __future__ import annotations

import math
import time

from evalsuite.checkpoint import Checkpoint
from evalsuite.progress import Progress
from evalsuite.records.rows import Row
from evalsuite.runs.plan import SuiteRun
from evalsuite.runs.writing import header_of, seen_by
from evalsuite.serving.connection import Usage
from evalsuite.suites.repeats import marked_draws

_SPEED_EVERY_S = 3.0


class SoFar:
    """The finished items of one suite, shown beside its bar ``line``.

    ``judge`` is the one whose verdicts the rows have, None for a suite that needs none or whose verdicts come later:
    then, and where marking takes long, only answers that failed are counted. It runs beside the requests in flight.
    """

    def __init__(self, line: str, run: SuiteRun, judge: Checkpoint | None, progress: Progress, speed: Speed) -> None:
        self._line, self._run, self._judge, self._progress, self._speed = line, run, judge, progress, speed
        self._header = header_of(run, () if judge is None else (judge,))
        self._n = self._unscored = 0
        self._mean = self._squares = 0.0

    def add(self, row: Row) -> None:
        if self._run.suite.marks_slowly or (self._run.needs_judge and self._judge is None):
            self._unscored += any(reply.unscored is not None for reply in row.replies)
        else:
            self._mark(row)
        self._progress.note(self._line, self._text())
        self._progress.advance(self._line)
        self._speed.look()

    def _mark(self, row: Row) -> None:
        marked = marked_draws(self._run.suite, seen_by(self._judge, self._run, row), self._header)
        part = self._run.suite.report_part(self._run.spec.key, row.part)
        marks = [value for value in marked.marks.get(part.metric, ()) if value is not None]
        if not marks:
            self._unscored += 1
            return
        # Welford 1962: mean and sum of squares in one pass.
        value = part.scale * sum(marks) / len(marks)
        self._n += 1
        change = value - self._mean
        self._mean += change / self._n
        self._squares += change * (value - self._mean)

    def _text(self) -> str:
        texts = [] if not self._n else [f"mean so far {self._mean:.3g}{self._doubt()} (n {self._n})"]
        return ", ".join([*texts, *([f"{self._unscored} unscored"] if self._unscored else [])])

    def _doubt(self) -> str:
        if self._n < 2 or self._squares <= 0:
            return ""
        return f" ± {math.sqrt(self._squares / (self._n - 1) / self._n):.2g}"


class Speed:
    """Tokens per second that a model has lately read and written, shown as the step of the run."""

    def __init__(self, name: str, usage: Usage, progress: Progress) -> None:
        self._name, self._usage, self._progress = name, usage, progress
        self._seen = (time.monotonic(), usage.prompt_tokens, usage.completion_tokens)

    def look(self) -> None:
        """Show the speed since the last look, at most every few seconds."""
        at, read, written = self._seen
        now = (time.monotonic(), self._usage.prompt_tokens, self._usage.completion_tokens)
        seconds = now[0] - at
        if seconds < _SPEED_EVERY_S:
            return
        self._seen = now
        speeds = [f"{(now[1] - read) / seconds:,.0f} tokens/s read", f"{(now[2] - written) / seconds:,.0f} written"]
        self._progress.step(f"{self._name}: {', '.join(speeds)}" if now[1] > read else "")

    def stop(self) -> None:
        self._progress.step("")
