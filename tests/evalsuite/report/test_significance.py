"""Is the best really better: paired differences, Student's t and clear winners."""

from __future__ import annotations

import re

import numpy as np
import pytest

from evalsuite.report.page import template_folder
from evalsuite.report.significance import clear_best, paired_difference, t95
from evalsuite.suites.figures import Figure


def test_paired_difference_is_the_textbook_one() -> None:
    a, b = np.array([1.0, 0.0, 1.0, np.nan]), np.array([0.0, 0.0, 0.0, 1.0])
    difference = paired_difference(a, b)
    assert difference is not None
    # Differences 1, 0, 1: mean 2/3, sample variance 1/3, standard error sqrt(1/9).
    assert difference.value == pytest.approx(2 / 3)
    assert difference.stderr == pytest.approx(1 / 3)
    assert difference.n == 3
    assert not difference.significant  # 0.667 < 4.303 * 0.333, Student's t with 2 degrees of freedom
    swapped = paired_difference(b, a)
    assert swapped is not None
    assert swapped.value == -difference.value


def test_fewer_than_two_common_items_say_nothing() -> None:
    assert paired_difference(np.array([1.0, np.nan]), np.array([0.0, 1.0])) is None


@pytest.mark.parametrize(("n", "clear"), [(2, False), (5, False), (6, True)])
def test_the_same_difference_on_all_items_is_clear_by_the_sign_test(n: int, clear: bool) -> None:
    """n wins of n have the two-sided p-value 2 / 2^n: 0.0625 for five, 0.03125 for six."""
    good, bad = np.full(n, 0.7), np.full(n, 0.6)
    figures = {0: Figure(0.7, 0.0, n=n), 1: Figure(0.6, 0.0, n=n)}
    assert clear_best(figures, {"mt_bench": {0: good, 1: bad}}, "mt_bench") == (0 if clear else None)


def test_a_few_items_need_a_larger_difference() -> None:
    """Mean 1 and standard error 0.333 over 3 items: t is 3, beyond 1.96 but not beyond 4.303."""
    marks = {"mt_bench": {0: np.array([3.0, 4.0, 4.0]), 1: np.array([2.0, 3.0, 3.0])}}
    marks["mt_bench"][0] += np.array([0.57735, -0.57735, 0.0])
    difference = paired_difference(marks["mt_bench"][0], marks["mt_bench"][1])
    assert difference is not None
    assert difference.value / difference.stderr == pytest.approx(3.0, abs=1e-4)
    assert not difference.significant


def test_two_figures_without_spread_claim_nothing() -> None:
    assert clear_best({0: Figure(1.0, 0.0, n=2), 1: Figure(0.0, 0.0, n=2)}, {}, "") is None
    # Two of two right: Wilson's interval is [0.34, 1], which does not tell it from 0.3.
    few = Figure(1.0, 0.0, (0.342, 1.0), n=2)
    assert clear_best({0: few, 1: Figure(0.3, 0.02, n=500)}, {}, "") is None


def test_the_page_has_the_quantiles_of_students_t() -> None:
    script = (template_folder() / "data.js").read_text(encoding="utf-8")
    found = re.search(r"const T95 = \[([^\]]*)\]", script)
    assert found is not None
    table = [float(number) for number in found[1].split(",")]
    # Published: Fisher and Yates, Statistical Tables, P = 0.05.
    assert [round(table[df - 1], 3) for df in (1, 2, 5, 10, 20)] == [12.706, 4.303, 2.571, 2.228, 2.086]
    assert table == pytest.approx([t95(df) for df in range(1, len(table) + 1)], abs=1e-6)


@pytest.mark.parametrize(("stderr", "winner"), [(0.01, 0), (0.08, None)])
def test_best_is_marked_only_where_it_is_clear(stderr: float, winner: int | None) -> None:
    figures = {0: Figure(0.6, stderr), 1: Figure(0.5, stderr), 2: Figure(0.1, stderr)}
    assert clear_best(figures, {}, "") == winner


def test_items_decide_where_they_are_there() -> None:
    figures = {0: Figure(0.6, 0.3), 1: Figure(0.5, 0.3)}
    marks = {"mixeval/free_form": {0: np.tile([1.0, 1.0, 0.0], 30), 1: np.tile([0.9, 0.9, 0.0], 30)}}
    assert clear_best(figures, marks, "mixeval/") == 0
    assert clear_best(figures, {}, "mixeval/") is None


def test_a_tie_and_a_single_model_have_no_winner() -> None:
    assert clear_best({0: Figure(0.5, 0.0), 1: Figure(0.5, 0.0)}, {}, "") is None
    assert clear_best({0: Figure(0.5, 0.0)}, {}, "") is None
