"""What a difference needs: by definition, by simulation, and from the variances of earlier results."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from judges.paired import ALPHA, needed_items, paired_difference
from judges.statistics import quantile
from tests.evalsuite.report_results import mixeval_scores, write_free_form, write_model


def run(tmp_path: Path, *options: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["plan", *options, "--results", str(tmp_path / "results"), "--json"])
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_without_results_the_variance_is_the_largest_there_can_be(tmp_path: Path) -> None:
    [figure] = run(tmp_path, "--suite", "mt_bench", "--effect", "0.1")["figures"]
    # Ratings from 1 to 10: a tenth of the range is 0.9, the variance a quarter of 81.
    assert figure["effect"] == pytest.approx(0.9)
    assert figure["variance"] == pytest.approx(81 / 4)
    # The textbook's n = (1.96 + 0.842)^2 variance / effect^2, a little more by Student's t.
    assert figure["items"] == pytest.approx(7.849 * 0.25 / 0.01, rel=0.02)
    assert figure["items"] > 7.849 * 0.25 / 0.01
    assert (figure["available"], figure["reachable"], figure["source"]) == (80, False, "upper bound")
    # All 80 questions, two turns, two models, each judged.
    assert (figure["answer_calls"], figure["judge_calls"]) == (320, 320)
    assert figure["detectable"] == pytest.approx(2.84 * math.sqrt(81 / 4 / 80), rel=0.01)


def test_variances_and_tokens_are_those_of_the_results(tmp_path: Path) -> None:
    """Two models that differ on 8 of 100 items, four each way: the difference varies by 8 / 99."""
    marks = [1.0, 0.0] * 50
    for name, changed in (("a", {0, 2, 4, 6, 1, 3, 5, 7}), ("b", set())):
        own = [1 - mark if i in changed else mark for i, mark in enumerate(marks)]
        folder = write_model(tmp_path / "results", name, {"mixeval": mixeval_scores(0.5)})
        write_free_form(folder, [(str(i), "x", mark) for i, mark in enumerate(own)])
    [figure] = run(tmp_path, "--suite", "mixeval", "--effect", "0.05")["figures"]
    assert figure["source"].startswith("1 pair in ")
    assert figure["variance"] == pytest.approx(8 / 99, rel=1e-6)
    assert figure["items"] == needed_items(0.05, 8 / 99)
    assert figure["reachable"] is True
    assert figure["answer_calls"] == 2 * figure["items"]


def test_more_models_need_more_items_and_parts_are_chosen(tmp_path: Path) -> None:
    two, five = (
        run(tmp_path, "--suite", "openllm:ifeval", "--models", n, "--effect", "0.1")["figures"] for n in ("2", "5")
    )
    assert [figure["figure"] for figure in two] == ["IFEval"]
    assert two[0]["available"] == 541
    assert five[0]["items"] > 1.4 * two[0]["items"]


def test_the_table_says_where_more_is_needed_than_there_is(tmp_path: Path) -> None:
    words = ["plan", "--suite", "mt_bench", "--effect", "0.02", "--results", str(tmp_path / "results")]
    done = CliRunner().invoke(app, words, env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert "MT-Bench: more items needed than available" in done.stdout


def test_needed_items_find_the_effect_as_often_as_wanted() -> None:
    """By simulation: marks that are right or wrong, correlated, with the planned number of items."""
    rng = np.random.default_rng(0)
    # One model is right on 0.6 of the items; the other is right on 0.1 more of all, and differs on 0.3.
    gains, losses = 0.2, 0.1
    variance = gains + losses - (gains - losses) ** 2
    n = needed_items(gains - losses, variance)
    found = 0
    for _ in range(1500):
        drawn = rng.choice([1.0, -1.0, 0.0], size=n, p=[gains, losses, 1 - gains - losses])
        difference = paired_difference(drawn, np.zeros(n))
        found += difference is not None and difference.p_value < ALPHA
    assert found / 1500 == pytest.approx(0.8, abs=0.03)
    assert needed_items(0.1, 0.0) == 2
    assert quantile(0.8, None) == pytest.approx(0.8416, abs=1e-4)


def test_doctor_says_what_difference_the_items_show(tmp_path: Path) -> None:
    words = ["doctor", "--suite", "mixeval", "--sample", "400", "--results", str(tmp_path), "--json"]
    found = json.loads(CliRunner().invoke(app, words).stdout)["findings"]
    [power] = [one for one in found if one["check"] == "power"]
    # The bound on the variance is 0.25: (1.966 + 0.8426) times its root over 400 items.
    assert power["message"].startswith("400 items show a difference of 0.07 between two models with 80 % power")
    assert "would show 0.02" in power["message"]
