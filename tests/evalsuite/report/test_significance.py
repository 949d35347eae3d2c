"""Is the best really better: paired differences, Student's t and clear winners."""

from __future__ import annotations

import math
import re
from statistics import NormalDist

import numpy as np
import pytest

from evalsuite.report.page import template_folder
from evalsuite.report.significance import Marks, column_tests
from evalsuite.suites.figures import Figure
from judges.paired import ALPHA, paired_difference, paired_differences, stars
from judges.statistics import quantile


def star(figures: dict[int, Figure], marks: Marks, prefix: str) -> int | None:
    """The star of a column that stands alone."""
    return stars({"c": column_tests(figures, marks, {}, prefix).best}, ["c"]).get("c")


@pytest.mark.parametrize(("n", "clear"), [(2, False), (5, False), (6, True)])
def test_the_same_difference_on_all_items_is_clear_by_the_sign_test(n: int, clear: bool) -> None:
    """n wins of n have the two-sided p-value 2 / 2^n: 0.0625 for five, 0.03125 for six."""
    good, bad = np.full(n, 0.7), np.full(n, 0.6)
    figures = {0: Figure(0.7, 0.0, n=n), 1: Figure(0.6, 0.0, n=n)}
    assert star(figures, {"mt_bench": {0: good, 1: bad}}, "mt_bench") == (0 if clear else None)


def test_a_few_items_need_a_larger_difference() -> None:
    """Mean 1 and standard error 0.333 over 3 items: t is 3, beyond 1.96 but not beyond 4.303."""
    marks = {"mt_bench": {0: np.array([3.0, 4.0, 4.0]), 1: np.array([2.0, 3.0, 3.0])}}
    marks["mt_bench"][0] += np.array([0.57735, -0.57735, 0.0])
    difference = paired_difference(marks["mt_bench"][0], marks["mt_bench"][1])
    assert difference is not None
    assert difference.value / difference.stderr == pytest.approx(3.0, abs=1e-4)
    assert difference.p_value >= ALPHA


def test_two_figures_without_spread_claim_nothing() -> None:
    assert star({0: Figure(1.0, 0.0, n=2), 1: Figure(0.0, 0.0, n=2)}, {}, "") is None
    # Two of two right: Wilson's interval is [0.34, 1], which does not tell it from 0.3.
    few = Figure(1.0, 0.0, (0.342, 1.0), n=2)
    assert star({0: few, 1: Figure(0.3, 0.02, n=500)}, {}, "") is None


def test_the_page_has_the_quantiles_of_students_t() -> None:
    script = (template_folder() / "statistics.js").read_text(encoding="utf-8")
    found = re.search(r"const T95 = \[([^\]]*)\]", script)
    assert found is not None
    table = [float(number) for number in found[1].split(",")]
    # Published: Fisher and Yates, Statistical Tables, P = 0.05.
    assert [round(table[df - 1], 3) for df in (1, 2, 5, 10, 20)] == [12.706, 4.303, 2.571, 2.228, 2.086]
    assert table == pytest.approx([quantile(0.975, df) for df in range(1, len(table) + 1)], abs=1e-6)


@pytest.mark.parametrize(("stderr", "winner"), [(0.01, 0), (0.08, None)])
def test_best_is_marked_only_where_it_is_clear(stderr: float, winner: int | None) -> None:
    figures = {0: Figure(0.6, stderr), 1: Figure(0.5, stderr), 2: Figure(0.1, stderr)}
    assert star(figures, {}, "") == winner


def test_items_decide_where_they_are_there() -> None:
    figures = {0: Figure(0.6, 0.3), 1: Figure(0.5, 0.3)}
    marks = {"mixeval/free_form": {0: np.tile([1.0, 1.0, 0.0], 30), 1: np.tile([0.9, 0.9, 0.0], 30)}}
    assert star(figures, marks, "mixeval/") == 0
    assert star(figures, {}, "mixeval/") is None


def test_a_star_has_to_beat_every_other_model_not_the_runner_up_alone() -> None:
    """The runner-up is measured well; the third, noisily, may be as good as the best."""
    figures = {0: Figure(0.60, 0.01), 1: Figure(0.50, 0.01), 2: Figure(0.49, 0.10)}
    tests = column_tests(figures, {}, {}, "")
    assert tests.best is not None
    # The largest of the p-values: z = 0.11 / hypot(0.01, 0.1).
    assert tests.best == (0, pytest.approx(2 * (1 - NormalDist().cdf(0.11 / math.hypot(0.01, 0.1)))))
    assert star(figures, {}, "") is None
    assert star({0: figures[0], 1: figures[1]}, {}, "") == 0


def test_items_of_one_context_are_one_observation() -> None:
    """Four copies of each of 12 marks say no more than the 12 marks."""
    rng = np.random.default_rng(0)
    single = rng.normal(0.3, 0.5, 12), rng.normal(0, 0.5, 12)
    copied = tuple(np.repeat(marks, 4) for marks in single)
    contexts = np.repeat(np.arange(12), 4)
    plain = paired_differences(np.stack(single))[0, 1]
    clustered = paired_differences(np.stack(copied), contexts)[0, 1]
    naive = paired_differences(np.stack(copied))[0, 1]
    assert plain is not None
    assert clustered is not None
    assert naive is not None
    assert clustered.df == plain.df == 11
    assert clustered.stderr == pytest.approx(plain.stderr, rel=0.05)
    assert naive.stderr < 0.6 * clustered.stderr


@pytest.mark.parametrize("shared", [1, 3])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_all_pairs_at_once_are_the_pairs_one_by_one(shared: int, missing: float) -> None:
    rng = np.random.default_rng(1)
    marks = rng.integers(0, 2, (6, 90)).astype(float)
    marks[1] = marks[0]
    marks[2] = 1 - marks[2] * (marks[3] > 2)
    marks[rng.random(marks.shape) < missing] = np.nan
    clusters = np.arange(90) // shared
    for (a, b), found in paired_differences(marks, clusters).items():
        alone = paired_difference(marks[a], marks[b], clusters.tolist())
        if alone is None or found is None:
            assert alone is found
        else:
            assert (found.n, found.df) == (alone.n, alone.df)
            assert (found.value, found.stderr) == pytest.approx((alone.value, alone.stderr), abs=1e-9)


def test_a_column_says_what_it_could_have_shown() -> None:
    """Two models with 0.03 and 0.04 of standard error: (1.96 + 0.842) times 0.05."""
    tests = column_tests({0: Figure(0.6, 0.03), 1: Figure(0.5, 0.04)}, {}, {}, "")
    assert tests.detectable == pytest.approx(2.8016 * 0.05, abs=1e-4)
    assert column_tests({0: Figure(0.6)}, {}, {}, "").detectable is None


def test_a_tie_and_a_single_model_have_no_winner() -> None:
    assert star({0: Figure(0.5, 0.0), 1: Figure(0.5, 0.0)}, {}, "") is None
    assert star({0: Figure(0.5, 0.0)}, {}, "") is None
