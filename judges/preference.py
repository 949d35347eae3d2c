"""Who is preferred over whom: rates and flips as the paper defines them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from judges.statistics import Interval, proportion_ci
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict, Winner

Ratings = Sequence[float | None]
"""One model's ratings, one a question in a fixed order; None where there is none."""


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How often each of two models is strictly preferred; ``unscored`` questions have no verdict."""

    wins_a: int
    wins_b: int
    ties: int
    unscored: int

    @property
    def n_scored(self) -> int:
        """Questions with a verdict."""
        return self.wins_a + self.wins_b + self.ties

    def rates(self, *, as_published: bool = False) -> tuple[float, float] | None:
        """Return both preference rates in [0, 1], a's first; None when there is no question to divide by.

        The denominator is the scored questions; ``as_published`` takes all of them, unscored ones
        included. Ties count for neither, so the two rates need not add up to 1.
        """
        n = self.n_scored + (self.unscored if as_published else 0)
        return (self.wins_a / n, self.wins_b / n) if n else None


def _same_questions(*ratings: Ratings) -> None:
    lengths = [len(each) for each in ratings]
    if len(set(lengths)) > 1:
        raise ValueError(f"ratings of {', '.join(map(str, lengths))} questions; expected the same questions for all")


def count_preferences(a: Ratings, b: Ratings) -> PairCounts:
    """Count the questions on which each model has the strictly higher rating.

    Raises ValueError for lists of different lengths. Source: the paper, section 3 and Table 4.
    """
    _same_questions(a, b)
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    wins_a, wins_b = sum(x > y for x, y in pairs), sum(y > x for x, y in pairs)
    return PairCounts(wins_a, wins_b, len(pairs) - wins_a - wins_b, len(a) - len(pairs))


def preference_rate(y: Ratings, x: Ratings, *, as_published: bool = False) -> float | None:
    """Return the rate, in [0, 1], at which Y is strictly preferred over X; ties count for neither.

    Over the questions with both ratings, or over all of them ``as_published``; None when there are
    none. Raises ValueError for lists of different lengths. Source: the paper, section 3 and Table 4.
    """
    rates = count_preferences(y, x).rates(as_published=as_published)
    return None if rates is None else rates[0]


def flip_count(dgm: Ratings, own: Ratings, other: Ratings) -> int:
    """Count the questions where the data generating model beats the other SFT, which beats its own.

    ``own`` is the SFT trained on the DGM's answers, ``other`` the one trained on another's. A
    question counts when the ratings order strictly as ``dgm > other > own``; one without all
    three ratings does not. Raises ValueError for lists of different lengths.
    Source: FlipCt of the paper, section 3 and Table 4.
    """
    _same_questions(dgm, own, other)
    rows = zip(dgm, other, own, strict=True)
    return sum(d > o > s for d, o, s in rows if d is not None and o is not None and s is not None)


Verdicts = Sequence[PairVerdict | Unscored]
"""One pair's verdicts, one a question in a fixed order."""


def count_verdicts(verdicts: Verdicts) -> PairCounts:
    """Count who won; a question without a verdict is unscored."""
    winners = [verdict.winner for verdict in verdicts if isinstance(verdict, PairVerdict)]
    return PairCounts(
        winners.count("a"), winners.count("b"), winners.count("tie"), unscored=len(verdicts) - len(winners)
    )


def verdicts_from_ratings(a: Ratings, b: Ratings) -> list[PairVerdict | Unscored]:
    """Turn two models' ratings into verdicts: the strictly higher one wins, equal ones tie.

    A missing rating is ``Unscored("no_rating")``. Raises ValueError for lists of different lengths.
    """
    _same_questions(a, b)
    return [_compare(x, y) for x, y in zip(a, b, strict=True)]


def _compare(x: float | None, y: float | None) -> PairVerdict | Unscored:
    if x is None or y is None:
        return Unscored("no_rating", "a rating is missing")
    winner: Winner = "a" if x > y else "b" if y > x else "tie"
    return PairVerdict(winner, {"a": 1.0, "b": 0.0, "tie": 0.5}[winner])


def flip_count_of_verdicts(dgm_over_other: Verdicts, other_over_own: Verdicts, dgm_over_own: Verdicts) -> int:
    """Count the questions where pairwise verdicts order strictly as DGM > other SFT > own SFT.

    Each list has the named winner as side a. Ratings are transitive, verdicts need not be: so all
    three must say so. A question without one of the three does not count. Raises ValueError for
    lists of different lengths. Source: FlipCt as in :func:`flip_count`, on pairwise verdicts.
    """
    lists = (dgm_over_other, other_over_own, dgm_over_own)
    if len({len(verdicts) for verdicts in lists}) > 1:
        raise ValueError("verdicts on different questions; expected the same questions for all three pairs")
    return sum(all(isinstance(v, PairVerdict) and v.winner == "a" for v in row) for row in zip(*lists, strict=True))


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How far a judge prefers what stands first, over games in both orders; 0.5 is no bias.

    ``first_rate`` counts verdicts (a tie is one half), ``mean_first`` averages the judge's own
    preference for the first answer; both lie in [0, 1].
    """

    first_rate: float
    interval: Interval | None
    mean_first: float
    n_games: int


def position_bias(
    games: Sequence[Game | Unscored], clusters: Sequence[Hashable] | None = None, *, seed: int = 0
) -> PositionBias | None:
    """Measure the preference for the first place; the interval draws whole ``clusters`` (prompts) anew.

    Both orders of a pair must be among the games, else the answers' quality is in the figure. None
    without a judged game. Raises ValueError when clusters and games differ in number.
    """
    names = list(range(len(games))) if clusters is None else list(clusters)
    played = [(game.first, name) for game, name in zip(games, names, strict=True) if isinstance(game, Game)]
    if not played:
        return None
    firsts = [1.0 if first > 0.5 else 0.0 if first < 0.5 else 0.5 for first, _ in played]
    interval = proportion_ci(firsts, [name for _, name in played], seed=seed)
    n = len(played)
    return PositionBias(sum(firsts) / n, interval, sum(first for first, _ in played) / n, n)
