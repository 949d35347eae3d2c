"""Models on the same items: differences with their errors, the smallest detectable one, and stars and ranks.

Pure. Sources: Miller 2024 (arXiv 2411.00640) for paired differences and clustered standard errors; Berger 1982
(Technometrics 24, 295-300) for intersection-union tests; Holm 1979 for several columns.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from judges.statistics import NO_SPREAD, clustered_stderr, holm_correction, quantile, sign_test_exact, student_ci

ALPHA = 0.05
POWER = 0.8

Floats = NDArray[np.float64]
PValues = Mapping[tuple[int, int], float]
"""(a, b), a below b in the models' order -> the two-sided p-value of their difference."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A minus b with its standard error.

    ``n`` counts the items that both were marked on (None: not paired), ``df`` the degrees of freedom behind
    the standard error (None: many). A paired difference that is the same on all items has ``stderr`` 0.
    """

    value: float
    stderr: float
    n: int | None
    df: int | None = None

    @property
    def p_value(self) -> float:
        """The two-sided p-value of Student's t; without any spread, that of the exact sign test."""
        if self.stderr > 0:
            return two_sided(self.value / self.stderr, self.df)
        return 1.0 if self.n is None or self.value == 0 else sign_test_exact(self.n, 0)

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Student's 95 % interval; None without any spread."""
        return student_ci(self.value, self.stderr, self.df) if self.stderr > 0 else None

    @property
    def detectable(self) -> float | None:
        """The smallest true difference that a test like this one shows with 80 % power; None without any spread."""
        return detectable_effect(self.stderr, self.df) if self.stderr > 0 else None


def p_values(differences: Mapping[tuple[int, int], Difference | None]) -> dict[tuple[int, int], float]:
    """Return the p-value of every difference that is there, all at once: a hundred models have 4,950 pairs a column."""
    from scipy.special import ndtr, stdtr

    known = {pair: one for pair, one in differences.items() if one is not None}
    found = {pair: one.p_value for pair, one in known.items() if one.stderr <= 0}
    spread = [(pair, one) for pair, one in known.items() if one.stderr > 0]
    t = np.array([-abs(one.value / one.stderr) for _, one in spread])
    df = np.array([math.nan if one.df is None else one.df for _, one in spread])
    tails = np.where(np.isnan(df), ndtr(t), stdtr(df, t))
    found |= {pair: float(2 * tail) for (pair, _), tail in zip(spread, tails, strict=True)}
    return {pair: found[pair] for pair in known}


def two_sided(t: float, df: int | None) -> float:
    """Return the two-sided p-value of a statistic that has Student's t, or the normal, distribution.

    >>> round(two_sided(2.228, 10), 3), round(two_sided(-1.96, None), 3)
    (0.05, 0.05)
    """
    return 2 * _below(-abs(t), df)


def _below(t: float, df: int | None) -> float:
    """Return the probability that Student's t, or a normal value where ``df`` is None, is below ``t``."""
    from scipy.special import ndtr, stdtr

    return float(ndtr(t) if df is None else stdtr(df, t))


def one_sided(difference: Difference, threshold: float = 0.0) -> float:
    """Return the p-value of the null hypothesis that the true difference is at most ``threshold``.

    Without any spread it is the sign test's: every one of ``n`` items lies on one side. 0.5 exactly at the threshold.

    >>> round(one_sided(Difference(1.645, 1.0, None)), 3), one_sided(Difference(-1.0, 0.0, 3))
    (0.05, 0.875)
    """
    above = difference.value - threshold
    if difference.stderr > 0:
        return _below(-above / difference.stderr, difference.df)
    chance = 0.5 ** (difference.n or 0)
    return 0.5 if above == 0 else chance if above > 0 else 1 - chance


def detectable_effect(stderr: float, df: int | None, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """Return the minimum detectable effect of a two-sided test: (t of 1 - alpha / 2 + t of power) standard errors.

    Source: Bloom 1995 (Evaluation Review 19, 547-556); Card et al. 2020 (arXiv 2010.06595) for its use here.
    """
    return (quantile(1 - alpha / 2, df) + quantile(power, df)) * stderr


def needed_items(effect: float, variance: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Return how many items a two-sided paired test needs to find ``effect``.

    ``variance`` is that of a difference on one item; the result is about the smallest n whose
    :func:`detectable_effect` is at most the effect. Raises ValueError for an effect of 0 or less. Source: Miller 2024
    (arXiv 2411.00640), its sample-size formula with Student's t for the normal distribution.
    """
    if effect <= 0:
        raise ValueError(f"effect {effect}; expected a number above 0")
    n = max(2, math.ceil(variance * (quantile(1 - alpha / 2, None) + quantile(power, None)) ** 2 / effect**2))
    while detectable_effect(math.sqrt(variance / n), n - 1, alpha=alpha, power=power) > effect:
        n += max(1, n // 100)
    return n


def paired_difference(a: Floats, b: Floats, clusters: Sequence[Hashable] | None = None) -> Difference | None:
    """Return the mean difference over items that both models were marked on (NaN: not); None with fewer than two.

    Items of one cluster share a context: the standard error is the clustered one, with one degree of freedom fewer than
    clusters. None where all of them are one cluster.
    """
    both = ~(np.isnan(a) | np.isnan(b))
    n = int(both.sum())
    if n < 2:
        return None
    differences = a[both] - b[both]
    mean = float(differences.mean())
    chosen = None if clusters is None else [cluster for cluster, is_in in zip(clusters, both, strict=True) if is_in]
    n_clusters = n if chosen is None else len(set(chosen))
    if n_clusters < 2:
        return None
    if np.ptp(differences) <= NO_SPREAD:
        return Difference(mean if abs(mean) > NO_SPREAD else 0.0, 0.0, n_clusters, n_clusters - 1)
    if chosen is None or n_clusters == n:
        return Difference(mean, float(differences.std(ddof=1) / math.sqrt(n)), n, n - 1)
    stderr = clustered_stderr(differences.tolist(), chosen)
    # Within clusters that cancel out exactly there is no spread left to test by.
    return None if not stderr else Difference(mean, stderr, n, n_clusters - 1)


def paired_differences(
    marks: Floats, clusters: NDArray[np.intp] | None = None
) -> dict[tuple[int, int], Difference | None]:
    """Return :func:`paired_difference` of every two rows of ``marks`` (models by items, NaN: not marked), by (a, b).

    All pairs come from a few products of matrices, so that a hundred models take no longer than reading their marks.
    Rows that hardly differ, and clustered rows with unmarked items, are compared one by one.
    """
    if clusters is not None and len(np.unique(clusters)) == marks.shape[1]:
        clusters = None
    marked = ~np.isnan(marks)
    complete: NDArray[np.bool_] = np.asarray(marked.all(axis=1))
    known, there = np.where(marked, marks, 0.0), marked.astype(np.float64)
    sums = known @ there.T
    n = there @ there.T
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (sums - sums.T) / n
    own = known**2 @ there.T
    squares = own + own.T - 2 * (known @ known.T) - n * means**2
    # What is left of large squares that cancel out says nothing.
    is_exact = squares > 1e-6 * (own + own.T)
    joint = None if clusters is None else _squared_cluster_sums(known, clusters, means)
    n_clusters = None if clusters is None else len(np.unique(clusters))
    found: dict[tuple[int, int], Difference | None] = {}
    for a in range(len(marks)):
        for b in range(a + 1, len(marks)):
            count, together = int(n[a, b]), joint is None or (complete[a] and complete[b])
            if count < 2:
                found[a, b] = None
            elif not (is_exact[a, b] and together):
                found[a, b] = paired_difference(marks[a], marks[b], None if clusters is None else clusters.tolist())
            elif joint is None or n_clusters is None:
                stderr = math.sqrt(squares[a, b] / (count - 1) / count)
                found[a, b] = Difference(float(means[a, b]), stderr, count, count - 1)
            else:
                variance = squares[a, b] / (count * (count - 1)) + (joint[a, b] - squares[a, b]) / count**2
                stderr = math.sqrt(max(variance, 0.0))
                found[a, b] = Difference(float(means[a, b]), stderr, count, n_clusters - 1) if stderr else None
    return found


def _squared_cluster_sums(marks: Floats, clusters: NDArray[np.intp], means: Floats) -> Floats:
    """Return, for every two rows, the sum over clusters of the squared sum of their differences from the mean."""
    _, numbers = np.unique(clusters, return_inverse=True)
    sizes = np.bincount(numbers).astype(np.float64)
    by_cluster = np.stack([np.bincount(numbers, weights=row) for row in marks])
    own = (by_cluster**2).sum(axis=1)
    weighted = by_cluster @ sizes
    gaps = own[:, None] + own[None, :] - 2 * (by_cluster @ by_cluster.T)
    result: Floats = gaps - 2 * means * (weighted[:, None] - weighted[None, :]) + means**2 * float(sizes @ sizes)
    return result


def best_of(values: Mapping[int, float], p_values: PValues) -> tuple[int, float] | None:
    """Return the model with the highest value and the p-value of "better than every other"; None without two models.

    The intersection-union test: all comparisons have to hold, so the largest p-value is that of the whole test, and no
    correction within the column is needed. 1 where one cannot be made or the best is tied.
    """
    if len(values) < 2:
        return None
    best = max(values, key=lambda model: values[model])
    others = [model for model in values if model != best]
    if any(values[model] >= values[best] for model in others):
        return best, 1.0
    return best, max(p_values.get((min(best, model), max(best, model)), 1.0) for model in others)


def stars(columns: Mapping[str, tuple[int, float] | None], family: Iterable[str]) -> dict[str, int]:
    """Return the model with a star in each column that has one: Holm's correction over ``family``.

    ``columns`` holds :func:`best_of`. A column outside of ``family`` is corrected over all columns.
    """
    tested = {key: best for key, best in columns.items() if best is not None}
    chosen = set(family) & tested.keys()
    found: dict[str, int] = {}
    for keys, of in ((list(tested), tested.keys() - chosen), (list(chosen), chosen)):
        adjusted = dict(zip(keys, holm_correction([tested[key][1] for key in keys]), strict=True)) if keys else {}
        found |= {key: tested[key][0] for key in of if adjusted[key] < ALPHA}
    return found


def rank_intervals(values: Mapping[int, float], p_values: PValues) -> dict[int, tuple[int, int]]:
    """Return each model's (best, worst) rank in a column: ranks that Holm's correction over all pairs leaves open.

    Source: Mogstad, Romano, Shaikh and Wilhelm 2024 (Rev. Econ. Stud. 91, 476-518), with Holm's for their correction.
    """
    pairs = [(a, b) for i, a in enumerate(sorted(values)) for b in sorted(values)[i + 1 :]]
    adjusted = holm_correction([p_values.get(pair, 1.0) for pair in pairs]) if pairs else []
    above, below = dict.fromkeys(values, 0), dict.fromkeys(values, 0)
    for (a, b), p in zip(pairs, adjusted, strict=True):
        if p < ALPHA and values[a] != values[b]:
            better, worse = (a, b) if values[a] > values[b] else (b, a)
            below[better] += 1
            above[worse] += 1
    return {model: (1 + above[model], len(values) - below[model]) for model in values}
