"""The speed after the warm-up, and what it says of a larger job: figures from their definitions."""

from __future__ import annotations

import json
import math

import pytest
from scipy import stats

from evalsuite.analysis.efficiency import efficiency_row
from evalsuite.generation.measured import Measured
from evalsuite.generation.pace import MOST_STRETCHES, Pace, joined, speed_of
from evalsuite.generation.run import generate
from tests.evalsuite.analysis.test_efficiency import manifest
from tests.evalsuite.generation_endpoint import config, slow, write_chats
from tests.evalsuite.stub_endpoint import StubEndpoint


def test_warm_up_and_end_are_not_in_the_stretches():
    pace = Pace(ahead=4)
    # Four conversations in a slow start, then 10 tokens every half second, then the last four with nothing to begin.
    times = [20.0, 21.0, 22.0, 30.0, *(30.0 + 0.5 * step for step in range(1, 9)), 50.0, 60.0, 70.0, 80.0]
    for number, now in enumerate(times, 1):
        pace.finished(now, 10 * number, is_full=number <= 12)
    assert pace.stretches == [(1.0, 20)] * 4


def test_conversations_from_the_store_are_not_a_warm_up():
    pace = Pace(ahead=2)
    for now in range(50):
        pace.finished(float(now), 0, is_full=True)
    pace.finished(100.0, 5, is_full=True)
    assert pace.stretches == []
    pace.finished(101.0, 10, is_full=True)
    pace.finished(103.0, 18, is_full=True)
    assert pace.stretches == [(2.0, 8)]
    pace.pause()
    for now, tokens in ((200.0, 20), (201.0, 22)):
        pace.finished(now, tokens, is_full=True)
    assert pace.stretches == [(2.0, 8)]


def test_a_long_run_has_few_stretches_that_hold_all_of_it():
    pace = Pace(ahead=1)
    for now in range(1001):
        pace.finished(float(now), 3 * (now + 1), is_full=True)
    assert len(pace.stretches) <= MOST_STRETCHES
    assert sum(seconds for seconds, _ in pace.stretches) >= 1000 - 64
    assert {tokens / seconds for seconds, tokens in pace.stretches} == {3.0}
    assert joined([(1.0, 2)] * 65) == [*[(4.0, 8)] * 16, (1.0, 2)]


def test_the_error_of_a_speed_is_that_of_its_stretches():
    tokens = [80, 120, 100, 90, 110]
    speed, error = speed_of([(2.0, each) for each in tokens])
    assert speed == 50
    assert error == pytest.approx(stats.sem(tokens) / 100)
    assert speed_of([(2.0, 80)] * 4) is None
    assert speed_of([]) is None


def shards(*squares):
    return [{"squared_tokens": each} for each in squares]


def test_a_projection_has_the_interval_of_lengths_and_speed():
    # Three conversations of 10, 30 and 20 tokens: a mean of 20 with a standard error of 10 / sqrt(3).
    document = manifest(
        counts={"conversations": 3, "answers": 3, "unscored": {}},
        tokens={"prompt": 9, "completion": 60},
        shards=shards(10**2 + 30**2, 20**2),
    )
    measured = Measured.model_validate(document)
    error, n = measured.length_error
    assert (error, n) == (pytest.approx(10 / math.sqrt(3) / 20), 3)
    row = efficiency_row(measured, 1000, None)
    assert row["basis"] == "3 conversations, warm-up included; ± from the lengths only, since speed was measured once"
    t = stats.t.ppf(0.975, 2)
    assert row["device_hours_ci95"] == pytest.approx(
        [row["device_hours"] * math.exp(-t * error), row["device_hours"] * math.exp(t * error)]
    )
    tokens = [80, 120, 100, 90, 110]
    document["costs"] |= {"stretches": [[2.0, each] for each in tokens]}
    row = efficiency_row(Measured.model_validate(document), 1000, 3.0)
    assert row["steady_tokens_per_s"] == 50
    assert row["conversations_per_hour"] == pytest.approx(3600 * 50 / 20)
    factor = math.exp(t * math.hypot(error, stats.sem(tokens) / 100))
    assert row["dollars_ci95"] == pytest.approx([row["dollars"] / factor, row["dollars"] * factor])
    assert row["basis"] == "3 conversations, 10 of 100 s: excluding warm-up and tail"
    assert efficiency_row(Measured.model_validate(manifest()), 1000, None)["basis"].endswith("no interval")


def test_answers_of_one_conversation_are_one_unit(tmp_path):
    chats = write_chats(tmp_path / "chats.jsonl", 12)
    with StubEndpoint(slow) as stub:
        (made,) = generate(config(stub, chats, tmp_path / "out", samples=3, temperature=0.5)).manifests
    measured = Measured.model_validate(json.loads(json.dumps(made)))
    # One to three turns of two tokens each, three samples: 6, 12 or 18 tokens per conversation.
    lengths = [6 * (1 + number % 3) for number in range(12)]
    assert measured.length_error == (pytest.approx(stats.sem(lengths) / 12), 12)
