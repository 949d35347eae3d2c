"""Bradley-Terry strengths against definitions and a general optimizer, and the coverage of their intervals."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import binom

from judges.bradley_terry import bradley_terry, rank_by_prompts, wins_by_prompt
from judges.preference import verdicts_from_ratings
from judges.types import Unscored
from judges.verdicts import PairVerdict

A, B, T, U = PairVerdict("a", 1.0), PairVerdict("b", 0.0), PairVerdict("tie", 0.5), Unscored("no_verdict")


def test_bradley_terry_of_two_models_is_the_log_odds():
    result = bradley_terry([[0, 30], [10, 0]])
    gap = math.log(3)
    # Var(logit) = 1/30 + 1/10; under the sum-to-zero constraint each strength is half the gap.
    stderr = math.sqrt(1 / 30 + 1 / 10) / 2
    assert result.strengths == pytest.approx((gap / 2, -gap / 2))
    assert result.stderrs == pytest.approx((stderr, stderr))
    assert result.intervals[0] == pytest.approx((gap / 2 - 1.959964 * stderr, gap / 2 + 1.959964 * stderr), abs=1e-6)


WINS = np.array([[0, 12, 20, 9], [8, 0, 11.5, 7], [4, 6.5, 0, 3], [5, 9, 13, 0]])


def test_bradley_terry_matches_a_general_optimizer():
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
    """Wins, with ties as halves, of integer ratings from 1 to 10: the table of ``score preferences``."""
    rated = np.clip(np.round(7 + 2 * rng.normal(size=(n_models, n_prompts))), 1, 10)
    above, equal = rated[:, None] > rated[None], rated[:, None] == rated[None]
    return (above + equal / 2).sum(axis=2) * ~np.eye(n_models, dtype=bool)


@pytest.mark.parametrize("n_models", [2, 5, 16, 20])
def test_standard_errors_match_the_contrasts_with_one_model_held_fixed(n_models):
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


def test_pseudo_ties_make_a_clean_sweep_finite_but_do_not_connect_models():
    result = bradley_terry([[0, 5], [0, 0]], pseudo_ties=1.0)
    assert result.strengths[0] - result.strengths[1] == pytest.approx(math.log(5.5 / 0.5))
    assert bradley_terry([[0, 0], [0, 0]], pseudo_ties=1.0) is None


def test_a_lopsided_table_still_converges():
    result = bradley_terry([[0, 1e6, 1], [1, 0, 1e6], [1, 1, 0]])
    assert all(math.isfinite(value) for value in (*result.strengths, *result.stderrs))


@pytest.mark.parametrize("wins", [[], [[0]], [[0, 1]], [[0, -1], [1, 0]], [[0, math.nan], [1, 0]]])
def test_an_invalid_table_is_rejected(wins):
    with pytest.raises(ValueError, match="expected"):
        bradley_terry(wins)


def test_the_table_is_not_changed():
    wins = np.array([[7.0, 3.0], [2.0, 7.0]])
    bradley_terry(wins, pseudo_ties=1.0)
    assert wins.tolist() == [[7.0, 3.0], [2.0, 7.0]]


def verdicts_of(rated):
    """Convert ratings (models, prompts) into the names and verdicts of a comparison."""
    names = [str(i) for i in range(len(rated))]
    return names, {
        (a, b): verdicts_from_ratings(list(rated[int(a)]), list(rated[int(b)])) for a, b in combinations(names, 2)
    }


def covers(truth, intervals):
    return [low <= value <= high for value, (low, high) in zip(truth, intervals, strict=True)]


def test_wins_by_prompt_by_hand():
    wins = wins_by_prompt(["x", "y", "z"], {("x", "y"): [A, T, U, U], ("z", "x"): [A, A, U, B]})
    # The third prompt has no verdict at all.
    assert wins.tolist() == [
        [[0, 1, 0], [0, 0, 0], [1, 0, 0]],
        [[0, 0.5, 0], [0.5, 0, 0], [1, 0, 0]],
        [[0, 0, 1], [0, 0, 0], [0, 0, 0]],
    ]


def test_intervals_over_prompts_cover_the_truth_where_those_of_independent_games_do_not():
    # Ten models that answer equally well: every strength is 0.
    rng = np.random.default_rng(0)
    over_prompts, of_games = [], []
    for _ in range(40):
        names, pairs = verdicts_of(rng.normal(size=(10, 80)))
        over_prompts += covers([0] * 10, rank_by_prompts(names, pairs, n_boot=200).intervals)
        of_games += covers([0] * 10, bradley_terry(wins_by_prompt(names, pairs).sum(axis=0).tolist()).intervals)
    assert 0.9 <= np.mean(over_prompts) <= 0.98
    assert np.mean(of_games) < 0.8


def test_intervals_over_prompts_cover_the_strengths_of_unequal_models():
    rng = np.random.default_rng(1)
    levels = np.array([[0.8], [0.0], [-0.4], [-0.4]])
    many = levels + rng.normal(size=(4, 400_000))
    truth = bradley_terry((many[:, None] > many[None]).sum(axis=2).tolist()).strengths
    held = []
    for _ in range(100):
        held += covers(truth, rank_by_prompts(*verdicts_of(levels + rng.normal(size=(4, 60))), n_boot=200).intervals)
    assert 0.9 <= np.mean(held) <= 0.98


def test_two_models_have_the_log_odds_of_the_win_rate():
    ranking = rank_by_prompts(["x", "y"], {("x", "y"): [A] * 240 + [B] * 160})
    assert ranking.strengths[0] == pytest.approx(math.log(240 / 160) / 2)
    shares = binom(400, 0.6).ppf([0.025, 0.975]) / 400
    assert ranking.intervals[0] == pytest.approx(np.log(shares / (1 - shares)) / 2, abs=0.015)


def test_negating_all_ratings_mirrors_the_ranking():
    rated = np.random.default_rng(2).integers(1, 11, size=(5, 40))
    here, there = (rank_by_prompts(*verdicts_of(each), n_boot=100) for each in (rated, -rated))
    assert there.strengths == pytest.approx([-value for value in here.strengths], abs=1e-8)
    for (low, high), (other_low, other_high) in zip(here.intervals, there.intervals, strict=True):
        assert (-other_high, -other_low) == pytest.approx((low, high), abs=1e-8)


def test_a_model_that_always_wins_gets_ties_and_an_interval():
    ranking = rank_by_prompts(["x", "y"], {("x", "y"): [A] * 20})
    assert ranking.added_ties == 1.0
    assert ranking.strengths[0] == pytest.approx(math.log(20.5 / 0.5) / 2)
    # The prompts do not differ, so the normal interval applies: Var(logit) = 1/20.5 + 1/0.5.
    half = 1.959964 * math.sqrt(1 / 20.5 + 1 / 0.5) / 2
    assert ranking.intervals[0] == pytest.approx((ranking.strengths[0] - half, ranking.strengths[0] + half), abs=1e-6)


def test_one_loss_does_not_give_a_lower_upper_bound_than_no_loss():
    # A third of the draws have no loss and end at 10.5 to 0.5; the normal interval has Var(logit) = 1/9 + 1/1.
    ranking = rank_by_prompts(["x", "y"], {("x", "y"): [A] * 9 + [B]})
    assert ranking.added_ties == 0.0
    assert ranking.intervals[0][1] == pytest.approx((math.log(9) + 1.959964 * math.sqrt(1 / 9 + 1)) / 2)
    uppers = [rank_by_prompts(["x", "y"], {("x", "y"): [A] * k + [B] * (10 - k)}).intervals[0][1] for k in range(5, 11)]
    assert uppers == sorted(uppers)


@pytest.mark.parametrize(("n", "chance"), [(10, 0.97), (20, 0.98), (20, 0.6), (40, 0.9)])
def test_intervals_cover_the_truth_near_a_clean_sweep_too(n, chance):
    truth = math.log(chance / (1 - chance)) / 2
    held = 0.0
    for k in range(n + 1):
        low, high = rank_by_prompts(["x", "y"], {("x", "y"): [A] * k + [B] * (n - k)}, n_boot=300).intervals[0]
        held += binom(n, chance).pmf(k) * (low <= truth <= high)
    assert held > 0.9


def test_only_ties_do_not_give_a_zero_width_interval():
    ranking = rank_by_prompts(["x", "y"], {("x", "y"): [T] * 80})
    half = 1.959964 * math.sqrt(1 / 40 + 1 / 40) / 2
    assert ranking.intervals[0] == pytest.approx((-half, half), abs=1e-6)


def test_one_prompt_has_no_interval_and_no_verdict_no_ranking():
    one = rank_by_prompts(["x", "y", "z"], {("x", "y"): [A, U], ("y", "z"): [A, U], ("x", "z"): [B, U]})
    assert one.strengths == pytest.approx((0, 0, 0))
    assert one.intervals == (None, None, None)
    assert rank_by_prompts(["x", "y"], {("x", "y"): [U, U]}) is None
    assert rank_by_prompts(["x", "y", "z"], {("x", "y"): [A, B]}) is None
