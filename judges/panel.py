"""A panel of judges: its verdict, how far its members agree, and whether one favours its own answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from judges.statistics import NO_SPREAD, Interval, cohen_kappa, cohen_kappa_ci, mean_ci, sign_test_exact
from judges.types import Unscored
from judges.verdicts import PairVerdict, Winner, check_margin, points_of, winner_of

Votes = Sequence[PairVerdict | Unscored]
"""One game's verdicts, one per judge in a fixed order."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two judges agree on the games that both decided: the share, Cohen's kappa and its interval."""

    n: int
    share: float | None
    kappa: float | None
    interval: Interval | None


def panel_majority(votes: Votes) -> PairVerdict | Unscored:
    """Return the majority verdict of a panel of judges; a tie if no side has more than half of the votes.

    Judges without a verdict do not vote; unless more than half of the panel vote, it has none (``no_quorum``).
    ``preference_a`` is the mean of the votes (a tie counts one half), and ``position_flip`` that of more than half of
    the verdicts. Raises ValueError for an empty panel.
    """
    given = _given(votes)
    if isinstance(given, Unscored):
        return given
    n = len(given)
    wins = {side: sum(vote.winner == side for vote in given) for side in ("a", "b")}
    winner: Winner = "a" if 2 * wins["a"] > n else "b" if 2 * wins["b"] > n else "tie"
    preference = sum(map(points_of, given)) / n
    return PairVerdict(winner, preference, 2 * sum(v.position_flip for v in given) > n, all(v.identical for v in given))


def panel_mean(votes: Votes, *, margin: float = 0.0) -> PairVerdict | Unscored:
    """Return the verdict of the mean preference; flips and missing verdicts as in :func:`panel_majority`."""
    check_margin(margin)
    given = _given(votes)
    if isinstance(given, Unscored):
        return given
    mean = sum(vote.preference_a for vote in given) / len(given)
    flips = 2 * sum(vote.position_flip for vote in given) > len(given)
    return PairVerdict(winner_of(mean, margin=margin), mean, flips, all(vote.identical for vote in given))


def disagrees(votes: Votes) -> bool:
    """Return whether the judges that gave a verdict name different winners."""
    return len({vote.winner for vote in votes if isinstance(vote, PairVerdict)}) > 1


def krippendorff_alpha(games: Sequence[Votes]) -> float | None:
    """Return Krippendorff's alpha of the winners (a, b, tie: nominal), at most 1; 0 is agreement by chance.

    A game with fewer than two verdicts says nothing. None without such games, and if all verdicts are the same.
    Source: Krippendorff 2011, Computing Krippendorff's alpha-reliability, section C.
    """
    units = [[vote.winner for vote in votes if isinstance(vote, PairVerdict)] for votes in games]
    units = [winners for winners in units if len(winners) > 1]
    totals = Counter(winner for winners in units for winner in winners)
    n = sum(totals.values())
    if len(totals) < 2:
        return None
    observed = sum(_unlike(Counter(winners)) / (len(winners) - 1) for winners in units) / n
    return 1 - observed / (_unlike(totals) / (n * (n - 1)))


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


def _unlike(counts: Counter[Winner]) -> int:
    """Return the ordered pairs of verdicts that are not alike."""
    n = sum(counts.values())
    return n * n - sum(count * count for count in counts.values())


def _given(votes: Votes) -> list[PairVerdict] | Unscored:
    if not votes:
        raise ValueError("no verdicts; expected one per judge")
    given = [vote for vote in votes if isinstance(vote, PairVerdict)]
    missing = [vote for vote in votes if isinstance(vote, Unscored)]
    if not given:
        return missing[0]
    if 2 * len(given) <= len(votes):
        return Unscored("no_quorum", f"{len(given)} of {len(votes)} judges gave a verdict")
    return given
