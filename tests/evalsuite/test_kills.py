"""Real kills of a real run in every phase, then resumed; the long form is ``bench/faults.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evalsuite.kills import Account, differences, timeless

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def figures() -> dict:
    """What one kill in each phase has cost, as the bench counts it in a process of its own."""
    words = [sys.executable, "bench/faults.py", "--only", "run", "--short", "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_run_is_killed_in_every_phase(figures):
    assert sum(figures["tried"].values()) == 9
    phases = {kind.partition(": ")[2] for kind in figures["tried"]}
    assert {
        "first turns",
        "judging",
        "while scoring",
        "before a file is synced",
        "before a file is renamed",
        "after a file is renamed",
        "before an answer is committed",
        "after an answer is committed",
    } <= phases


def test_what_a_killed_run_leaves_in_the_end_is_what_an_undisturbed_one_leaves(figures):
    assert figures["remarks"] == []
    assert figures["lost"] == {}


def test_only_what_was_in_flight_at_a_kill_is_asked_again(figures):
    assert figures["asked"] > 60
    assert figures["repeated"] <= figures["in_flight"] <= 9 * 4


def test_a_question_asked_twice_without_need_is_seen():
    account = Account()
    account.after(["a", "b", "c"], n_stored=2, killed=True)
    account.after(["a", "c"], n_stored=3, killed=False)
    assert (account.repeated, account.worst) == (2, 1)
    assert account.without_need == 1, "one was in flight; the other's answer was stored"


def test_a_file_that_differs_in_more_than_times_is_seen():
    def scores(value, seconds):
        return timeless({"suites": {"mt_bench": {"score": value}}, "seconds": seconds})

    assert differences({"a": scores(5, 1)}, {"a": scores(5, 2)}) == []
    assert differences({"a": scores(5, 1)}, {"a": scores(6, 1)}) == ["a.suites.mt_bench.score"]
    assert differences({"a": 1}, {"a": 1, "b": 1}) == ["b"]
    assert timeless([{"status": "kept"}, {"status": "failed"}]) == [{"status": "done"}, {"status": "failed"}]
    assert differences({"a": {"text": None}}, {"a": {}}) == ["a.text"]
    assert differences({"a": [1, 2]}, {"a": [1]}) == ["a"]


def test_only_numbers_may_differ_within_the_tolerance():
    answer = {"text": "A", "log_probs": [-0.5]}
    assert differences({"a": answer}, {"a": {**answer, "log_probs": [-0.5001]}}) == ["a.log_probs[0]"]
    assert differences({"a": answer}, {"a": {**answer, "log_probs": [-0.5001]}}, tolerance=1e-3) == []
    assert differences({"a": answer}, {"a": {"text": "B", "log_probs": [-0.502]}}, tolerance=1e-3) == ["a.text"]
