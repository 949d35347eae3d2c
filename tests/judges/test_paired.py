"""Paired tests, stars that survive correction, and ranks: by definition, by published numbers and by simulation."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from judges.paired import (
    ALPHA,
    Difference,
    best_of,
    detectable_effect,
    p_values,
    paired_difference,
    rank_intervals,
    stars,
)
from judges.statistics import quantile


def test_paired_difference_is_the_textbook_one() -> None:
    a, b = np.array([1.0, 0.0, 1.0, np.nan]), np.array([0.0, 0.0, 0.0, 1.0])
    difference = paired_difference(a, b)
    assert difference is not None
    # Differences 1, 0, 1: mean 2/3, sample variance 1/3, standard error sqrt(1/9).
    assert difference.value == pytest.approx(2 / 3)
    assert difference.stderr == pytest.approx(1 / 3)
    assert difference.n == 3
    # t = 2 with 2 degrees of freedom: P = 1 - 2 / sqrt(2 + 4), the closed form for two degrees.
    assert difference.p_value == pytest.approx(1 - 2 / math.sqrt(6))
    assert difference.p_value >= ALPHA
    swapped = paired_difference(b, a)
    assert swapped is not None
    assert (swapped.value, swapped.p_value) == (-difference.value, difference.p_value)


def test_fewer_than_two_common_items_or_clusters_say_nothing() -> None:
    assert paired_difference(np.array([1.0, np.nan]), np.array([0.0, 1.0])) is None
    assert paired_difference(np.array([1.0, 0.0]), np.array([0.0, 1.0]), ["same", "same"]) is None


def test_the_p_value_and_the_interval_agree() -> None:
    for t in (2.2, 2.3):
        difference = Difference(t, 1.0, 11, 10)
        assert difference.ci95 is not None
        assert (difference.ci95[0] > 0) == (difference.p_value < ALPHA)
    assert Difference(2.228, 1.0, 11, 10).p_value == pytest.approx(0.05, abs=1e-4)


def test_the_detectable_effect_is_found_four_times_in_five() -> None:
    """By simulation: paired differences whose true mean is the detectable effect of a study of their size."""
    rng = np.random.default_rng(0)
    n, spread = 60, 0.4
    effect = detectable_effect(spread / math.sqrt(n), n - 1)
    found = 0
    for _ in range(2000):
        difference = paired_difference(rng.normal(effect, spread, n), np.zeros(n))
        assert difference is not None
        found += difference.p_value < ALPHA
    assert found / 2000 == pytest.approx(0.8, abs=0.025)
    # 2.8 standard errors, the rule of Bloom 1995.
    assert detectable_effect(1.0, None) == pytest.approx(2.80, abs=0.005)


def test_the_largest_p_value_is_the_whole_ones() -> None:
    values = {0: 0.5, 1: 0.7, 2: 0.6}
    assert best_of(values, {(0, 1): 0.001, (1, 2): 0.04, (0, 2): 0.9}) == (1, 0.04)
    assert best_of(values, {(0, 1): 0.001}) == (1, 1.0), "a comparison that cannot be made"
    assert best_of({0: 0.7, 1: 0.7}, {(0, 1): 0.01}) == (0, 1.0)
    assert best_of({0: 0.7}, {}) is None


def test_stars_are_corrected_over_the_columns_shown() -> None:
    columns = {"a": (0, 0.02), "b": (1, 0.03), "c": (0, 0.001), "alone": None}
    assert stars(columns, ["a"]) == {"a": 0, "b": 1, "c": 0}, "a alone; the others over all three"
    assert stars({**columns, "b": (1, 0.06)}, ["a"]) == {"a": 0, "c": 0}
    # Holm: 0.001 * 3, 0.02 * 2, 0.03.
    assert stars(columns, columns) == {"a": 0, "b": 1, "c": 0}
    assert stars({**columns, "a": (0, 0.026)}, columns) == {"c": 0}


def test_ranks_are_what_the_tests_leave_open() -> None:
    values = {0: 0.9, 1: 0.7, 2: 0.69, 3: 0.2}
    sure = dict.fromkeys([(0, 1), (0, 2), (0, 3), (1, 3), (2, 3)], 1e-6)
    assert rank_intervals(values, {**sure, (1, 2): 0.5}) == {0: (1, 1), 1: (2, 3), 2: (2, 3), 3: (4, 4)}
    assert rank_intervals(values, {}) == dict.fromkeys(values, (1, 4))
    assert rank_intervals({5: 0.1}, {}) == {5: (1, 1)}


def studies(n_studies: int, truth: list[float], n_items: int = 80, n_columns: int = 6) -> tuple[float, ...]:
    """Simulate leaderboards of binary items; ``truth`` has each model's rate in every column.

    Returns the share of studies with any star that is false, by our stars and by the uncorrected star (best against
    runner-up alone), and the shares of columns with a star for the first model, by ours and by the uncorrected star.
    """
    rng = np.random.default_rng(1)
    pairs = [(i, j) for i in range(len(truth)) for j in range(i + 1, len(truth))]
    t = quantile(0.975, n_items - 1)
    any_ours = any_plain = starred = starred_plain = 0
    for _ in range(n_studies):
        columns, plain = {}, {}
        for column in range(n_columns):
            # Items differ in difficulty, so that models' marks on one are correlated.
            ease = rng.normal(0, 0.15, n_items)
            marks = [(rng.random(n_items) < np.clip(rate + ease, 0, 1)).astype(float) for rate in truth]
            values = {model: float(own.mean()) for model, own in enumerate(marks)}
            tests = {pair: paired_difference(marks[pair[0]], marks[pair[1]]) for pair in pairs}
            p_values = {pair: one.p_value for pair, one in tests.items() if one is not None}
            columns[str(column)] = best_of(values, p_values)
            first, second = sorted(values, key=lambda model: -values[model])[:2]
            one = tests[min(first, second), max(first, second)]
            if one is not None and one.stderr > 0 and abs(one.value) > t * one.stderr:
                plain[str(column)] = first
        ours = stars(columns, columns)
        is_false = [rate < max(truth) or truth.count(rate) > 1 for rate in truth]
        any_ours += any(is_false[model] for model in ours.values())
        any_plain += any(is_false[model] for model in plain.values())
        starred += sum(model == 0 for model in ours.values())
        starred_plain += sum(model == 0 for model in plain.values())
    n_all = n_studies * n_columns
    return any_ours / n_studies, any_plain / n_studies, starred / n_all, starred_plain / n_all


@pytest.mark.parametrize("truth", [[0.5, 0.5], [0.5, 0.5, 0.5], [0.6, 0.6, 0.3]])
def test_false_stars_are_at_most_six_percent_of_leaderboards(truth: list[float]) -> None:
    ours, plain, _, _ = studies(700, truth)
    assert ours <= 0.06
    assert plain > 0.06, "the uncorrected star errs more often, or this test could not fail"


def test_real_leads_get_their_stars() -> None:
    _, _, power, _ = studies(60, [0.85, 0.5, 0.45])
    assert power > 0.9


def test_all_p_values_at_once_are_those_one_by_one() -> None:
    given = [Difference(0.3, 0.1, 20, 19), Difference(-1.0, 0.5, None), Difference(0.2, 0.0, 8, 7), None]
    differences = dict(zip(combinations(range(4), 2), given, strict=False))
    assert p_values(differences) == {
        pair: pytest.approx(one.p_value) for pair, one in differences.items() if one is not None
    }
