"""Medians of ratios with an interval, for benchmarks that alternate two ways."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from scipy.stats import binom

COVERAGE = 0.95


def summary(ratios: Sequence[float]) -> str:
    """Return the median, its interval and n in words.

    The interval is that of order statistics, which assumes nothing of the distribution: the narrowest symmetric pair
    that covers the true median with at least 95 %; below six ratios there is none.
    """
    ordered, n = sorted(ratios), len(ratios)
    median = f"{statistics.median(ordered):.2f}"
    ranks = [rank for rank in range(n // 2) if 1 - 2 * binom.cdf(rank, n, 0.5) >= COVERAGE]
    if not ranks:
        return f"{median} ({ordered[0]:.2f} to {ordered[-1]:.2f}, n = {n}, too few for an interval)"
    low, high = ordered[ranks[-1]], ordered[n - 1 - ranks[-1]]
    return f"{median} [{low:.2f}, {high:.2f}], n = {n}, {1 - 2 * binom.cdf(ranks[-1], n, 0.5):.0%} interval"
