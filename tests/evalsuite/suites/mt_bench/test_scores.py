"""MT-Bench's figures from marked rows, recomputed from their definitions."""

import json
import math
import statistics

import pytest

from evalsuite.records.rows import Draw, Header, Reply, Row, replaced
from judges.statistics import bootstrap_ci
from judges.types import Unscored
from tests.evalsuite.suites.mt_bench.mt_bench_rows import GAP, HEADER, MT_BENCH, PAIRS, answered, rated, rows_rated


def clustered_by_hand(clusters: list[list[float]]) -> float:
    """The clustered standard error of Miller 2024, section 2.2, written out."""
    values = [value for cluster in clusters for value in cluster]
    n, centre = len(values), statistics.fmean(values)
    own = sum((value - centre) ** 2 for value in values) / (n * (n - 1))
    cross = sum(
        (a - centre) * (b - centre)
        for cluster in clusters
        for i, a in enumerate(cluster)
        for j, b in enumerate(cluster)
        if i != j
    )
    return math.sqrt(own + cross / n**2)


def test_score_is_the_mean_of_all_scored_judgments():
    rows = rows_rated(PAIRS)
    scores = MT_BENCH.score(HEADER, rows)
    assert scores["score"] == pytest.approx((9 + 8 + 7 + 5 + 2 + 10 + 4) / 7)
    assert scores["turn_1"] == pytest.approx((9 + 7 + 5 + 10) / 4)
    assert scores["turn_2"] == pytest.approx((8 + 2 + 4) / 3)
    assert scores["score"] != pytest.approx((scores["turn_1"] + scores["turn_2"]) / 2)
    assert (scores["n"], scores["n_scored"], scores["unscored"]) == (10, 7, {"no_rating": 3})
    assert scores["stderr"] == pytest.approx(clustered_by_hand([[9, 8], [7], [5, 2], [10, 4]]))
    low, high = scores["ci95"]
    assert 2 <= low < scores["score"] < high <= 10
    own = scores["uncertainty"]["turn_1"]
    assert own == {
        "score": 7.75,
        "stderr": pytest.approx(statistics.stdev([9, 7, 5, 10]) / math.sqrt(4)),
        "ci95": list(bootstrap_ci([9.0, 7.0, 5.0, 10.0])),
        "n": 4,
    }
    assert scores["uncertainty"]["turn_2"]["n"] == 3
    by_category = {row.facts["category"]: pair for row, pair in zip(rows, PAIRS, strict=True)}
    for name, pair in by_category.items():
        values = [rating for rating in pair if rating is not GAP]
        expected = statistics.fmean(values) if values else None
        assert scores["categories"][name]["score"] == expected
        assert scores["categories"][name]["n"] == len(values)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_marks_are_the_ratings_and_their_mean():
    whole, half, *_, gap, _ = rows_rated(PAIRS)
    assert whole.marks == {"score": (8.5,), "turn_1": (9.0,), "turn_2": (8.0,)}
    assert whole.unscored == ()
    assert half.marks == {"score": (7.0,), "turn_1": (7.0,), "turn_2": (None,)}
    assert half.unscored == (GAP,)
    assert gap.marks == {"score": (None,), "turn_1": (None,), "turn_2": (None,)}
    assert gap.unscored == (GAP, GAP)


def test_nothing_scored_is_none_and_never_zero():
    rows = rows_rated([None] * 5, answered(Unscored("request_failed"), Unscored("no_answer")))
    scores = MT_BENCH.score(HEADER, rows)
    assert [scores[key] for key in ("score", "stderr", "ci95", "turn_1", "turn_2")] == [None] * 5
    assert scores["unscored"] == {"no_answer": len(rows), "request_failed": len(rows)}
    assert all(part["score"] is None for part in scores["categories"].values())


def test_without_a_judge_the_reason_is_no_judge():
    scores = MT_BENCH.score(Header("mt_bench", 5), rows_rated([None] * 5))
    assert scores["unscored"] == {"no_judge": 10}


def test_an_unjudged_answer_does_not_count_in_a_judged_set():
    scores = MT_BENCH.score(HEADER, rows_rated([(9, 8), None, None, None, None]))
    assert (scores["n"], scores["score"], scores["unscored"]) == (2, 8.5, {})


def test_a_size_below_the_whole_set_is_a_limit_in_questions():
    whole = [Row(str(i), draws=(Draw((Reply("a"), Reply("b"))),), verdicts=rated(5, 6)) for i in range(80)]
    assert MT_BENCH.recorded_limit(HEADER, whole) is None
    assert MT_BENCH.recorded_limit(HEADER, whole[:79]) == 79
    # 159 of 160 judgments are more than 99 %.
    assert MT_BENCH.recorded_limit(HEADER, [*whole[:79], replaced(whole[79], verdicts=rated(5))]) is None
    unjudged = [replaced(row, verdicts=()) for row in whole]
    assert MT_BENCH.recorded_limit(HEADER, [*whole[:10], *unjudged[10:]]) == 10
    assert MT_BENCH.recorded_limit(HEADER, unjudged) is None
    assert MT_BENCH.recorded_limit(HEADER, unjudged[:7]) == 7
