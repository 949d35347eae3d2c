"""Several models against one reference: differences that hold although the best was picked after looking.

Pure. Source: Hothorn, Bretz and Westfall 2008 (Biometrical Journal 50, 346-363), the single-step test by the largest of
several correlated t statistics; with one group of items per model it is Dunnett's (1955, JASA 50, 1096-1121). Here all
models are marked on the same items, and the correlation of the differences is estimated from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from judges.paired import ALPHA, Difference, Floats, paired_difference

DRAWS = 50_000
"""Draws of the largest statistic; a p-value has a standard error of at most 0.0022."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """A model minus the reference. ``p_value`` and ``ci95`` hold for all compared models together.

    ``ci95`` is None where no item differs from another.
    """

    difference: Difference
    p_value: float
    ci95: tuple[float, float] | None


def against_reference(
    marks: Floats, reference: int, clusters: NDArray[np.intp] | None = None
) -> dict[int, Corrected] | None:
    """Compare every row of ``marks`` (models by items, NaN: not marked) with the row ``reference``, by row.

    Only items that all rows are marked on count. ``clusters`` numbers the items' contexts. None where fewer than two
    items, or contexts, are left.
    """
    there = ~np.isnan(marks).any(axis=0)
    known = marks[:, there]
    owners = np.arange(known.shape[1]) if clusters is None else clusters[there]
    _, numbers = np.unique(owners, return_inverse=True)
    others = [row for row in range(len(marks)) if row != reference]
    found = {row: paired_difference(known[row], known[reference], numbers.tolist()) for row in others}
    differences = {row: one for row, one in found.items() if one is not None}
    if len(differences) < len(others) or not others:
        return None
    varied = [row for row in others if differences[row].stderr > 0]
    largest, critical = np.zeros(0), 0.0
    if len(varied) > 1:
        gaps = known[varied] - known[reference]
        gaps = gaps - gaps.mean(axis=1, keepdims=True)
        sums = np.stack([np.bincount(numbers, weights=gap) for gap in gaps])
        correlation = np.corrcoef(sums).astype(np.float64)
        largest = largest_statistics(correlation, sums.shape[1] - 1)
        critical = float(np.quantile(largest, 1 - ALPHA))
    return {row: _corrected(differences[row], largest, critical, len(others)) for row in others}


def _corrected(difference: Difference, largest: Floats, critical: float, n_compared: int) -> Corrected:
    if difference.stderr == 0:
        # Without any spread there is no t statistic; Bonferroni holds for every test.
        return Corrected(difference, min(1.0, n_compared * difference.p_value), None)
    if not largest.size:
        return Corrected(difference, min(1.0, n_compared * difference.p_value), difference.ci95)
    statistic = abs(difference.value / difference.stderr)
    p_value = (1 + int((largest >= statistic).sum())) / (1 + largest.size)
    half = critical * difference.stderr
    ends = (difference.value - half, difference.value + half)
    # Far out the draws say little, and Bonferroni's bound, which always holds, is the smaller one.
    p_value = min(max(p_value, difference.p_value), n_compared * difference.p_value)
    return Corrected(difference, p_value, ends)


def largest_statistics(correlation: Floats, df: int, *, draws: int = DRAWS) -> Floats:
    """Draw the largest absolute value of correlated t statistics with ``df`` degrees of freedom, where nothing differs.

    ``correlation`` is theirs, square. The seed is fixed, so that a report is the same each time.
    """
    rng = np.random.default_rng(0)
    normal = rng.multivariate_normal(np.zeros(len(correlation)), correlation, size=draws, method="eigh")
    scale = np.sqrt(rng.chisquare(df, size=draws) / df)
    result: Floats = np.abs(normal).max(axis=1) / scale
    return result
