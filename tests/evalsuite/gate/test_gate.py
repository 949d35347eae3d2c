"""A candidate against a baseline: exit codes, sentences, JUnit, and how often it errs, by simulation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from judges.paired import Difference, one_sided, paired_difference
from judges.statistics import holm_correction
from tests.evalsuite.report_results import JUDGE, mixeval_scores, mt_bench_scores, write_free_form, write_model


def model(results: Path, name: str, marks: list[float | None], **more: Any) -> Path:
    """Write one model with these marks on MixEval's items."""
    scored = [mark for mark in marks if mark is not None]
    folder = write_model(results, name, {"mixeval": mixeval_scores(sum(scored) / len(scored), n=len(scored)), **more})
    write_free_form(folder, [(str(i), f"answer {i}", mark) for i, mark in enumerate(marks)])
    return folder


def run(results: Path, baseline: str, candidate: str, *options: str, code: int) -> Any:
    words = ["gate", baseline, candidate, "--results", str(results), *options]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == code, done.output
    return done.stderr if code == 2 else (json.loads(done.stdout), done.stderr)


HALF = [1.0, 0.0] * 50
FELL = [0.0 if i % 5 == 0 else mark for i, mark in enumerate(HALF)]
"""Ten of the fifty right answers are wrong now."""


def test_the_same_answers_hold(tmp_path: Path) -> None:
    model(tmp_path, "base", HALF), model(tmp_path, "new", HALF)
    document, stderr = run(tmp_path, "base", "new", code=0)
    assert document["holds"] is True
    assert stderr == ""
    [test] = document["tests"]
    assert (test["difference"], test["n"], test["p_value"]) == (0, 100, 0.5)


def test_two_runs_of_one_model_are_two_columns(tmp_path: Path) -> None:
    old, new = model(tmp_path / "old", "m", HALF), model(tmp_path / "new", "m", FELL)
    done = CliRunner().invoke(app, ["--format", "csv", "gate", str(old), str(new)])
    head, row = done.stdout.splitlines()[:2]
    assert head.split(",")[:4] == ["figure", "m (baseline)", "m (candidate)", "change"]
    assert row.split(",")[:4] == ["MixEval", "0.5", "0.4", "-0.1"]


def test_a_figure_that_fell_beyond_noise_is_named(tmp_path: Path) -> None:
    base, new = model(tmp_path, "base", HALF), model(tmp_path, "new", FELL)
    junit = tmp_path / "gate.xml"
    document, stderr = run(tmp_path, str(base), new.name, "--junit", str(junit), code=1)
    assert document["holds"] is False
    # Differences: -1 ten times, 0 ninety times; the standard error is sqrt(0.09 / 99).
    assert document["tests"][0]["difference"] == pytest.approx(-0.1)
    assert document["tests"][0]["ci95"][1] == pytest.approx(-0.1 + 1.984 * math.sqrt(0.09 / 99), abs=1e-4)
    assert "MixEval fell by 0.100 (0.500 to 0.400, 95 % interval -0.160 to -0.040, 100 items, p = 0.00064)" in stderr
    suite = ElementTree.fromstring(junit.read_text(encoding="utf-8"))[0]
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "fell by 0.100" in str(failure.get("message"))
    # The p-value of a fall far beyond noise is small, not 0 by cancellation.
    model(tmp_path, "worse", [0.0 if i % 50 else mark for i, mark in enumerate(HALF)])
    document, _ = run(tmp_path, base.name, "worse", code=1)
    assert 0 < document["tests"][0]["p_value"] < 1e-12
    # The other way round it rose.
    document, _ = run(tmp_path, new.name, base.name, "--junit", str(junit), code=0)
    assert "did not fall beyond noise" in junit.read_text(encoding="utf-8")


def test_a_margin_asks_for_proof(tmp_path: Path) -> None:
    """Two discordant items each way in 100: the standard error is 0.02, and 5 % of one side 0.033."""
    noisy = [1 - mark if i in (0, 1, 2, 3) else mark for i, mark in enumerate(HALF)]
    model(tmp_path, "base", HALF), model(tmp_path, "new", noisy)
    document, _ = run(tmp_path, "base", "new", "--non-inferior", "0.04", code=0)
    assert document["tests"][0]["margin"] == 0.04
    _, stderr = run(tmp_path, "base", "new", "--non-inferior", "0.03", code=1)
    assert "MixEval: not shown to have fallen by less than 0.03" in stderr


def test_a_margin_is_a_fraction_of_the_columns_range(tmp_path: Path) -> None:
    """MT-Bench goes from 1 to 10: 0.02 of it is 0.18."""
    for name in ("base", "new"):
        write_model(tmp_path, name, {"mt_bench": mt_bench_scores(7.0, stderr=0.01)})
    document, _ = run(tmp_path, "base", "new", "--non-inferior", "0.02", code=0)
    assert document["tests"][0]["margin"] == pytest.approx(0.18)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"data": "mini"}, "data full, no limit against data mini, no limit"),
        ({"limit": 5}, "no limit against data full, limit 5"),
        ({"judge": {**JUDGE, "name": "other", "fingerprint": "e" * 64}}, "judge judge-x against other"),
        ({"options": {"mixeval_version": "2024-08-11"}}, "against mixeval version 2024-08-11"),
        ({"options": {"mixeval_version": "2024-06-01", "sample": 9}}, "mixeval a sample of 9 items, seed 0"),
        ({"pins": {"mixeval/x": "b"}}, "different versions of the benchmark data"),
    ],
)
def test_what_cannot_be_compared_is_exit_2(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    options = {"options": {"mixeval_version": "2024-06-01"}, "pins": {"mixeval/x": "a"}}
    write_model(tmp_path, "base", {"mixeval": mixeval_scores(0.5)}, **options)
    write_model(tmp_path, "new", {"mixeval": mixeval_scores(0.5)}, **{**options, **more})
    stderr = run(tmp_path, "base", "new", code=2)
    assert message in stderr
    assert stderr.count("\n") == 1


def test_a_candidate_that_lacks_figures_or_items_is_exit_2(tmp_path: Path) -> None:
    model(tmp_path, "base", HALF, mt_bench=mt_bench_scores(7.0))
    model(tmp_path, "new", HALF)
    assert "new has no figure of MT-Bench (mt_bench was not run), which base has" in run(
        tmp_path, "base", "new", code=2
    )
    few = [mark if i >= 20 else None for i, mark in enumerate(HALF)]
    model(tmp_path, "few", few)
    assert "scored on 80 of the baseline's 100 items" in run(tmp_path, "new", "few", code=2)
    assert "unknown model 'fewe'; did you mean 'few'" in run(tmp_path, "new", "fewe", code=2)
    variant = next(tmp_path.glob("few-*")).with_name("few-0123abcd~answer-256")
    next(tmp_path.glob("few-*")).rename(variant)
    assert f"did you mean {variant.name!r}" in run(tmp_path, "new", "few~answer-256", code=2)
    damaged = next(tmp_path.glob("new-*")) / "scores.json"
    damaged.write_text(damaged.read_text()[:50])
    stderr = run(tmp_path, "base", "new", code=2)
    assert f"{damaged} is not JSON" in stderr
    assert "run the model again with --fresh" in stderr


def test_one_sided_p_values_are_half_the_two_sided_ones() -> None:
    difference = Difference(0.3, 0.1, 50, 49)
    assert one_sided(difference) == pytest.approx(difference.p_value / 2)
    assert one_sided(difference, 0.3) == pytest.approx(0.5)
    assert one_sided(Difference(-1.0, 0.0, 5, 4)) == pytest.approx(1 - 0.5**5)


@pytest.mark.parametrize(("margin", "truth", "most"), [(None, 0.0, 0.06), (0.05, -0.05, 0.06)])
def test_it_errs_in_at_most_six_percent(margin: float | None, truth: float, most: float) -> None:
    """Without a margin: equal models fall. With one: models that fell by all of it pass."""
    rng = np.random.default_rng(3)
    n_items, n_columns, n_studies = 200, 5, 800
    errors = 0
    for _ in range(n_studies):
        differences = [paired_difference(rng.normal(truth, 0.5, n_items), np.zeros(n_items)) for _ in range(n_columns)]
        raw = [one_sided(one, -(margin or 0.0)) for one in differences if one is not None]
        if margin is None:
            errors += any(p < 0.05 for p in holm_correction([1 - p for p in raw]))
        else:
            errors += raw[0] < 0.05
    assert errors / n_studies <= most
    assert errors / n_studies >= 0.02, "or the level is not used"
