import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from judges.statistics import (
    bootstrap_ci,
    bootstrap_ci_of,
    bootstrap_ratio_ci,
    clustered_stderr,
    cohen_kappa,
    cohen_kappa_ci,
    holm_correction,
    mean_and_stderr,
    mean_ci,
    normal_ci,
    percentile_ci,
    proportion_ci,
    sign_test_exact,
    wilson_ci,
)

numbers = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30)


@given(numbers)
def test_standard_error_matches_scipy(values):
    mean, stderr = mean_and_stderr(values)
    assert mean == pytest.approx(math.fsum(values) / len(values), abs=1e-9)
    assert stderr == pytest.approx(stats.sem(values), abs=1e-9)


def test_one_value_has_no_standard_error():
    assert mean_and_stderr([3.0]) == (3.0, None)
    assert normal_ci(3.0, None) is None


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf]])
def test_no_or_non_finite_values_are_rejected(values):
    for use in (mean_and_stderr, bootstrap_ci, lambda v: clustered_stderr(v, list(v))):
        with pytest.raises(ValueError, match=r"no values|not finite"):
            use(values)


def miller_variance(values, clusters):
    """The double sum of the paper, term by term."""
    n, mean = len(values), sum(values) / len(values)
    unclustered = sum((v - mean) ** 2 for v in values) / (n - 1) / n
    cross = sum(
        (values[i] - mean) * (values[j] - mean)
        for i, j in itertools.permutations(range(n), 2)
        if clusters[i] == clusters[j]
    )
    return unclustered + cross / n**2


@given(st.lists(st.tuples(st.floats(-10, 10), st.sampled_from("abcd")), min_size=3, max_size=12))
def test_clustered_standard_error_matches_millers_double_sum(rows):
    values, clusters = [v for v, _ in rows], [c for _, c in rows]
    result = clustered_stderr(values, clusters)
    if len(set(clusters)) == 1:
        assert result is None
    else:
        assert result**2 == pytest.approx(max(miller_variance(values, clusters), 0.0), abs=1e-9)


def test_clusters_of_one_change_nothing_and_copies_do():
    values = [1.0, 2.0, 4.0, 8.0]
    assert clustered_stderr(values, "abcd") == pytest.approx(stats.sem(values))
    # Every value twice, one cluster each: the copies add no information, but the plain formula counts them.
    assert clustered_stderr(values * 2, "abcd" * 2) == pytest.approx(math.sqrt(miller_variance(values * 2, "abcd" * 2)))
    assert clustered_stderr(values * 2, "abcd" * 2) > 1.3 * stats.sem(values * 2)


def test_clusters_must_match_the_values():
    with pytest.raises(ValueError, match="2 clusters for 3 values"):
        clustered_stderr([1.0, 2.0, 3.0], ["a", "b"])


def test_normal_interval():
    assert normal_ci(10.0, 1.0) == pytest.approx((10 - 1.959964, 10 + 1.959964), abs=1e-6)
    assert normal_ci(0.0, None) is None


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (18, 80), (32, 80), (1, 1), (500, 1000)])
def test_wilson_matches_scipy(k, n):
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson_ci(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_impossible_proportions_are_rejected(k, n):
    with pytest.raises(ValueError, match="expected at least one trial"):
        wilson_ci(k, n)


def test_bootstrap_of_a_large_sample_is_near_the_normal_interval():
    values = np.random.default_rng(1).normal(5, 2, size=2000).tolist()
    mean, stderr = mean_and_stderr(values)
    low, high = bootstrap_ci(values, n_boot=4000)
    assert low == pytest.approx(mean - 1.96 * stderr, abs=0.15 * stderr)
    assert high == pytest.approx(mean + 1.96 * stderr, abs=0.15 * stderr)


def test_bootstrap_draws_whole_clusters():
    rng = np.random.default_rng(2)
    effects = np.repeat(rng.normal(size=60), 20)
    values, clusters = (effects + 0.01 * rng.normal(size=1200)).tolist(), np.repeat(np.arange(60), 20).tolist()
    low, high = bootstrap_ci(values, clusters)
    width = 2 * 1.96 * clustered_stderr(values, clusters)
    assert high - low == pytest.approx(width, rel=0.1)
    plain_low, plain_high = bootstrap_ci(values)
    assert (high - low) > 3 * (plain_high - plain_low)


def test_bootstrap_of_two_clusters_matches_enumeration():
    # Means of the four equally likely draws: a a, a b, b a, b b; b is three times the size of a.
    assert bootstrap_ci([0.0, 1.0, 1.0, 1.0], "abbb") == (0.0, 1.0)


def test_bootstrap_weighs_clusters_by_their_size():
    rng = np.random.default_rng(4)
    numbers = np.repeat(np.arange(30), rng.integers(1, 20, size=30))
    values = numbers / 30 + 0.1 * rng.normal(size=numbers.size)
    drawn = bootstrap_ci_of(lambda rows: float(values[rows].mean()), values.size, numbers.tolist(), n_boot=4000)
    assert bootstrap_ci(values.tolist(), numbers.tolist(), n_boot=4000) == pytest.approx(drawn, abs=0.015)


def test_bootstrap_has_the_nominal_coverage():
    rng = np.random.default_rng(3)
    samples = rng.exponential(1.0, size=(200, 80))
    hits = sum(low <= 1.0 <= high for low, high in (bootstrap_ci(s.tolist(), n_boot=300) for s in samples))
    assert 0.88 <= hits / 200 <= 0.99


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 10)), min_size=2, max_size=30), st.randoms())
def test_the_bootstrap_of_clusters_does_not_depend_on_the_order_of_the_values(pairs, random):
    mixed = random.sample(pairs, len(pairs))
    one, other = (bootstrap_ci([value for _, value in each], [name for name, _ in each]) for each in (pairs, mixed))
    assert one == other


@given(numbers, st.integers(0, 5))
def test_bootstrap_is_repeatable_and_mirrors(values, seed):
    interval, mirrored = (bootstrap_ci(each, n_boot=50, seed=seed) for each in (values, [-v for v in values]))
    assert interval == bootstrap_ci(values, n_boot=50, seed=seed)
    if interval is None:
        assert mirrored is None
        assert max(values) - min(values) < 1e-4
        return
    low, high = interval
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


@pytest.mark.parametrize(("value", "bounds"), [(0.0, (0.0, 0.277533)), (1.0, (0.722467, 1.0))])
def test_a_proportion_at_an_edge_has_wilsons_interval_of_its_clusters(value, bounds):
    # 10 of 10: 1 / (1 + z^2 / 10) = 0.722467 (Wilson 1927).
    assert proportion_ci([value] * 10) == pytest.approx(bounds, abs=1e-6)
    assert proportion_ci([value] * 20, [i // 2 for i in range(20)]) == pytest.approx(bounds, abs=1e-6)


def test_other_proportions_have_wilsons_interval_with_the_effective_number():
    values = ([0.2, 0.4, 0.6, 0.8] * 20)[:60]
    mean, variance = np.mean(values), np.var(values, ddof=1) / 60
    n, t = mean * (1 - mean) / variance, stats.t.ppf(0.975, 59)
    half = t * math.sqrt(mean * (1 - mean) / n + t * t / (4 * n * n)) / (1 + t * t / n)
    centre = (mean + t * t / (2 * n)) / (1 + t * t / n)
    assert proportion_ci(values) == pytest.approx((centre - half, centre + half))
    # Every value three times in one cluster says no more than once.
    assert proportion_ci(values * 3, [i % 60 for i in range(180)]) == pytest.approx(proportion_ci(values))
    assert proportion_ci([1.0]) is None


def test_means_have_students_interval():
    values = [1.0, 2.0, 4.0, 8.0]
    expected = stats.t.interval(0.95, 3, loc=3.75, scale=stats.sem(values))
    assert mean_ci(values) == pytest.approx(expected)
    assert mean_ci(values * 5, list(range(4)) * 5) == pytest.approx(expected)
    assert mean_ci([2.0, 2.0]) is None
    assert mean_ci([2.0]) is None


def test_equal_draws_give_no_interval():
    assert bootstrap_ci([0.1] * 3) is None
    # Every cluster has mean 0.2; the sums differ by rounding only.
    assert bootstrap_ci([0.1, 0.3, 0.2, 0.1, 0.2, 0.3], "aabccc") is None
    assert bootstrap_ratio_ci([1.0, 2.0, 4.0], [2.0, 4.0, 8.0]) is None
    assert bootstrap_ci_of(lambda drawn: 7.0, 5) is None
    assert percentile_ci(np.array([])) is None
    assert percentile_ci(np.array([0.0, 1.0])) == pytest.approx((0.025, 0.975))
    # Half of each question is correct: as uncertain as a proportion of five.
    low, high = stats.binomtest(5, 10).proportion_ci(method="wilson")
    assert proportion_ci([0.0, 1.0] * 10, [i // 2 for i in range(20)]) == pytest.approx((low, high))


def test_intervals_of_few_successes_have_the_nominal_coverage():
    # Exact: the sum of the binomial probabilities of the counts whose interval covers the true rate.
    n = 80
    intervals = [proportion_ci([1.0] * k + [0.0] * (n - k)) for k in range(n + 1)]
    for rate in (0.02, 0.04, 0.07, 0.5):
        chance = stats.binom(n, rate).pmf(np.arange(n + 1))
        held = sum(p for p, (low, high) in zip(chance, intervals, strict=True) if low <= rate <= high)
        assert 0.93 <= held <= 0.99
    for before, after in itertools.pairwise(intervals):
        assert before[0] <= after[0]
        assert before[1] <= after[1]


@pytest.mark.parametrize("values", [[], [1.5, 0.0], [-0.1], [float("nan")]])
def test_values_that_are_not_proportions_are_rejected(values):
    with pytest.raises(ValueError, match="value"):
        proportion_ci(values)


def test_bootstrap_needs_two_clusters():
    assert bootstrap_ci([1.0]) is None
    assert bootstrap_ci([1.0, 2.0], ["a", "a"]) is None
    assert bootstrap_ci_of(lambda drawn: 1.0, 2, ["a", "a"]) is None
    assert bootstrap_ci_of(lambda drawn: None, 2) is None
    with pytest.raises(ValueError, match="n_boot is 0"):
        bootstrap_ci([1.0, 2.0], n_boot=0)
    with pytest.raises(ValueError, match="no observations"):
        bootstrap_ci_of(lambda drawn: 1.0, 0)


def test_the_general_bootstrap_agrees_with_that_of_the_mean():
    values = np.random.default_rng(4).normal(size=300)
    clusters = [i // 3 for i in range(300)]
    special = bootstrap_ci(values.tolist(), clusters, n_boot=4000)
    general = bootstrap_ci_of(lambda drawn: float(values[drawn].mean()), 300, clusters, n_boot=4000)
    assert general == pytest.approx(special, abs=0.015)


labels = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30)


@given(labels)
def test_kappa_by_definition(pairs):
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    n, counts_a, counts_b = len(pairs), Counter(a), Counter(b)
    observed = sum(x == y for x, y in pairs) / n
    by_chance = sum(counts_a[label] * counts_b[label] for label in "abc") / n**2
    if by_chance == 1:
        assert cohen_kappa(a, b) is None
    else:
        expected = (observed - by_chance) / (1 - by_chance)
        assert cohen_kappa(a, b) == pytest.approx(expected, abs=1e-12)
        assert cohen_kappa(b, a) == pytest.approx(expected, abs=1e-12)


def test_kappa_of_a_known_table():
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, by chance 0.5.
    a, b = ["y"] * 25 + ["n"] * 25, ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(a, b) == pytest.approx(0.4)
    low, high = cohen_kappa_ci(a, b)
    # Fleiss, Cohen and Everitt's standard error of this table is 0.1270.
    assert low == pytest.approx(0.4 - 1.96 * 0.1270, abs=0.05)
    assert high == pytest.approx(0.4 + 1.96 * 0.1270, abs=0.05)


def test_kappa_of_perfect_agreement_has_wilsons_lower_bound():
    # 10 of 10: Wilson's lower bound is 0.722467; half of the agreement is by chance.
    expected = (0.722467 - 0.5) / 0.5
    assert cohen_kappa_ci("ab" * 5, "ab" * 5) == pytest.approx((expected, 1.0), abs=1e-5)
    assert cohen_kappa_ci("ab" * 10, "ab" * 10, [i // 2 for i in range(20)]) == pytest.approx((expected, 1.0), abs=1e-5)
    assert cohen_kappa_ci("a" * 9, "a" * 9) is None


def test_kappa_needs_two_lists_of_the_same_length():
    for labels in (("ab", "a"), ("", "")):
        with pytest.raises(ValueError, match="same length"):
            cohen_kappa(*labels)


@given(st.integers(0, 60), st.integers(0, 60))
def test_sign_test_matches_scipy(wins, losses):
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert sign_test_exact(wins, losses) == pytest.approx(expected, abs=1e-12)
    assert sign_test_exact(losses, wins) == sign_test_exact(wins, losses)


def test_sign_test_by_hand():
    assert sign_test_exact(6100, 5900) == pytest.approx(stats.binomtest(6100, 12000).pvalue)
    assert sign_test_exact(5, 0) == pytest.approx(2 / 32)
    assert sign_test_exact(0, 0) == 1.0
    with pytest.raises(ValueError, match="at least 0"):
        sign_test_exact(-1, 2)


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6, 0.9], [1.0, 1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm(p_values, adjusted):
    assert holm_correction(p_values) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_exceeds_bonferroni(p_values):
    adjusted = holm_correction(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1.0, len(p_values) * p) + 1e-12
    for i, j in itertools.combinations(range(len(p_values)), 2):
        assert (p_values[i] - p_values[j]) * (adjusted[i] - adjusted[j]) >= 0


def test_an_impossible_p_value_is_rejected():
    with pytest.raises(ValueError, match=r"p-value 1\.5"):
        holm_correction([0.1, 1.5])
