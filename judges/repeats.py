"""Several answers to each item: what their mean is worth, pass@k and maj@k. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import fmean, variance
from typing import NamedTuple

from judges.statistics import clustered_stderr

_PAYS = 1.05


class Spread(NamedTuple):
    """The variance of one answer's mark in two parts, of items and of draws within an item.

    ``stderr_one`` and ``stderr`` are the standard errors of a suite's mean with one draw per item, and with those that
    there are. ``pays`` is the number of draws that brings the standard error within 5 % of that of infinitely many;
    None where the draws alone make the items differ.
    """

    between: float
    within: float
    stderr_one: float
    stderr: float
    pays: int | None


def spread(marks: Sequence[Sequence[float]], clusters: Sequence[Hashable] | None = None) -> Spread | None:
    """Split the variance of marks, one sequence of draws per item, by one-way analysis of variance.

    An item with one draw is answered the same way every time, so it varies with the items alone. The variance between
    items is that of the items' means minus the part due to draws, at least 0. Where items share a cluster, more draws
    do not reduce the variance that they share. None for fewer than two items with a draw.
    """
    kept = [place for place, own in enumerate(marks) if own]
    if len(kept) < 2:
        return None
    drawn, n = [marks[place] for place in kept], len(kept)
    within = [variance(own) if len(own) > 1 else 0.0 for own in drawn]
    in_means = fmean(own / len(draws) for own, draws in zip(within, drawn, strict=True))
    means, inside = list(map(fmean, drawn)), fmean(within)
    of_means = variance(means)
    of_clusters = clustered_stderr(means, [clusters[place] for place in kept]) if clusters is not None else None
    of_mean = of_means if of_clusters is None else n * of_clusters**2
    # Rounding leaves a tiny difference between equal numbers, which is not variance.
    between, lasting = (one - in_means if one - in_means > 1e-12 * one else 0.0 for one in (of_means, of_mean))
    pays = None
    if inside <= 1e-12:
        pays = 1
    elif lasting > 0:
        pays = max(1, math.ceil(inside / lasting / (_PAYS**2 - 1)))
    return Spread(between, inside, math.sqrt((lasting + inside) / n), math.sqrt(of_mean / n), pays)


def pass_at_k(n: int, right: int, k: int) -> float:
    """Return the chance that one of k answers is right, from ``right`` of n: 1 - C(n - right, k) / C(n, k), unbiased.

    Source: Chen et al. 2021 (2107.03374), equation 1. Raises ValueError for k outside 1 to n.
    """
    _check(n, k)
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def majority_at_k(votes: Sequence[Hashable], right: Hashable, k: int) -> float:
    """Return the chance that the most frequent of k of these answers is the right one, over all subsets of size k.

    Ties are broken at random, so that k = 1 is the share of right answers. Exact: it counts the subsets by how often
    each answer is in them. Raises ValueError for k outside 1 to the number of answers.
    """
    _check(len(votes), k)
    counts = Counter(votes)
    own = counts.pop(right, 0)
    total = 0.0
    for n_right in range(1, min(own, k) + 1):
        # ways[m, t]: subsets of m wrong answers in which none is more frequent than the right one, and t are as
        # frequent.
        ways: dict[tuple[int, int], int] = {(0, 0): 1}
        for count in counts.values():
            longer: Counter[tuple[int, int]] = Counter()
            for (size, ties), number in ways.items():
                for taken in range(min(count, n_right, k - n_right - size) + 1):
                    longer[size + taken, ties + (taken == n_right)] += number * math.comb(count, taken)
            ways = longer
        for (size, ties), number in ways.items():
            if size == k - n_right:
                total += math.comb(own, n_right) * number / (ties + 1)
    return total / math.comb(len(votes), k)


def _check(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; with {n} answers it must be between 1 and {n}")
