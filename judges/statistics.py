"""Standard errors, intervals, tests and agreement.

All functions are pure and deterministic (the bootstrap given its seed). No observations at all is a ValueError. The
spread of a single observation is None, never 0, and so is the interval of a bootstrap whose draws are all equal.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

_CELLS_PER_CHUNK = 4_000_000
NO_SPREAD = 1e-9
"""Replicates within this tolerance (relative above 1, else absolute) differ by rounding only."""


def _finite(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError("no values; expected at least one number")
    if not np.isfinite(array).all():
        raise ValueError("a value is not finite; leave unscored items out before averaging")
    return array


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a number between 0 and 1, such as 0.95")
    return NormalDist().inv_cdf(0.5 + level / 2)


def _cluster_numbers(n: int, clusters: Sequence[Hashable] | None) -> NDArray[np.intp]:
    """Number the clusters by first appearance; without clusters each value is its own cluster."""
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} clusters for {n} values; expected one per value")
    numbers = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    return np.array([numbers[cluster] for cluster in clusters], dtype=np.intp)


def mean_and_stderr(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and its standard error (sample deviation with n - 1, over the root of n).

    The standard error of a single value is None. Raises ValueError for no or non-finite values.
    Source: the central-limit formula, Miller 2024 (arXiv 2411.00640).
    """
    array = _finite(values)
    if array.size == 1:
        return float(array[0]), None
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(array.size))


def clustered_stderr(values: Sequence[float], clusters: Sequence[Hashable]) -> float | None:
    """Return the standard error of the mean when values within a cluster are correlated.

    The variance is the unclustered one plus the cross products of deviations within each cluster over n squared, so
    clusters of one give :func:`mean_and_stderr`. None for a single value or a single cluster. Raises ValueError as that
    function does. Source: Miller 2024 (arXiv 2411.00640), clustered standard errors.
    """
    array = _finite(values)
    numbers = _cluster_numbers(array.size, clusters)
    if int(numbers.max()) == 0:
        return None
    deviations = array - array.mean()
    squares = float(deviations @ deviations)
    cluster_sums = np.bincount(numbers, weights=deviations)
    cross_products = float(cluster_sums @ cluster_sums) - squares
    variance = squares / (array.size * (array.size - 1)) + cross_products / array.size**2
    return math.sqrt(max(variance, 0.0))


def normal_ci(mean: float, stderr: float | None, *, level: float = 0.95) -> Interval | None:
    """Return mean ± z standard errors; None without a standard error."""
    z = _z(level)
    return None if stderr is None else (mean - z * stderr, mean + z * stderr)


def wilson_ci(k: int, n: int, *, level: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion ``k / n``, within [0, 1].

    Raises ValueError unless 0 <= k <= n and n >= 1. Source: Wilson 1927 (JASA 22, 209-212).
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} of {n}; expected at least one trial and no more successes than trials")
    z = _z(level)
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Exactly 0 and 1 at the edges, where rounding would be off by an ulp.
    return (0.0 if k == 0 else centre - half, 1.0 if k == n else centre + half)


def bootstrap_ci(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Return the percentile bootstrap interval of the mean; whole clusters are drawn where given.

    The replicate means are weighted by cluster size. None with fewer than two clusters, and if all clusters have the
    same mean, as in :func:`percentile_ci`. The same seed gives the same draws, so the interval of ``-values`` is the
    mirrored one. Raises ValueError for no or non-finite values, or n_boot < 1. Source: Efron and Tibshirani 1993,
    chapter 13; clusters as in Field and Welsh 2007 (JRSS B 69, 369-390), the randomized cluster bootstrap.
    """
    array = _finite(values)
    return bootstrap_ratio_ci(array, np.ones_like(array), clusters, level=level, n_boot=n_boot, seed=seed)


def proportion_ci(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, *, level: float = 0.95, seed: int = 0
) -> Interval | None:
    """Return the interval of a mean of values in [0, 1]: Wilson's for binary values, else :func:`bootstrap_ci`.

    Values that are all 0 or 1, each its own cluster, are a binomial proportion, for which a bootstrap of few
    successes is too narrow (4 % of 80: coverage is 87 %, and one success gets a lower upper bound than none). If
    clusters share values and all are 0, or all are 1, there is nothing to resample, and Wilson's interval with the
    number of clusters as n is used. None with fewer than two clusters, and if all clusters have the same mean
    otherwise. Raises ValueError for no or non-finite values, and for values outside [0, 1].
    """
    array = _finite(values)
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"values from {array.min()} to {array.max()}; expected 0 to 1")
    n = int(_cluster_numbers(array.size, clusters).max()) + 1
    is_binary = bool(np.isin(array, (0.0, 1.0)).all())
    if n > 1 and is_binary and (n == array.size or array.min() == array.max()):
        return wilson_ci(round(float(array.mean()) * n), n, level=level)
    return bootstrap_ci(values, clusters, level=level, seed=seed)


def bootstrap_ratio_ci(
    numerators: Sequence[float] | NDArray[np.float64],
    denominators: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Return the percentile bootstrap interval of sum(numerators) / sum(denominators), observations drawn in pairs.

    Replicates with denominator 0 are dropped; None if none is left or all are equal, and with fewer than two clusters.
    Draws, errors and source as in :func:`bootstrap_ci`; also a ValueError for lists of different lengths.
    """
    above, below = _finite(numerators), _finite(denominators)
    if above.size != below.size:
        raise ValueError(f"{above.size} numerators for {below.size} denominators; expected equal lengths")
    numbers = _cluster_numbers(above.size, clusters)
    sums, sizes = np.bincount(numbers, weights=above), np.bincount(numbers, weights=below)
    _check_draws(level, n_boot)
    if sums.size < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = max(1, _CELLS_PER_CHUNK // sums.size)
    replicates = []
    for start in range(0, n_boot, rows):
        drawn = rng.multinomial(sums.size, np.full(sums.size, 1 / sums.size), size=min(rows, n_boot - start))
        totals = drawn @ sizes
        replicates.append((drawn @ sums)[totals != 0] / totals[totals != 0])
    return percentile_ci(np.concatenate(replicates), level=level)


def percentile_ci(replicates: NDArray[np.float64], *, level: float = 0.95) -> Interval | None:
    """Return the percentile interval of a bootstrap's replicates; None if there are none or all are equal.

    Equal replicates mean that there is nothing to resample, not that the figure is certain, as an
    interval of width 0 would claim. Raises ValueError for a level outside (0, 1).
    """
    _z(level)
    if not replicates.size or np.ptp(replicates) <= NO_SPREAD * max(1.0, float(np.abs(replicates).max())):
        return None
    tail = (1 - level) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return float(low), float(high)


def _check_draws(level: float, n_boot: int) -> None:
    if n_boot < 1:
        raise ValueError(f"n_boot is {n_boot}; expected at least 1")
    _z(level)


def bootstrap_ci_of(
    statistic: Callable[[NDArray[np.intp]], float | None],
    n: int,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Return the percentile bootstrap interval of any statistic of ``n`` observations.

    ``statistic`` gets the indices of the drawn observations; replicates for which it is None are
    dropped. None with fewer than two clusters, and if no replicate is left or all are equal. Raises
    ValueError for n < 1 or n_boot < 1. Source as in :func:`bootstrap_ci`.
    """
    if n < 1:
        raise ValueError("no observations; expected at least one")
    numbers = _cluster_numbers(n, clusters)
    _check_draws(level, n_boot)
    members = [np.flatnonzero(numbers == i) for i in range(int(numbers.max()) + 1)]
    if len(members) < 2:
        return None
    rng = np.random.default_rng(seed)
    replicates = []
    for _ in range(n_boot):
        drawn = rng.integers(len(members), size=len(members))
        if (value := statistic(np.concatenate([members[i] for i in drawn]))) is not None:
            replicates.append(value)
    return percentile_ci(np.array(replicates), level=level)


def _paired(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    if len(a) != len(b) or not a:
        raise ValueError(f"{len(a)} and {len(b)} labels; expected two non-empty lists of the same length")
    return len(a)


def accuracy(
    predicted: Sequence[Hashable], actual: Sequence[Hashable], *, level: float = 0.95
) -> tuple[float, Interval]:
    """Return the share of equal labels and its Wilson interval; ValueError for empty lists or different lengths."""
    n = _paired(predicted, actual)
    k = sum(p == a for p, a in zip(predicted, actual, strict=True))
    return k / n, wilson_ci(k, n, level=level)


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float | None:
    """Return Cohen's kappa of two raters, in [-1, 1]: agreement beyond chance.

    None if both raters used a single, equal label throughout: kappa is undefined there. Raises ValueError for empty
    lists or lists of different lengths. Source: Cohen 1960 (Educ. Psychol. Meas. 20, 37-46).
    """
    _paired(a, b)
    if len({*a, *b}) == 1:
        return None
    from sklearn.metrics import cohen_kappa_score

    return float(cohen_kappa_score(list(a), list(b)))


def cohen_kappa_ci(
    a: Sequence[Hashable],
    b: Sequence[Hashable],
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Return the bootstrap interval of Cohen's kappa; None where :func:`bootstrap_ci_of` returns None.

    If the raters always agree, kappa is 1 in every draw. The lower bound is then that of Wilson's interval with the
    number of clusters as n, corrected for the observed chance agreement.
    """
    n = _paired(a, b)
    if all(x == y for x, y in zip(a, b, strict=True)):
        n_clusters = n if clusters is None else len(set(clusters))
        by_chance = sum(count**2 for count in Counter(a).values()) / n**2
        if n_clusters < 2 or by_chance == 1:
            return None
        lowest = wilson_ci(n_clusters, n_clusters, level=level)[0]
        return max(-1.0, (lowest - by_chance) / (1 - by_chance)), 1.0

    def kappa(drawn: NDArray[np.intp]) -> float | None:
        return cohen_kappa([a[i] for i in drawn], [b[i] for i in drawn])

    return bootstrap_ci_of(kappa, n, clusters, level=level, n_boot=n_boot, seed=seed)


def sign_test_exact(wins: int, losses: int) -> float:
    """Return the two-sided exact p-value of the null hypothesis that wins and losses are equally likely.

    Ties are ignored; 1.0 without any win or loss. Raises ValueError for negative counts.
    Source: the binomial test with probability 1/2 (Dixon and Mood 1946, JASA 41, 557-566).
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"{wins} wins and {losses} losses; expected counts of at least 0")
    n = wins + losses
    # Integers are exact and fast, and scipy.stats would add half a second to the start of `report`.
    combinations = accumulate(range(min(wins, losses)), lambda c, k: c * (n - k) // (k + 1), initial=1)
    return min(1.0, 2 * sum(combinations) / (1 << n))


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given.

    Raises ValueError for a p-value outside [0, 1]. Source: Holm 1979 (Scand. J. Stat. 6, 65-70).
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"p-value {p}; expected a number in [0, 1]")
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    adjusted = np.maximum.accumulate(np.minimum(1.0, np.arange(values.size, 0, -1) * values[order]))
    return [float(value) for value in adjusted[np.argsort(order)]]
