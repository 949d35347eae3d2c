"""Preference rates, flips and position bias, from verdicts and from ratings."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.preference import (
    PairCounts,
    count_verdicts,
    flip_count_of_verdicts,
    position_bias,
    verdicts_from_ratings,
)
from judges.statistics import proportion_ci
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict

ratings = st.lists(st.one_of(st.none(), st.integers(1, 10)), min_size=5, max_size=5)
A, B, T, U = PairVerdict("a", 1.0), PairVerdict("b", 0.0), PairVerdict("tie", 0.5), Unscored("no_verdict")


def count(a, b):
    return count_verdicts(verdicts_from_ratings(a, b))


def flips(dgm, own, other):
    return flip_count_of_verdicts(
        verdicts_from_ratings(dgm, other), verdicts_from_ratings(other, own), verdicts_from_ratings(dgm, own)
    )


def test_counts_of_verdicts_by_hand():
    assert count_verdicts([A, B, A, T, U]) == PairCounts(wins_a=2, wins_b=1, ties=1, unscored=1)


def test_counts_and_rates_of_ratings_by_hand():
    counts = count([9, 5, None, 7, 3, None], [8, 5, 4, 9, 2, None])
    assert counts == PairCounts(wins_a=2, wins_b=1, ties=1, unscored=2)
    assert counts.rates() == (2 / 4, 1 / 4)
    assert counts.rates(as_published=True) == (2 / 6, 1 / 6)


def test_no_questions_give_no_rate():
    assert count([], []).rates() is None
    assert count([None], [3]).rates() is None
    assert count([None], [3]).rates(as_published=True) == (0.0, 0.0)


def test_lists_of_different_lengths_are_rejected():
    with pytest.raises(ValueError, match="ratings of 1 and 2 questions"):
        verdicts_from_ratings([1], [1, 2])
    with pytest.raises(ValueError, match="different questions"):
        flip_count_of_verdicts([A], [A, A], [A])


@given(ratings, ratings)
def test_swapping_the_models_mirrors_the_counts(a, b):
    here, there = count(a, b), count(b, a)
    assert (here.wins_a, here.wins_b) == (there.wins_b, there.wins_a)
    assert (here.ties, here.unscored) == (there.ties, there.unscored)
    assert here.n_scored + here.unscored == len(a)
    if here.rates() is None:
        assert there.rates() is None
    else:
        assert here.rates() == there.rates()[::-1]


@pytest.mark.parametrize(
    ("dgm", "other", "own", "n_flips"),
    [(9, 7, 5, 1), (9, 5, 7, 0), (7, 9, 5, 0), (9, 9, 5, 0), (9, 5, 5, 0), (None, 7, 5, 0), (9, None, 5, 0)],
)
def test_a_flip_is_a_strict_order_of_all_three(dgm, other, own, n_flips):
    assert flips([dgm], [own], [other]) == n_flips


def test_a_flip_needs_all_three_verdicts():
    assert flip_count_of_verdicts([A], [A], [A]) == 1
    for weak in (B, T, U):
        assert flip_count_of_verdicts([weak], [A], [A]) == 0
        assert flip_count_of_verdicts([A], [weak], [A]) == 0
        # Verdicts may be cyclic; ratings cannot.
        assert flip_count_of_verdicts([A], [A], [weak]) == 0


@given(ratings, ratings, ratings)
def test_a_flip_is_a_win_over_each(dgm, own, other):
    n_flips = flips(dgm, own, other)
    assert n_flips <= count(dgm, other).wins_a
    assert n_flips <= count(other, own).wins_a
    # The same question cannot have two different strict orders.
    assert n_flips + flips(dgm, other, own) <= len(dgm)


def test_the_papers_first_turn_ratings(shared):
    with (shared / "reference" / "paper" / "turn1_ratings_l8.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    l70, q72 = ([float(row[name]) if row[name] else None for row in rows] for name in ("L8B:L70", "L8B:Q72"))
    counts = count(l70, q72)
    assert (counts.wins_a, counts.wins_b) == (18, 32)
    assert counts.rates(as_published=True) == (0.225, 0.4)
    assert counts.unscored == sum(x is None or y is None for x, y in zip(l70, q72, strict=True)) > 0
    assert counts.rates()[1] == 32 / counts.n_scored


def test_position_bias_by_hand():
    games = [Game(0.9), Game(0.6), Game(0.2), Game(0.5), U]
    bias = position_bias(games, ["p1", "p1", "p2", "p2", "p3"])
    assert bias.first_rate == (1 + 1 + 0 + 0.5) / 4
    assert bias.mean_first == pytest.approx((0.9 + 0.6 + 0.2 + 0.5) / 4)
    assert bias.n_games == 4
    assert bias.ci95 == proportion_ci([1, 1, 0, 0.5], ["p1", "p1", "p2", "p2"])
    assert position_bias([U]) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_judge_without_position_bias_has_none(preferences):
    # The same preference for an answer in both orders.
    games = [game for p in preferences for game in (Game(p), Game(1 - p))]
    assert position_bias(games).mean_first == pytest.approx(0.5)
