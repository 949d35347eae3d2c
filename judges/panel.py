"""A panel of judges: its verdict, how far its members agree, and whether one favours its own answers.

Members may have weights, one for each and in their order: all alike, or by what a card says of each
(:func:`weight_by_accuracy`). More than half of the members must give a verdict, whatever their weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from judges.statistics import (
    NO_SPREAD,
    Interval,
    cluster_numbers,
    cohen_kappa,
    cohen_kappa_ci,
    jackknifed,
    mean_ci,
    quadratic_kappa,
    quadratic_kappa_ci,
    sign_test_exact,
)
from judges.types import Unscored
from judges.verdicts import PairVerdict, Winner, check_margin, points_of, winner_of

Votes = Sequence[PairVerdict | Unscored]
"""One game's verdicts, one per judge in a fixed order."""

DISPUTED = 0.2
"""Judges disagree on an item if their marks differ by more than this share of the best mark. Our choice."""

_SUREST = 0.99
_WINNERS: tuple[Winner, ...] = get_args(Winner)

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two judges agree on the games that both decided: the share, Cohen's kappa and its interval."""

    n: int
    share: float | None
    kappa: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class MarksAgreement:
    """How far judges agree on the marks of items.

    ``alpha`` is Krippendorff's with squared differences, ``alpha_interval`` by cluster, ``disputed`` the places of the
    items on which they disagree (:data:`DISPUTED`), ``pairs`` the agreement of every pair of judges by their places:
    kappa has quadratic weights.
    """

    n: int
    alpha: float | None
    alpha_interval: Interval | None
    disputed: tuple[int, ...]
    pairs: Mapping[tuple[int, int], Agreement]


def weight_by_accuracy(accuracy: float) -> float:
    """Return the weight of a judge that is right this often (0 to 1): its log-odds, 0 at chance or below.

    So weighted, independent judges are right most often together. Accuracies count up to 0.99, so that no judge
    decides alone. Source: Nitzan and Paroush 1982 (Int. Econ. Rev. 23, 289-297).
    """
    sure = min(accuracy, _SUREST)
    return math.log(sure / (1 - sure)) if sure > 0.5 else 0.0


def panel_majority(votes: Votes, weights: Sequence[float] | None = None) -> PairVerdict | Unscored:
    """Return the majority verdict of a panel of judges; a tie if no side has more than half of the votes' weight.

    Judges without a verdict do not vote; unless more than half of the panel vote, it has none (``no_quorum``).
    ``preference_a`` is the mean of the votes (a tie counts one half), and ``position_flip`` that of more than half of
    the verdicts. Raises ValueError for an empty panel.
    """
    given = given_values(votes, weights)
    if isinstance(given, Unscored):
        return given
    side = majority([(vote.winner, weight) for vote, weight in given])
    preference = weighted_mean([(points_of(vote), weight) for vote, weight in given])
    return _panel_verdict(side or "tie", preference, [vote for vote, _ in given])


def panel_mean(votes: Votes, *, margin: float = 0.0, weights: Sequence[float] | None = None) -> PairVerdict | Unscored:
    """Return the verdict of the mean preference; flips and missing verdicts as in :func:`panel_majority`."""
    check_margin(margin)
    given = given_values(votes, weights)
    if isinstance(given, Unscored):
        return given
    mean = weighted_mean([(vote.preference_a, weight) for vote, weight in given])
    return _panel_verdict(winner_of(mean, margin=margin), mean, [vote for vote, _ in given])


def _panel_verdict(winner: Winner, preference: float, votes: Sequence[PairVerdict]) -> PairVerdict:
    flips = 2 * sum(vote.position_flip for vote in votes) > len(votes)
    return PairVerdict(winner, preference, flips, all(vote.identical for vote in votes))


def weighted_mean(values: Sequence[tuple[float, float]]) -> float:
    """Return the mean of (value, weight); plain where the weights are all 0."""
    total = math.fsum(weight for _, weight in values)
    if total <= 0:
        return math.fsum(value for value, _ in values) / len(values)
    return math.fsum(value * weight for value, weight in values) / total


def majority(values: Sequence[tuple[V, float]]) -> V | None:
    """Return the one of (value, weight) with more than half of the weight, None without one."""
    weights: dict[V, float] = {}
    for value, weight in values:
        weights[value] = weights.get(value, 0.0) + weight
    total = math.fsum(weights.values())
    return next((value for value, weight in weights.items() if 2 * weight > total * (1 + NO_SPREAD)), None)


def given_values(
    values: Sequence[V | Unscored], weights: Sequence[float] | None = None
) -> list[tuple[V, float]] | Unscored:
    """Return (value, weight) of the judges that gave one; Unscored unless more than half of them did.

    Raises ValueError for an empty panel.
    """
    if not values:
        raise ValueError("no verdicts; expected one per judge")
    weighed = zip(values, weights or [1.0] * len(values), strict=True)
    given = [(value, weight) for value, weight in weighed if not isinstance(value, Unscored)]
    missing = [value for value in values if isinstance(value, Unscored)]
    if not given:
        return missing[0]
    if 2 * len(given) <= len(values):
        return Unscored("no_quorum", f"{len(given)} of {len(values)} judges gave a verdict")
    return given


def disagrees(votes: Votes) -> bool:
    """Return whether the judges that gave a verdict name different winners."""
    return len({vote.winner for vote in votes if isinstance(vote, PairVerdict)}) > 1


def krippendorff_alpha(
    games: Sequence[Votes], clusters: Sequence[Hashable] | None = None
) -> tuple[float | None, Interval | None]:
    """Return Krippendorff's alpha of the winners (a, b, tie: nominal) and its interval by cluster.

    At most 1; 0 is agreement by chance. A game with fewer than two verdicts says nothing. None without such games, and
    if all verdicts are the same; the interval as in :func:`judges.statistics.jackknifed`, None also where all agree.
    Source: Krippendorff 2011, Computing Krippendorff's alpha-reliability, section C.
    """
    counts = [
        [sum(winner == vote.winner for vote in votes if isinstance(vote, PairVerdict)) for winner in _WINNERS]
        for votes in games
    ]
    return _alpha(np.array(counts, dtype=np.float64).reshape(-1, len(_WINNERS)), _unlike, clusters)


def marks_agreement(
    marks: Sequence[Sequence[float | None]], clusters: Sequence[Hashable], *, best: float
) -> MarksAgreement:
    """Return how far judges agree: ``marks`` has one per judge of each item, None where it gave none.

    ``best`` is the best mark. Intervals are by cluster. Raises ValueError without any item.
    """
    rows = [[mark for mark in row if mark is not None] for row in marks]
    pairs = {}
    for i, j in combinations(range(len(marks[0]) if marks else 0), 2):
        two = [(row[i], row[j], name) for row, name in zip(marks, clusters, strict=True)]
        both = [(x, y, name) for x, y, name in two if x is not None and y is not None]
        pairs[i, j] = _marks_kappa(both, best)
    disputed = [i for i, row in enumerate(rows) if row and max(row) - min(row) > DISPUTED * best + NO_SPREAD]
    # Centred, so that the powers cancel without a loss of digits.
    centre = fmean(known) if (known := [mark for row in rows for mark in row]) else 0.0
    powers = [[sum((mark - centre) ** power for mark in row) for power in range(3)] for row in rows]
    alpha, interval = _alpha(np.array(powers, dtype=np.float64).reshape(-1, 3), _squared, clusters)
    return MarksAgreement(sum(len(row) > 1 for row in rows), alpha, interval, tuple(disputed), pairs)


def _marks_kappa(both: Sequence[tuple[float, float, Hashable]], best: float) -> Agreement:
    if not both:
        return Agreement(0, None, None, None)
    a, b, names = zip(*both, strict=True)
    near = sum(abs(x - y) <= DISPUTED * best + NO_SPREAD for x, y, _ in both)
    return Agreement(len(both), near / len(both), quadratic_kappa(a, b), quadratic_kappa_ci(a, b, names))


def _alpha(
    units: NDArray[np.float64],
    unlike: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    clusters: Sequence[Hashable] | None,
) -> tuple[float | None, Interval | None]:
    """Return Krippendorff's alpha and its jackknife interval with whole clusters as units.

    ``units`` has sums over the values of each unit, which are the sums of several units when added up; ``unlike`` gives
    (number of values, sum of the differences of all ordered pairs of them) from such sums.
    """
    sizes, differences = unlike(units)
    keep = sizes > 1
    if not keep.any():
        return None, None
    names = None if clusters is None else [name for name, kept in zip(clusters, keep, strict=True) if kept]
    numbers = cluster_numbers(int(keep.sum()), names)
    within = differences[keep] / (sizes[keep] - 1)
    sums = np.stack([np.bincount(numbers, weights=column) for column in (within, *units[keep].T)], axis=1)

    def alpha(total: NDArray[np.float64]) -> list[float | None]:
        n, apart = unlike(total[:, 1:])
        return [
            None if one <= NO_SPREAD or count < 2 else 1 - inside / count / (one / (count * (count - 1)))
            for inside, count, one in zip(total[:, 0], n, apart, strict=True)
        ]

    total = sums.sum(axis=0)
    [value] = alpha(total[None])
    if value is None or len(sums) < 2:
        return value, None
    return value, jackknifed(value, alpha(total - sums), len(sums))


def judges_agreement(one: Votes, other: Votes, clusters: Sequence[Hashable] | None = None) -> Agreement:
    """Return how far two judges agree on the same games, each with a verdict of both; the interval is by cluster."""
    names = range(len(one)) if clusters is None else clusters
    both = [
        (x.winner, y.winner, name)
        for x, y, name in zip(one, other, names, strict=True)
        if isinstance(x, PairVerdict) and isinstance(y, PairVerdict)
    ]
    if not both:
        return Agreement(0, None, None, None)
    a, b, kept = ([row[k] for row in both] for k in range(3))
    share = sum(x == y for x, y, _ in both) / len(both)
    return Agreement(len(both), share, cohen_kappa(a, b), cohen_kappa_ci(a, b, kept))


def own_preference(
    own: str,
    judge: int,
    games: Mapping[tuple[str, str], Sequence[Votes]],
    clusters: Sequence[Hashable],
) -> tuple[float | None, Interval | None]:
    """Return how much more often judge number ``judge`` lets the model ``own`` win than the others do.

    ``games`` are by pair, with the panel's votes per prompt; only those of ``own`` count. The difference lies in
    [-1, 1], a tie counting one half, over the games with a verdict of the judge and of another one; its interval is by
    cluster.
    """
    differences: list[float] = []
    kept: list[Hashable] = []
    for pair, rows in games.items():
        if own not in pair:
            continue
        for votes, cluster in zip(rows, clusters, strict=True):
            points = {
                number: points_of(vote) if pair[0] == own else 1 - points_of(vote)
                for number, vote in enumerate(votes)
                if isinstance(vote, PairVerdict)
            }
            mine = points.pop(judge, None)
            if mine is not None and points:
                differences.append(mine - sum(points.values()) / len(points))
                kept.append(cluster)
    if not differences:
        return None, None
    return sum(differences) / len(differences), mean_ci(differences, kept)


def paired_difference(
    mine: Mapping[str, float], theirs: Mapping[str, float], clusters: Mapping[str, Hashable]
) -> tuple[int, float | None, Interval | None, float]:
    """Compare two judges on the labelled pairs that both decided, by what each got right (0 to 1) by pair.

    Returns (pairs, my mean minus theirs, its interval by cluster, the exact sign test's p-value over clusters).
    """
    common = [pair for pair in mine if pair in theirs]
    if not common:
        return 0, None, None, 1.0
    differences = [mine[pair] - theirs[pair] for pair in common]
    by_cluster: dict[Hashable, float] = {}
    for pair, difference in zip(common, differences, strict=True):
        by_cluster[clusters[pair]] = by_cluster.get(clusters[pair], 0.0) + difference
    better = sum(value > NO_SPREAD for value in by_cluster.values())
    worse = sum(value < -NO_SPREAD for value in by_cluster.values())
    interval = mean_ci(differences, [clusters[pair] for pair in common])
    return len(common), sum(differences) / len(common), interval, sign_test_exact(better, worse)


def _unlike(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (number of verdicts, ordered pairs of them that are not alike) from the counts of each winner."""
    n = counts.sum(axis=1)
    return np.stack([n, n * n - (counts**2).sum(axis=1)])


def _squared(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (number of marks, sum of squared differences of their ordered pairs) from their powers 0 to 2."""
    n, first, second = sums.T
    return np.stack([n, np.maximum(0.0, 2 * (n * second - first**2))])
