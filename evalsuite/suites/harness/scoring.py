"""Keep lm-eval's scorers from giving the same answers another score in another process or on a busy machine."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from evalsuite.suites.patching import each_patched, patched

SEED = 0
"""Of Python's random numbers and of langdetect, for every document: two of IFEval's instructions draw their threshold,
and its language checks draw samples of the text."""


@contextmanager
def repeatable(tasks: Iterable[Any]) -> Iterator[Counter[str]]:
    """Score each document of lm-eval's tasks the same way every time; yields the late documents by task.

    A scorer that ran into its time limit (MATH's, in seconds on the clock) is tried again with the limit in seconds of
    computing, which other processes cannot use up. A document that is late even then counts as its scorer says.
    """
    import langdetect

    late: Counter[str] = Counter()

    def repeated(task: Any) -> dict[str, Any]:
        original = task.process_results

        def process_results(doc: Any, results: object) -> Any:
            marks, is_late = _timed(lambda: original(doc, results), signal.alarm, signal.SIGALRM)
            if is_late:
                marks, is_late = _timed(lambda: original(doc, results), _cpu_time_alarm, signal.SIGPROF)
                late[task.config.task] += is_late
            return marks

        return {"process_results": process_results}

    with patched(langdetect.DetectorFactory, seed=SEED), each_patched(tasks, repeated):
        yield late


def _timed(score: Callable[[], Any], alarm: Callable[[int], int], number: int) -> tuple[Any, bool]:
    """Score a document with this alarm for the scorer's own; returns (marks, whether it rang)."""
    is_set = has_rung = False

    def watched(seconds: int) -> int:
        nonlocal is_set, has_rung
        left = alarm(seconds)
        has_rung = has_rung or (is_set and not left)
        is_set = seconds > 0
        return left

    random.seed(SEED)
    with patched(signal, alarm=watched, SIGALRM=number):
        return score(), has_rung


def _cpu_time_alarm(seconds: int) -> int:
    """Send SIGPROF after ``seconds`` of this process's own computing; returns what was left, rounded up."""
    left, _ = signal.setitimer(signal.ITIMER_PROF, seconds)
    return int(left) + (left > 0)
