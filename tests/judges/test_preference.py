import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from judges.preference import PairCounts, bradley_terry, count_preferences, flip_count, preference_rate

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


def test_bradley_terry_of_two_models_is_the_log_odds():
    result = bradley_terry([[0, 30], [10, 0]])
    gap = math.log(3)
    # Var(logit) = 1/30 + 1/10; under the sum-to-zero constraint each strength is half the gap.
    stderr = math.sqrt(1 / 30 + 1 / 10) / 2
    assert result.strengths == pytest.approx((gap / 2, -gap / 2))
    assert result.stderrs == pytest.approx((stderr, stderr))
    assert result.intervals[0] == pytest.approx((gap / 2 - 1.959964 * stderr, gap / 2 + 1.959964 * stderr), abs=1e-6)


WINS = np.array([[0, 12, 20, 9], [8, 0, 11.5, 7], [4, 6.5, 0, 3], [5, 9, 13, 0]])


def test_bradley_terry_is_the_maximum_that_a_general_optimizer_finds():
    def loss(theta):
        gaps = theta[:, None] - theta[None, :]
        return float((WINS * np.logaddexp(0, -gaps)).sum() + theta.sum() ** 2)

    expected = minimize(loss, np.zeros(4), tol=1e-12).x
    assert bradley_terry(WINS.tolist()).strengths == pytest.approx(expected, abs=1e-4)


counts = st.integers(1, 50)


@given(st.lists(counts, min_size=12, max_size=12))
def test_expected_wins_are_the_observed_wins(flat):
    wins = np.zeros((4, 4))
    wins[~np.eye(4, dtype=bool)] = flat
    result = bradley_terry(wins.tolist())
    strengths = np.array(result.strengths)
    chance = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    np.fill_diagonal(chance, 0)
    assert ((wins + wins.T) * chance).sum(axis=1) == pytest.approx(wins.sum(axis=1), rel=1e-6)
    assert strengths.sum() == pytest.approx(0, abs=1e-9)
    order = [2, 0, 3, 1]
    moved = bradley_terry(wins[np.ix_(order, order)].tolist())
    assert moved.strengths == pytest.approx([result.strengths[i] for i in order], abs=1e-6)
    mirrored = bradley_terry(wins.T.tolist())
    assert mirrored.strengths == pytest.approx([-s for s in result.strengths], abs=1e-6)
    assert mirrored.stderrs == pytest.approx(result.stderrs, rel=1e-6)


def test_bradley_terry_standard_errors_cover():
    truth = np.array([0.6, 0.0, -0.6])
    chance = 1 / (1 + np.exp(truth[None, :] - truth[:, None]))
    rng = np.random.default_rng(0)
    hits = trials = 0
    for _ in range(200):
        wins = np.zeros((3, 3))
        for i, j in ((0, 1), (0, 2), (1, 2)):
            wins[i, j] = rng.binomial(60, chance[i, j])
            wins[j, i] = 60 - wins[i, j]
        for value, (low, high) in zip(truth, bradley_terry(wins.tolist()).intervals, strict=True):
            hits, trials = hits + (low <= value <= high), trials + 1
    assert 0.92 <= hits / trials <= 0.98


def table_of_ratings(rng, n_models, n_prompts=80):
    """Wins, ties as halves, of whole ratings from 1 to 10: the table of ``score preferences``."""
    rated = np.clip(np.round(7 + 2 * rng.normal(size=(n_models, n_prompts))), 1, 10)
    above, equal = rated[:, None] > rated[None], rated[:, None] == rated[None]
    return (above + equal / 2).sum(axis=2) * ~np.eye(n_models, dtype=bool)


@pytest.mark.parametrize("n_models", [2, 5, 16, 20])
def test_standard_errors_are_those_of_the_contrasts_with_one_model_held_fixed(n_models):
    rng = np.random.default_rng(n_models)
    for _ in range(50):
        wins = table_of_ratings(rng, n_models)
        result = bradley_terry(wins.tolist())
        gaps = np.subtract.outer(result.strengths, result.strengths)
        weights = (wins + wins.T) / (2 + 2 * np.cosh(gaps))
        information = np.diag(weights.sum(axis=1)) - weights
        held = np.zeros((n_models, n_models))
        held[1:, 1:] = np.linalg.inv(information[1:, 1:])
        centred = np.eye(n_models) - 1 / n_models
        expected = np.sqrt(np.diag(centred @ held @ centred))
        assert result.stderrs == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "wins",
    [
        [[0, 5], [0, 0]],
        [[0, 0], [0, 0]],
        [[0, 3, 4], [2, 0, 1], [0, 0, 0]],
        [[0, 3, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]],
    ],
)
def test_without_a_finite_maximum_there_is_no_ranking(wins):
    assert bradley_terry(wins) is None


def test_pseudo_ties_make_a_clean_sweep_finite_but_invent_no_meeting():
    result = bradley_terry([[0, 5], [0, 0]], pseudo_ties=1.0)
    assert result.strengths[0] - result.strengths[1] == pytest.approx(math.log(5.5 / 0.5))
    assert bradley_terry([[0, 0], [0, 0]], pseudo_ties=1.0) is None


def test_a_lopsided_table_still_converges():
    result = bradley_terry([[0, 1e6, 1], [1, 0, 1e6], [1, 1, 0]])
    assert all(math.isfinite(value) for value in (*result.strengths, *result.stderrs))


@pytest.mark.parametrize("wins", [[], [[0]], [[0, 1]], [[0, -1], [1, 0]], [[0, math.nan], [1, 0]]])
def test_a_table_that_makes_no_sense_is_refused(wins):
    with pytest.raises(ValueError, match="expected"):
        bradley_terry(wins)


def test_the_table_is_not_changed():
    wins = np.array([[7.0, 3.0], [2.0, 7.0]])
    bradley_terry(wins, pseudo_ties=1.0)
    assert wins.tolist() == [[7.0, 3.0], [2.0, 7.0]]
