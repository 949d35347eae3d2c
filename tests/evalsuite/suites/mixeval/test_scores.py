"""MixEval's figures by hand, and failures that are counted but never scored."""

from __future__ import annotations

import json
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.records.rows import Row, Verdict
from evalsuite.suites.mixeval.scores import combined, scores_of
from judges.types import Unscored
from tests.evalsuite.suites.mixeval.mixeval_rows import (
    JUDGE,
    MIXEVAL,
    RULE,
    answered,
    choice_row,
    free_row,
    header,
    scored,
    verdict,
)


def test_scores_by_hand() -> None:
    rows = [
        *(answered(free_row(str(i)), "x", verdict(value)) for i, value in enumerate((1.0, 0.5, 0.5))),
        answered(free_row("3", "AGIEval"), "x", verdict(0.0)),
        *(answered(choice_row(str(i), "AGIEval"), "x", verdict(letter)) for i, letter in enumerate("BBA")),
    ]
    scores = scored(rows, JUDGE)
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
    rows = [
        answered(free_row("0"), "x", verdict(1.0)),
        answered(free_row("1"), Unscored("context_length"), verdict(Unscored("no_answer"))),
        answered(free_row("2"), "x", verdict(Unscored("no_rating"))),
        answered(free_row("3"), "x"),
        answered(choice_row("0"), "x", verdict("B")),
        answered(choice_row("1"), "x", verdict(Unscored("no_option"))),
    ]
    scores = scored(rows, JUDGE)
    assert (scores["score"], scores["free_form"], scores["multiple_choice"]) == (1.0, 1.0, 1.0)
    assert (scores["n"], scores["n_scored"]) == (6, 2)
    assert scores["unscored"] == {"context_length": 1, "no_judge": 1, "no_option": 1, "no_rating": 1}
    assert scores["benchmarks"]["TriviaQA"] == {"score": 1.0, "n": 4, "n_scored": 1}


def test_by_rule_no_option_is_wrong_and_no_answer_is_unscored() -> None:
    rows = [
        answered(free_row(), "It is Mercury."),
        answered(choice_row("0"), "B"),
        answered(choice_row("1"), "No idea at all."),
        answered(choice_row("2"), Unscored("request_failed")),
    ]
    scores = scored(rows, RULE)
    assert scores["multiple_choice"] == 0.5
    assert scores["no_option"] == 1
    assert scores["unscored"] == {"request_failed": 1}
    assert scores["benchmarks"]["MMLU"] == {"score": 0.5, "n": 3, "n_scored": 2}


def test_a_split_without_scores_makes_the_score_null_and_says_why() -> None:
    rows = [
        answered(free_row("0"), Unscored("request_failed")),
        answered(free_row("1"), Unscored("request_failed")),
        answered(choice_row("0"), "B"),
        answered(choice_row("1"), "A"),
    ]
    scores = scored(rows, RULE)
    assert [scores[name] for name in ("score", "score_unrounded", "stderr", "ci95", "free_form")] == [None] * 5
    assert scores["multiple_choice"] == 0.5
    assert scores["missing"] == {"free_form": "none of its 2 items could be scored"}
    assert scores["partial"]["score"] == 0.5
    assert scores["partial"]["splits"] == ["multiple_choice"]
    assert scores["benchmarks"]["TriviaQA"]["score"] is None
    json.dumps(scores, allow_nan=False)


def test_nothing_at_all_is_null_not_zero() -> None:
    scores = scored([], JUDGE)
    assert (scores["score"], scores["free_form"], scores["multiple_choice"], scores["n"]) == (None, None, None, 0)
    assert set(scores["missing"]) == {"free_form", "multiple_choice"}
    assert combined([]) is None


def marked_row(split: str, benchmark: str, value: float | Unscored) -> Row:
    unscored = (value,) if isinstance(value, Unscored) else ()
    marks = {"score": (None if unscored else value,)}
    return Row("0", part=split, facts={"benchmark_name": benchmark}, marks=marks, unscored=unscored)


MARKED = st.lists(
    st.builds(
        marked_row,
        split=st.sampled_from(["free_form", "multiple_choice"]),
        benchmark=st.sampled_from(["AGIEval", "MMLU", "DROP"]),
        value=st.sampled_from([0.0, 0.1, 0.5, 1.0, Unscored("no_rating")]),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(rows=MARKED, data=st.data())
def test_scores_stay_close_to_the_plain_mean_and_ignore_order(rows: list[Row], data: st.DataObject) -> None:
    scores = scores_of(rows, "judge", as_published=False)
    values = [value for row in rows for value in row.marks["score"] if value is not None]
    assert scores["n_scored"] + sum(scores["unscored"].values()) == scores["n"] == len(rows)
    if scores["score"] is not None:
        assert scores["score_unrounded"] == pytest.approx(sum(values) / len(values), abs=1e-12)
        assert abs(scores["score"] - scores["score_unrounded"]) <= 0.0005 + 1e-12
        assert 0 <= scores["score"] <= 1 + 1e-12
    shuffled = scores_of(data.draw(st.permutations(rows)), "judge", as_published=False)
    for name in ("score", "free_form", "multiple_choice"):
        assert shuffled[name] == pytest.approx(scores[name], abs=1e-9)
    assert shuffled["unscored"] == scores["unscored"]


def test_the_marks_say_where_the_rule_found_no_option() -> None:
    found = MIXEVAL.mark(answered(choice_row(), "B"), header(RULE))
    none = MIXEVAL.mark(answered(choice_row(), "No idea at all."), header(RULE))
    assert (found.marks, none.marks) == ({"score": (1.0,), "no_option": (0.0,)}, {"score": (0.0,), "no_option": (1.0,)})
    assert MIXEVAL.mark(answered(free_row(), "Mercury"), header(RULE)).marks == {"score": (1.0,)}


def test_a_verdict_of_a_file_is_believed_only_as_published() -> None:
    drawn = Verdict(unscored=Unscored("no_option", "none of them"), recorded="B")
    row = answered(choice_row(), "x", drawn)
    assert MIXEVAL.mark(row, header(JUDGE)).unscored == (Unscored("no_option", "none of them"),)
    published = header(JUDGE.model_copy(update={"as_published": True}))
    assert MIXEVAL.mark(row, published).marks == {"score": (1.0,)}
