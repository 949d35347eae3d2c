"""MixEval's figures by hand, and failures that are counted but never scored."""

from __future__ import annotations

import json
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.suites.base import SuiteOptions
from evalsuite.suites.mixeval.scores import Mark, combined, scores_of
from evalsuite.suites.mixeval.suite import MIXEVAL
from judges.types import Choice, Rating, Unscored
from tests.evalsuite.mixeval_rows import (
    EMPTY,
    RULE,
    choice_row,
    free_row,
    record,
    said,
)


def test_scores_by_hand() -> None:
    records = [
        *(record(free_row(str(i)), said("x"), Rating(value, "")) for i, value in enumerate((1.0, 0.5, 0.5))),
        record(free_row("3", "AGIEval"), said("x"), Rating(0.0, "")),
        *(record(choice_row(str(i), "AGIEval"), said("x"), Choice(letter)) for i, letter in enumerate("BBA")),
    ]
    scores = MIXEVAL.score(records, EMPTY, SuiteOptions())
    # free-form 2/4 = 0.5; multiple choice 2/3 = 0.667
    assert scores["score"] == pytest.approx((0.5 * 4 + 0.667 * 3) / 7, abs=1e-12)
    assert scores["score_unrounded"] == pytest.approx(4 / 7, abs=1e-12)
    assert scores["free_form"] == 0.5
    assert scores["multiple_choice"] == pytest.approx(2 / 3, abs=1e-12)
    assert scores["benchmarks"]["TriviaQA"] == {"score": 0.667, "n": 3, "n_scored": 3}
    assert scores["benchmarks"]["AGIEval"]["score"] == pytest.approx((0.0 * 1 + 0.667 * 3) / 4, abs=1e-12)
    values = [1.0, 0.5, 0.5, 0.0, 1.0, 1.0, 0.0]
    assert scores["stderr"] == pytest.approx(statistics.stdev(values) / 7**0.5, abs=1e-12)
    low, high = scores["ci95"]
    assert low < scores["score_unrounded"] < high
    assert "missing" not in scores
    assert "no_option" not in scores


def test_failures_are_counted_and_take_no_part_in_the_mean() -> None:
    records = [
        record(free_row("0"), said("x"), Rating(1.0, "")),
        record(free_row("1"), Unscored("context_length"), Unscored("no_answer")),
        record(free_row("2"), said("x"), Unscored("no_rating")),
        record(free_row("3"), said("x")),
        record(choice_row("0"), said("x"), Choice("B")),
        record(choice_row("1"), said("x"), Unscored("no_option")),
    ]
    scores = MIXEVAL.score(records, EMPTY, SuiteOptions())
    assert (scores["score"], scores["free_form"], scores["multiple_choice"]) == (1.0, 1.0, 1.0)
    assert (scores["n"], scores["n_scored"]) == (6, 2)
    assert scores["unscored"] == {"context_length": 1, "no_judge": 1, "no_option": 1, "no_rating": 1}
    assert scores["benchmarks"]["TriviaQA"] == {"score": 1.0, "n": 4, "n_scored": 1}


def test_by_rule_no_option_is_wrong_and_no_answer_is_unscored() -> None:
    records = [
        record(free_row(), said("It is Mercury.")),
        record(choice_row("0"), said("B")),
        record(choice_row("1"), said("No idea at all.")),
        record(choice_row("2"), Unscored("request_failed")),
    ]
    scores = MIXEVAL.score(records, EMPTY, RULE)
    assert scores["multiple_choice"] == 0.5
    assert scores["no_option"] == 1
    assert scores["unscored"] == {"request_failed": 1}
    assert scores["benchmarks"]["MMLU"] == {"score": 0.5, "n": 3, "n_scored": 2}


def test_a_split_without_scores_makes_the_score_null_and_says_why() -> None:
    records = [
        record(free_row("0"), Unscored("request_failed")),
        record(free_row("1"), Unscored("request_failed")),
        record(choice_row("0"), said("B")),
        record(choice_row("1"), said("A")),
    ]
    scores = MIXEVAL.score(records, EMPTY, RULE)
    assert [scores[name] for name in ("score", "score_unrounded", "stderr", "ci95", "free_form")] == [None] * 5
    assert scores["multiple_choice"] == 0.5
    assert scores["missing"] == {"free_form": "none of its 2 items could be scored"}
    assert scores["partial"]["score"] == 0.5
    assert scores["partial"]["splits"] == ["multiple_choice"]
    assert scores["benchmarks"]["TriviaQA"]["score"] is None
    json.dumps(scores, allow_nan=False)


def test_nothing_at_all_is_null_not_zero() -> None:
    scores = MIXEVAL.score([], EMPTY, SuiteOptions())
    assert (scores["score"], scores["free_form"], scores["multiple_choice"], scores["n"]) == (None, None, None, 0)
    assert set(scores["missing"]) == {"free_form", "multiple_choice"}
    assert combined([]) is None


MARKS = st.lists(
    st.builds(
        Mark,
        split=st.sampled_from(["free_form", "multiple_choice"]),
        benchmark=st.sampled_from(["AGIEval", "MMLU", "DROP"]),
        value=st.sampled_from([0.0, 0.1, 0.5, 1.0, Unscored("no_rating")]),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(marks=MARKS, data=st.data())
def test_scores_stay_close_to_the_plain_mean_and_ignore_order(marks: list[Mark], data: st.DataObject) -> None:
    scores = scores_of(marks, SuiteOptions())
    values = [mark.value for mark in marks if isinstance(mark.value, float)]
    assert scores["n_scored"] + sum(scores["unscored"].values()) == scores["n"] == len(marks)
    if scores["score"] is not None:
        assert scores["score_unrounded"] == pytest.approx(sum(values) / len(values), abs=1e-12)
        assert abs(scores["score"] - scores["score_unrounded"]) <= 0.0005 + 1e-12
        assert 0 <= scores["score"] <= 1 + 1e-12
    turned = scores_of(data.draw(st.permutations(marks)), SuiteOptions())
    for name in ("score", "free_form", "multiple_choice"):
        assert turned[name] == pytest.approx(scores[name], abs=1e-9)
    assert turned["unscored"] == scores["unscored"]
