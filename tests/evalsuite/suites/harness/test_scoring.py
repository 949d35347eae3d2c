"""The same answers get the same score, in every process and on a busy machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest

from evalsuite.suites.harness.scoring import repeatable

LANGUAGES = """
import sys
from types import SimpleNamespace
import langdetect
from evalsuite.suites.harness.scoring import repeatable
texts = ["la casa e il gatto no", "hallo and la vie", "ja ne da no so", "der the de le", "no si me to", "a b c d e f"]
task = SimpleNamespace(process_results=lambda doc, results: langdetect.detect_langs(results[0]),
                       config=SimpleNamespace(task="t"))
with repeatable([task]):
    print([str(task.process_results(None, [text])) for text in texts])
"""


def test_languages_are_detected_alike_in_three_processes() -> None:
    found = {
        subprocess.run([sys.executable, "-c", LANGUAGES], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    }
    assert len(found) == 1


def test_without_the_seed_the_same_texts_differ() -> None:
    """Else the test above could not fail."""
    import langdetect

    assert langdetect.DetectorFactory.seed is None
    assert len({str(langdetect.detect_langs("hallo and la vie")) for _ in range(20)}) > 1


def test_a_threshold_that_is_drawn_is_the_same_whatever_was_scored_before() -> None:
    """IFEval's ``letter_frequency`` without a number draws one."""
    instructions = pytest.importorskip("lm_eval.tasks.ifeval.instructions")

    def marks(doc: Any, results: Any) -> int:
        checker = instructions.LetterFrequencyChecker("keywords:letter_frequency")
        checker.build_description(letter="a")
        return int(checker.get_instruction_args()["let_frequency"])

    task = task_of(marks)
    with repeatable([task]):
        assert len({task.process_results(None, []) for _ in range(10)}) == 1


def task_of(process_results: Any) -> Any:
    return SimpleNamespace(process_results=process_results, config=SimpleNamespace(task="math"))


def limited(seconds_of_computing: float, seconds_asleep: list[float]) -> Any:
    """A scorer with a limit of one second, as MATH's; it sleeps (another process computes) as the list says."""

    def ring(number: int, frame: Any) -> None:
        raise TimeoutError

    def process_results(doc: Any, results: Any) -> float:
        signal.signal(signal.SIGALRM, ring)
        signal.alarm(1)
        try:
            time.sleep(seconds_asleep.pop(0) if seconds_asleep else 0)
            begin = time.process_time()
            while time.process_time() - begin < seconds_of_computing:
                pass
        except TimeoutError:
            return 0.0
        finally:
            signal.alarm(0)
        return 1.0

    return process_results


def test_a_scorer_that_was_kept_waiting_is_tried_again() -> None:
    task = task_of(limited(0.05, [1.5, 1.5]))
    before = task.process_results
    with repeatable([task]) as late:
        assert task.process_results({}, []) == 1.0
    assert not +late
    assert task.process_results is before


def test_a_scorer_that_computes_too_long_counts_as_it_says() -> None:
    task = task_of(limited(1.5, []))
    with repeatable([task]) as late:
        assert task.process_results({}, []) == 0.0
    assert late == {"math": 1}


def test_math_verifys_own_limit_is_seen() -> None:
    from math_verify.errors import TimeoutException
    from math_verify.utils import timeout

    def process_results(doc: Any, results: Any) -> float:
        try:
            return float(timeout(1)(lambda: time.sleep(1.3) or 1)())
        except TimeoutException:
            return 0.0

    with repeatable([task := task_of(process_results)]) as late:
        assert task.process_results({}, []) == 1.0
    assert not +late
