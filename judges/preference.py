"""Preference rates and flip counts between models, as the paper defines them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from judges.labels import MASS_FLOOR, MASS_HALF
from judges.statistics import Interval, proportion_ci
from judges.types import Unscored
from judges.verdicts import POINTS, Game, PairVerdict, Winner

Ratings = Sequence[float | None]
"""One model's ratings, one per question in a fixed order; None where missing."""


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
        """Return both preference rates in [0, 1], a's first; None without questions.

        The denominator is the number of scored questions; with ``as_published`` unscored ones are
        included. Ties count for neither, so the two rates need not add up to 1.
        """
        n = self.n_scored + (self.unscored if as_published else 0)
        return (self.wins_a / n, self.wins_b / n) if n else None


Verdicts = Sequence[PairVerdict | Unscored]
"""One pair's verdicts, one per question in a fixed order."""


def count_verdicts(verdicts: Verdicts) -> PairCounts:
    """Count wins and ties; a question without a verdict is unscored."""
    winners = [verdict.winner for verdict in verdicts if isinstance(verdict, PairVerdict)]
    return PairCounts(
        winners.count("a"), winners.count("b"), winners.count("tie"), unscored=len(verdicts) - len(winners)
    )


def verdicts_from_ratings(a: Ratings, b: Ratings) -> list[PairVerdict | Unscored]:
    """Convert two models' ratings into verdicts: the strictly higher rating wins, equal ones tie.

    A missing rating is ``Unscored("no_rating")``. Raises ValueError for lists of different lengths.
    Source: the paper, section 3 and Table 4.
    """
    if len(a) != len(b):
        raise ValueError(f"ratings of {len(a)} and {len(b)} questions; expected the same questions")
    return [_compare(x, y) for x, y in zip(a, b, strict=True)]


def _compare(x: float | None, y: float | None) -> PairVerdict | Unscored:
    if x is None or y is None:
        return Unscored("no_rating", "a rating is missing")
    winner: Winner = "a" if x > y else "b" if y > x else "tie"
    return PairVerdict(winner, POINTS[winner])


def flip_count_of_verdicts(dgm_over_other: Verdicts, other_over_own: Verdicts, dgm_over_own: Verdicts) -> int:
    """Count the questions where a data generating model beats another model's SFT, which beats its own SFT.

    ``own`` is the SFT trained on the DGM's answers, ``other`` one trained on another model's. Each list
    has the expected winner as side a. Verdicts, unlike ratings, need not be transitive, so all three
    are required. A question that lacks any of the three does not count. Raises ValueError for lists of
    different lengths. Source: FlipCt of the paper, section 3 and Table 4.
    """
    lists = (dgm_over_other, other_over_own, dgm_over_own)
    if len({len(verdicts) for verdicts in lists}) > 1:
        raise ValueError("verdicts on different questions; expected the same questions for all three pairs")
    return sum(all(isinstance(v, PairVerdict) and v.winner == "a" for v in row) for row in zip(*lists, strict=True))


def judging_figures(games: Sequence[Game | Unscored]) -> dict[str, Any]:
    """Return how the judge replied: mean and least label mass (None without probabilities), and counts of games."""
    played = [game for game in games if isinstance(game, Game)]
    masses = [game.mass for game in played if game.mass is not None]
    return {
        "n_games": len(games),
        "unscored": len(games) - len(played),
        "label_mass": sum(masses) / len(masses) if masses else None,
        "least_label_mass": min(masses, default=None),
        "in_words": sum(game.in_words for game in played),
        "closed_by_guide": sum(game.closed_by_guide for game in played),
        "contradictions": sum(game.contradicts for game in played),
        "shortened": sum(game.shortened for game in played),
    }


def judging_notes(figures: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the verdicts must know about how they came about."""
    notes = []
    if (mass := figures["label_mass"]) is not None and mass < MASS_HALF:
        notes.append(f"the labels have {mass:.1%} of the probability on average: the judge tends to write other text")
    if n := figures["in_words"]:
        notes.append(f"{n} games were asked again in words: the labels had less than {MASS_FLOOR:.0%}")
    if n := figures["closed_by_guide"]:
        closed = f"{n} of {figures['n_games']} verdicts were completed under guided output"
        notes.append(f"{closed}: the text had none in the required form")
    if n := figures["contradictions"]:
        notes.append(f"{n} of these contradict the text before")
    if n := figures["shortened"]:
        notes.append(f"{n} games were judged on answers cut in the middle to fit the context")
    return notes


@dataclass(frozen=True, slots=True)
class PositionBias:
    """How often a judge prefers the answer shown first, over games in both orders; 0.5 means no bias.

    ``first_rate`` counts verdicts (a tie is one half), ``mean_first`` averages the judge's own
    preference for the first answer; both lie in [0, 1].
    """

    first_rate: float
    ci95: Interval | None
    mean_first: float
    n_games: int


def position_bias(games: Sequence[Game | Unscored], clusters: Sequence[Hashable] | None = None) -> PositionBias | None:
    """Measure the preference for the first position; the interval is by ``clusters`` (prompts).

    The games must contain both orders of each pair, otherwise answer quality confounds the figure. None
    without a judged game. Raises ValueError if clusters and games differ in number.
    """
    names = list(range(len(games))) if clusters is None else list(clusters)
    played = [(game.first, name) for game, name in zip(games, names, strict=True) if isinstance(game, Game)]
    if not played:
        return None
    firsts = [1.0 if first > 0.5 else 0.0 if first < 0.5 else 0.5 for first, _ in played]
    interval = proportion_ci(firsts, [name for _, name in played])
    n = len(played)
    return PositionBias(sum(firsts) / n, interval, sum(first for first, _ in played) / n, n)
