"""Counts, flips and position bias from verdicts; ratings give the same as the rating functions do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.preference import (
    PairCounts,
    count_preferences,
    count_verdicts,
    flip_count,
    flip_count_of_verdicts,
    position_bias,
    verdicts_from_ratings,
)
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict

ratings = st.lists(st.one_of(st.none(), st.integers(1, 4)), min_size=6, max_size=6)
A, B, T, U = PairVerdict("a", 1.0), PairVerdict("b", 0.0), PairVerdict("tie", 0.5), Unscored("no_verdict")


def test_counts_by_hand():
    assert count_verdicts([A, B, A, T, U]) == PairCounts(wins_a=2, wins_b=1, ties=1, unscored=1)


@given(ratings, ratings)
def test_verdicts_from_ratings_count_as_the_ratings_do(a, b):
    assert count_verdicts(verdicts_from_ratings(a, b)) == count_preferences(a, b)


@given(ratings, ratings, ratings)
def test_flips_of_verdicts_are_flips_of_ratings(dgm, own, other):
    flips = flip_count_of_verdicts(
        verdicts_from_ratings(dgm, other), verdicts_from_ratings(other, own), verdicts_from_ratings(dgm, own)
    )
    assert flips == flip_count(dgm, own, other)


def test_a_flip_needs_all_three_verdicts():
    assert flip_count_of_verdicts([A], [A], [A]) == 1
    for weak in (B, T, U):
        assert flip_count_of_verdicts([weak], [A], [A]) == 0
        assert flip_count_of_verdicts([A], [weak], [A]) == 0
        # Verdicts may run in a circle; ratings cannot.
        assert flip_count_of_verdicts([A], [A], [weak]) == 0
    with pytest.raises(ValueError, match="different questions"):
        flip_count_of_verdicts([A], [A, A], [A])


def test_position_bias_by_hand():
    games = [Game(0.9), Game(0.6), Game(0.2), Game(0.5), U]
    bias = position_bias(games, ["p1", "p1", "p2", "p2", "p3"])
    assert bias.first_rate == (1 + 1 + 0 + 0.5) / 4
    assert bias.mean_first == pytest.approx((0.9 + 0.6 + 0.2 + 0.5) / 4)
    assert bias.n_games == 4
    # Two prompts: a replicate holds one of them twice or both, so its mean is 1, 0.25 or 0.625.
    assert bias.interval == (0.25, 1.0)
    assert position_bias([U]) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_judge_without_position_bias_has_none(preferences):
    # The same preference for an answer in both orders.
    games = [game for p in preferences for game in (Game(p), Game(1 - p))]
    assert position_bias(games).mean_first == pytest.approx(0.5)
