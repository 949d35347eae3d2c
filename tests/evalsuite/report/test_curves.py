"""A training run as a curve: which models are on it, in which order, and the best against the last."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from evalsuite.records.rows import Draw, Reply, Row, Verdict
from evalsuite.report.build import build_report, read_contents
from evalsuite.report.curves import Curve, curve_charts, curve_rows, curves_of
from judges.types import Message
from tests.evalsuite.report_results import JUDGE_KEY, mt_bench_scores, write_model, write_rows

RATINGS = {10: 4, 200: 8, 1000: 6}


def at(step: int, run: str = "out", run_id: str = "0" * 8) -> dict[str, object]:
    rates = {"tokens": 1000 * step, "learning_rate": 1e-5, "loss": 1.0, "epoch": 0.1, "max_steps": 1000}
    return {"run": run, "run_id": run_id, "step": step, **rates}


def ratings_of(step: int, n: int) -> list[int]:
    rng = random.Random(step)
    return [RATINGS[step] + rng.choice((-1, 0, 1)) for _ in range(n)]


def write_run(results: Path, steps: list[int], n: int = 40, **of_run: str) -> None:
    for step in steps:
        ratings = ratings_of(step, n)
        figures = {"mt_bench": mt_bench_scores(sum(ratings) / n)}
        folder = write_model(results, f"checkpoint-{step}", figures, training_step=at(step, **of_run))
        rows = [
            Row(
                str(item),
                prompt=(Message("user", f"Question {item}?"),),
                facts={"category": "writing"},
                draws=(Draw((Reply("An answer."),)),),
                verdicts=(Verdict(JUDGE_KEY, float(rating), 1, text="Well."),),
            )
            for item, rating in enumerate(ratings)
        ]
        write_rows(folder, "mt_bench", rows)


def curves(results: Path) -> list[Curve]:
    return [curve for curve in curves_of(read_contents(results)[0]) if curve.column.key == "mt_bench"]


def test_points_are_in_the_order_of_steps_and_the_best_is_compared_with_the_last(tmp_path):
    write_run(tmp_path, [1000, 10, 200])
    [curve] = curves(tmp_path)
    assert [point.step for point in curve.points] == [10, 200, 1000]
    assert curve.best.step == 200
    test = curve.best.against_last
    first, last = ratings_of(200, 40), ratings_of(1000, 40)
    assert test.difference.value == pytest.approx(sum(first) / 40 - sum(last) / 40)
    assert ttest_rel(first, last).pvalue <= test.p_value < 0.001, "corrected, and still far from chance"
    assert test.ci95[0] < ttest_rel(first, last).confidence_interval().low
    assert "Best at step 200" in curve.verdict
    assert "corrected for the choice among 2" in curve.verdict
    assert curve.points[-1].against_last is None
    head = [row[:3] for row in curve_rows(curve)]
    assert head == [["10", "10,000", "1e-05"], ["200", "200,000", "1e-05"], ["1,000", "1,000,000", "1e-05"]]


def test_two_runs_of_one_name_are_two_curves_and_a_single_checkpoint_is_none(tmp_path):
    write_run(tmp_path, [10, 200])
    write_run(tmp_path, [10, 1000], run_id="1" * 8)
    write_run(tmp_path, [200], run="alone")
    found = curves(tmp_path)
    assert [[point.step for point in curve.points] for curve in found] == [[10, 200], [10, 1000]]
    assert found[0].verdict.startswith("The last checkpoint, step 200, is the best")
    last = found[0].points[-1]
    level = Curve("out", found[0].column, [last, last])
    assert level.verdict == f"No checkpoint is better than the last, step 200: {last.value:.2f}."


def test_the_report_draws_a_chart_per_run_on_a_linear_axis(tmp_path):
    write_run(tmp_path, [10, 200, 1000])
    html = build_report(tmp_path).html.read_text()
    assert "Training run out" in html
    assert "against the training step" in html
    assert ">step</text>" in html
    [(title, [chart])] = curve_charts(curves(tmp_path))
    assert title == "Training run out"
    assert [row[0] for row in chart.rows] == ["10", "200", "1,000"]
    xs = [float(pair.split(",")[0]) for pair in str(chart.drawing).split('points="')[1].split('"')[0].split()]
    assert (xs[1] - xs[0]) / (xs[2] - xs[0]) == pytest.approx(190 / 990, abs=0.01)
