import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.preference import PairCounts, count_preferences, flip_count, preference_rate

ratings = st.lists(st.one_of(st.none(), st.integers(1, 10)), min_size=5, max_size=5)


def test_counts_and_rates_by_hand():
    a, b = [9, 5, None, 7, 3, None], [8, 5, 4, 9, 2, None]
    assert count_preferences(a, b) == PairCounts(wins_a=2, wins_b=1, ties=1, unscored=2)
    assert preference_rate(a, b) == 2 / 4
    assert preference_rate(b, a) == 1 / 4
    assert preference_rate(a, b, as_published=True) == 2 / 6


def test_no_questions_give_no_rate():
    assert preference_rate([], []) is None
    assert preference_rate([None], [3]) is None
    assert preference_rate([None], [3], as_published=True) == 0.0


def test_lists_of_different_questions_are_refused():
    with pytest.raises(ValueError, match="ratings of 1, 2 questions"):
        count_preferences([1], [1, 2])
    with pytest.raises(ValueError, match="ratings of 1, 1, 2 questions"):
        flip_count([1], [1], [1, 2])


@given(ratings, ratings)
def test_swapping_the_models_mirrors_the_counts(a, b):
    here, there = count_preferences(a, b), count_preferences(b, a)
    assert (here.wins_a, here.wins_b) == (there.wins_b, there.wins_a)
    assert (here.ties, here.unscored) == (there.ties, there.unscored)
    assert here.n_scored + here.unscored == len(a)
    assert preference_rate(a, b) == (there.rates()[1] if there.rates() else None)


@pytest.mark.parametrize(
    ("dgm", "other", "own", "flips"),
    [(9, 7, 5, 1), (9, 5, 7, 0), (7, 9, 5, 0), (9, 9, 5, 0), (9, 5, 5, 0), (None, 7, 5, 0), (9, None, 5, 0)],
)
def test_a_flip_is_a_strict_order_of_all_three(dgm, other, own, flips):
    assert flip_count([dgm], [own], [other]) == flips


@given(ratings, ratings, ratings)
def test_a_flip_is_a_win_over_each(dgm, own, other):
    flips = flip_count(dgm, own, other)
    assert flips <= count_preferences(dgm, other).wins_a
    assert flips <= count_preferences(other, own).wins_a
    # The order cannot be strict in two different ways on the same question.
    assert flips + flip_count(dgm, other, own) <= len(dgm)


def test_the_papers_first_turn_ratings(shared):
    with (shared / "reference" / "paper" / "turn1_ratings_l8.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 80
    l70, q72 = ([float(row[name]) if row[name] else None for row in rows] for name in ("L8B:L70", "L8B:Q72"))
    counts = count_preferences(l70, q72)
    assert (counts.wins_a, counts.wins_b) == (18, 32)
    assert preference_rate(l70, q72, as_published=True) == 0.225
    assert preference_rate(q72, l70, as_published=True) == 0.4
    assert counts.unscored == sum(x is None or y is None for x, y in zip(l70, q72, strict=True)) > 0
    assert preference_rate(q72, l70) == 32 / counts.n_scored
