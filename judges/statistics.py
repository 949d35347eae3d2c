"""Standard errors, 95 % intervals, tests and agreement.

All functions are pure and deterministic (the bootstrap given its seed). No observations at all is a ValueError. The
spread of a single observation is None, never 0, and so is the interval of equal observations or bootstrap draws.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from itertools import accumulate
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]

_CELLS_PER_CHUNK = 4_000_000
_CELLS_IN_CACHE = 50_000  # about 400 kB a table
NO_SPREAD = 1e-9
"""Replicates within this tolerance (relative above 1, else absolute) differ by rounding only."""

_TRUSTED_CASES = 5
_LARGEST_KAPPA = 1 - 1e-9
_UPPER = 0.975
_Z = NormalDist().inv_cdf(_UPPER)


def _finite(values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError("no values; expected at least one number")
    if not np.isfinite(array).all():
        raise ValueError("a value is not finite; leave unscored items out before averaging")
    return array


def cluster_numbers(n: int, clusters: Sequence[Hashable] | None) -> NDArray[np.intp]:
    """Number the clusters in an order of their own; without clusters each value is its own cluster.

    The order of the values says nothing, so that a seeded bootstrap draws the same clusters from a file in any order.
    """
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError(f"{len(clusters)} clusters for {n} values; expected one per value")
    numbers = {cluster: i for i, cluster in enumerate(sorted(dict.fromkeys(clusters), key=repr))}
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
    numbers = cluster_numbers(array.size, clusters)
    if int(numbers.max()) == 0:
        return None
    deviations = array - array.mean()
    squares = float(deviations @ deviations)
    cluster_sums = np.bincount(numbers, weights=deviations)
    cross_products = float(cluster_sums @ cluster_sums) - squares
    variance = squares / (array.size * (array.size - 1)) + cross_products / array.size**2
    return math.sqrt(max(variance, 0.0))


def normal_ci(mean: float, stderr: float | None) -> Interval | None:
    """Return mean ± z standard errors; None without a standard error."""
    return None if stderr is None else (mean - _Z * stderr, mean + _Z * stderr)


def student_ci(mean: float, stderr: float, degrees: int | None) -> Interval:
    """Return mean ± t standard errors with ``degrees`` of freedom, at least 1; None for the normal distribution."""
    half = quantile(_UPPER, degrees) * stderr
    return mean - half, mean + half


@lru_cache(maxsize=4096)
def quantile(p: float, df: int | None) -> float:
    """Return the quantile of Student's t; of the normal distribution where ``df`` is None.

    >>> round(quantile(0.975, 1), 3), round(quantile(0.975, 10), 3), round(quantile(0.975, None), 3)
    (12.706, 2.228, 1.96)
    """
    # Importing scipy costs a second, which only commands with tests pay.
    from scipy.special import ndtri, stdtrit

    return float(ndtri(p) if df is None else stdtrit(df, p))


def wilson_ci(k: float, n: float) -> Interval:
    """Return Wilson's score interval of a proportion ``k / n``, within [0, 1].

    ``n`` may be an effective number of observations, which need not be whole. Raises ValueError unless 0 <= k <= n and
    n >= 1. Source: Wilson 1927 (JASA 22, 209-212).
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} of {n}; expected at least one trial and no more successes than trials")
    low, high = _score_interval(k / n, n, _Z)
    # Exactly 0 and 1 at the edges, where rounding would be off by an ulp.
    return (0.0 if k == 0 else low, 1.0 if k == n else high)


def _score_interval(p: float, n: float, z: float) -> Interval:
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_ci(
    values: Sequence[float], clusters: Sequence[Hashable] | None = None, *, n_boot: int = 2000, seed: int = 0
) -> Interval | None:
    """Return the percentile bootstrap interval of the mean; whole clusters are drawn where given.

    The replicate means are weighted by cluster size. None with fewer than two clusters, and if all clusters have the
    same mean, as in :func:`percentile_ci`. The same seed gives the same draws, so the interval of ``-values`` is the
    mirrored one. Raises ValueError for no or non-finite values, or n_boot < 1. Source: Efron and Tibshirani 1993,
    chapter 13; clusters as in Field and Welsh 2007 (JRSS B 69, 369-390), the randomized cluster bootstrap.
    """
    array = _finite(values)
    return bootstrap_ratio_ci(array, np.ones_like(array), clusters, n_boot=n_boot, seed=seed)


def mean_ci(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Interval | None:
    """Return the mean plus and minus t clustered standard errors, with one degree of freedom fewer than clusters.

    None with fewer than two clusters, and if all clusters have the same mean: equal values say nothing of their spread.
    Raises ValueError for no or non-finite values. Source: the linearised variance of a ratio mean with whole clusters
    as units (Cochran 1977, Sampling Techniques, section 9A.2), times G / (G - 1).
    """
    mean, variance, n_clusters = _clustered(values, clusters)
    if variance is None or variance <= NO_SPREAD**2:
        return None
    return student_ci(mean, math.sqrt(variance), n_clusters - 1)


def proportion_ci(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> Interval | None:
    """Return the interval of a mean of values in [0, 1]: Wilson's with the effective number of observations.

    Values that are all 0 or 1, each its own cluster, are a binomial proportion with Wilson's interval. Otherwise the
    number of observations is the one at which a proportion would have the clustered variance, and z is Student's t.
    Near an edge (less than 5 clusters' worth from 0 or 1) that variance cannot be trusted, since the rare values may
    all be missing, nor where all clusters have the same mean: the effective number is then at most that of the
    clusters. None with fewer than two clusters. Raises ValueError for no or non-finite values, and for values outside
    [0, 1]. Source: Franco, Little, Louis and Slud 2019 (J. Surv. Stat. Methodol. 7, 334-364), section 2.
    """
    array = _finite(values)
    if array.min() < 0 or array.max() > 1:
        raise ValueError(f"values from {array.min()} to {array.max()}; expected 0 to 1")
    mean, variance, n = _clustered(values, clusters)
    if variance is None:
        return None
    is_binary = bool(np.isin(array, (0.0, 1.0)).all())
    if is_binary and (n == array.size or array.min() == array.max()):
        return wilson_ci(round(mean * n), n)
    effective, z = mean * (1 - mean) / max(variance, NO_SPREAD**2), quantile(_UPPER, n - 1)
    if variance <= NO_SPREAD**2 or n * min(mean, 1 - mean) < _TRUSTED_CASES:
        effective, z = min(effective, float(n)), _Z
    return _score_interval(mean, effective, z)


def _clustered(values: Sequence[float], clusters: Sequence[Hashable] | None) -> tuple[float, float | None, int]:
    """Return (mean, its variance with whole clusters as units or None for a single one, number of clusters)."""
    array = _finite(values)
    numbers = cluster_numbers(array.size, clusters)
    n = int(numbers.max()) + 1
    if n < 2:
        return float(array.mean()), None, n
    sums = np.bincount(numbers, weights=array - array.mean())
    return float(array.mean()), n / (n - 1) * float(sums @ sums) / array.size**2, n


def bootstrap_ratio_ci(
    numerators: Sequence[float] | NDArray[np.float64],
    denominators: Sequence[float] | NDArray[np.float64],
    clusters: Sequence[Hashable] | None = None,
    *,
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
    numbers = cluster_numbers(above.size, clusters)
    sums, sizes = np.bincount(numbers, weights=above), np.bincount(numbers, weights=below)
    _check_draws(n_boot)
    if sums.size < 2:
        return None
    rng = np.random.default_rng(seed)
    rows = max(1, _CELLS_PER_CHUNK // sums.size)
    replicates = []
    for start in range(0, n_boot, rows):
        drawn = rng.multinomial(sums.size, np.full(sums.size, 1 / sums.size), size=min(rows, n_boot - start))
        totals = drawn @ sizes
        replicates.append((drawn @ sums)[totals != 0] / totals[totals != 0])
    return percentile_ci(np.concatenate(replicates))


def percentile_ci(replicates: NDArray[np.float64]) -> Interval | None:
    """Return the percentile interval of a bootstrap's replicates; None if there are none or all are equal.

    Equal replicates mean that there is nothing to resample, not that the figure is certain, as an
    interval of width 0 would claim.
    """
    if not replicates.size or np.ptp(replicates) <= NO_SPREAD * max(1.0, float(np.abs(replicates).max())):
        return None
    low, high = np.quantile(replicates, [1 - _UPPER, _UPPER])
    return float(low), float(high)


def _check_draws(n_boot: int) -> None:
    if n_boot < 1:
        raise ValueError(f"n_boot is {n_boot}; expected at least 1")


def bootstrap_ci_of(
    statistic: Callable[[NDArray[np.intp]], float | None],
    n: int,
    clusters: Sequence[Hashable] | None = None,
    *,
    n_boot: int = 2000,
) -> Interval | None:
    """Return the percentile bootstrap interval of any statistic of ``n`` observations.

    ``statistic`` gets the indices of the drawn observations; replicates for which it is None are
    dropped. None with fewer than two clusters, and if no replicate is left or all are equal. Raises
    ValueError for n < 1 or n_boot < 1. Source as in :func:`bootstrap_ci`.
    """
    if n < 1:
        raise ValueError("no observations; expected at least one")
    numbers = cluster_numbers(n, clusters)
    _check_draws(n_boot)
    members = [np.flatnonzero(numbers == i) for i in range(int(numbers.max()) + 1)]
    if len(members) < 2:
        return None
    rng = np.random.default_rng(0)
    replicates = []
    for _ in range(n_boot):
        drawn = rng.integers(len(members), size=len(members))
        if (value := statistic(np.concatenate([members[i] for i in drawn]))) is not None:
            replicates.append(value)
    return percentile_ci(np.array(replicates))


def _paired(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    if len(a) != len(b) or not a:
        raise ValueError(f"{len(a)} and {len(b)} labels; expected two non-empty lists of the same length")
    return len(a)


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float | None:
    """Return Cohen's kappa of two raters, in [-1, 1]: agreement beyond chance.

    None if both raters used a single, equal label throughout: kappa is undefined there. Raises ValueError for empty
    lists or lists of different lengths. Source: Cohen 1960 (Educ. Psychol. Meas. 20, 37-46).
    """
    _paired(a, b)
    [kappa] = _kappas(_confusions(a, b, None).sum(axis=0, keepdims=True))
    return kappa


def cohen_kappa_ci(
    a: Sequence[Hashable], b: Sequence[Hashable], clusters: Sequence[Hashable] | None = None
) -> Interval | None:
    """Return the jackknife interval of Cohen's kappa with whole clusters as units; None with fewer than two clusters.

    Plus and minus t standard errors on the scale of Fisher's z, so that it stays within [-1, 1]. If the raters always
    agree there is no spread: the lower bound is then that of Wilson's interval with the number of clusters as n,
    corrected for the observed chance agreement. Source: Efron and Tibshirani 1993, chapter 11.
    """
    n = _paired(a, b)
    tables = _confusions(a, b, clusters)
    total, n_clusters = tables.sum(axis=0), len(tables)
    [kappa] = _kappas(total[None])
    if n_clusters < 2 or kappa is None:
        return None
    if all(x == y for x, y in zip(a, b, strict=True)):
        by_chance = sum(count**2 for count in Counter(a).values()) / n**2
        lowest = wilson_ci(n_clusters, n_clusters)[0]
        return max(-1.0, (lowest - by_chance) / (1 - by_chance)), 1.0
    return jackknifed(kappa, _kappas(total - tables), n_clusters)


def quadratic_kappa(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Return Cohen's kappa with quadratic weights of two raters' numbers, in [-1, 1].

    1 less the mean squared difference over the one expected by chance; of numbers that are 0 or 1 it is the plain
    kappa. None if both raters gave a single, equal number throughout. Raises ValueError for empty lists or lists of
    different lengths. Source: Cohen 1968 (Psychol. Bull. 70, 213-220); it is Lin's concordance correlation (1989).
    """
    _paired(a, b)
    [kappa] = _concordances(np.array([a], dtype=np.float64), np.array([b], dtype=np.float64))
    return kappa


def quadratic_kappa_ci(
    a: Sequence[float], b: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> Interval | None:
    """Return the jackknife interval of :func:`quadratic_kappa`, as :func:`cohen_kappa_ci`; None without any spread."""
    numbers = cluster_numbers(_paired(a, b), clusters)
    both = np.array([a, b], dtype=np.float64)
    n_clusters, [kappa] = int(numbers.max()) + 1, _concordances(*both[:, None])
    if n_clusters < 2 or kappa is None:
        return None
    return jackknifed(kappa, _concordances_without_each(both, numbers), n_clusters)


def _concordances_without_each(both: NDArray[np.float64], numbers: NDArray[np.intp]) -> list[float | None]:
    """Return the concordances without each cluster; ``both`` are the raters' numbers, (2, n)."""
    sizes = np.bincount(numbers)
    found: list[float | None] = [None] * sizes.size
    rows = max(1, _CELLS_IN_CACHE // numbers.size)
    # Clusters of one size leave as many numbers, so that they are the rows of one table.
    for alike in (np.flatnonzero(sizes == size) for size in np.unique(sizes)):
        for some in (alike[start : start + rows] for start in range(0, alike.size, rows)):
            kept = numbers != some[:, None]
            a, b = (np.broadcast_to(one, kept.shape)[kept].reshape(some.size, -1) for one in both)
            for cluster, value in zip(some, _concordances(a, b), strict=True):
                found[cluster] = value
    return found


def _concordances(a: NDArray[np.float64], b: NDArray[np.float64]) -> list[float | None]:
    """Return Lin's concordance of each row, None without any spread."""
    by_chance = a.var(axis=1) + b.var(axis=1) + (a.mean(axis=1) - b.mean(axis=1)) ** 2
    apart = ((a - b) ** 2).mean(axis=1)
    return [None if y < NO_SPREAD else 1 - x / y for x, y in zip(apart.tolist(), by_chance.tolist(), strict=True)]


def jackknifed(value: float, each: Sequence[float | None], n_clusters: int) -> Interval | None:
    """Return the interval of a figure in [-1, 1] from those without one cluster each, on the scale of Fisher's z."""
    left_out = [one for one in each if one is not None]
    scale = np.arctanh(np.clip(left_out, -_LARGEST_KAPPA, _LARGEST_KAPPA))
    if len(scale) < 2:
        return None
    stderr = math.sqrt((len(scale) - 1) / len(scale) * float(((scale - scale.mean()) ** 2).sum()))
    if stderr < NO_SPREAD:
        return None
    low, high = student_ci(math.atanh(max(-_LARGEST_KAPPA, min(_LARGEST_KAPPA, value))), stderr, n_clusters - 1)
    return math.tanh(low), math.tanh(high)


def _confusions(
    a: Sequence[Hashable], b: Sequence[Hashable], clusters: Sequence[Hashable] | None
) -> NDArray[np.float64]:
    """Return the table of label pairs of each cluster, (clusters, labels, labels)."""
    numbers = cluster_numbers(len(a), clusters)
    labels = {label: i for i, label in enumerate(dict.fromkeys([*a, *b]))}
    tables = np.zeros((int(numbers.max()) + 1, len(labels), len(labels)))
    np.add.at(tables, (numbers, np.array([labels[x] for x in a]), np.array([labels[y] for y in b])), 1.0)
    return tables


def _kappas(tables: NDArray[np.float64]) -> list[float | None]:
    """Return Cohen's kappa of each table of counts, (tables, labels, labels); None where it is undefined."""
    alike = np.trace(tables, axis1=1, axis2=2)
    products = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1)
    found: list[float | None] = []
    for n, same, product in np.stack([tables.sum(axis=(1, 2)), alike, products], axis=1).tolist():
        by_chance = product / n**2 if n > 0 else 1.0
        found.append(None if by_chance >= 1 else (same / n - by_chance) / (1 - by_chance))
    return found


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
