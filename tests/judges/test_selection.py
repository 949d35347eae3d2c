"""Several models against one reference, corrected for having looked at all of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from judges.selection import against_reference, largest_statistics

# Dunnett 1964 (Biometrics 20, 482-491), Table II: two-sided 5 % points by (treatments, degrees of freedom).
DUNNETT = {(2, 10): 2.57, (5, 10): 2.99, (2, 60): 2.27, (4, 60): 2.51, (9, 60): 2.77}
UNCORRELATED_5 = 2.57
"""The 5 % point of the largest of five independent normal values: 1 - 0.95 ** (1 / 5) on two sides (Sidak)."""


@pytest.mark.parametrize(("treatments", "df"), DUNNETT)
def test_with_equal_groups_the_critical_values_are_dunnetts(treatments, df):
    correlation = np.full((treatments, treatments), 0.5) + 0.5 * np.eye(treatments)
    found = np.quantile(largest_statistics(correlation, df, draws=400_000), 0.95)
    assert found == pytest.approx(DUNNETT[treatments, df], abs=0.02)


def test_independent_statistics_have_sidaks_critical_value():
    assert np.quantile(largest_statistics(np.eye(5), 10**6), 0.95) == pytest.approx(UNCORRELATED_5, abs=0.02)


def test_with_one_other_model_it_is_the_paired_t_test():
    rng = np.random.default_rng(1)
    marks = np.stack([rng.normal(0.2, 1, 30), rng.normal(0, 1, 30)])
    [found] = against_reference(marks, 1).values()
    assert found.p_value == pytest.approx(ttest_rel(marks[0], marks[1]).pvalue)
    assert found.ci95 == pytest.approx(ttest_rel(marks[0], marks[1]).confidence_interval())


def test_the_same_model_several_times_needs_no_correction_and_chance_is_corrected():
    rng = np.random.default_rng(2)
    last, other = rng.normal(0, 1, 50), rng.normal(0.4, 1, 50)
    alone = ttest_rel(other, last).pvalue
    copies = against_reference(np.stack([other, other, other, last]), 3)
    assert copies[0].p_value == pytest.approx(alone, abs=0.01)
    different = against_reference(np.stack([other, *rng.normal(0, 1, (8, 50)), last]), 9)
    assert different[0].p_value > alone + 0.01
    low, high = different[0].ci95
    assert low < different[0].difference.ci95[0] < different[0].difference.ci95[1] < high


def test_the_best_of_many_equal_checkpoints_is_rarely_called_better():
    """Of 20 checkpoints without any difference the best is called different from the last in about 5 % of trainings."""
    rng = np.random.default_rng(3)
    false, uncorrected, n = 0, 0, 200
    for _ in range(n):
        marks = rng.normal(0, 1, (20, 60)) + rng.normal(0, 1, 60)
        found = against_reference(marks, 19)
        best = max(found.values(), key=lambda one: one.difference.value)
        false += best.p_value < 0.05
        uncorrected += best.difference.p_value < 0.05
    assert false / n < 0.10
    assert uncorrected / n > 0.12


def test_only_items_that_all_are_marked_on_count_and_clusters_are_one():
    marks = np.array([[1.0, 0, 1, 1, np.nan], [0.0, 0, 1, 0, 1], [0.0, 1, 0, 0, 1]])
    found = against_reference(marks, 2)
    assert found[0].difference.n == 4
    assert found[0].difference.value == pytest.approx(0.5)
    assert against_reference(marks, 2, np.zeros(5, dtype=int)) is None, "one context cannot be compared"
    assert against_reference(np.full((2, 3), np.nan), 1) is None


def test_a_checkpoint_that_equals_the_last_on_every_item_has_p_1_and_no_interval():
    marks = np.array([[1.0, 0, 1, 0], [1.0, 0, 1, 0], [0.0, 0, 1, 1]])
    found = against_reference(marks, 1)
    assert (found[0].p_value, found[0].ci95) == (1.0, None)
