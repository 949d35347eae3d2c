"""Bradley-Terry strengths against definitions and a general optimizer, and the coverage of their intervals."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import binom

from judges.bradley_terry import cycles, decided_groups, rank_by_prompts, tie_model
from judges.preference import verdicts_from_ratings
from judges.statistics import normal_ci
from judges.types import Unscored
from judges.verdicts import PairVerdict

A, B, T, U = PairVerdict("a", 1.0), PairVerdict("b", 0.0), PairVerdict("tie", 0.5), Unscored("no_verdict")
FLIP, LEANS_A = PairVerdict("tie", 0.5, position_flip=True), PairVerdict("tie", 0.75, half_tie=True)


def bradley_terry(wins, *, pseudo_ties=0.0):
    """The model without ties: Bradley and Terry's."""
    table = np.array(wins, dtype=float)
    return tie_model(table, np.zeros_like(table), pseudo_ties=pseudo_ties)


def stderrs_of(model):
    """The standard errors of the strengths, for independent games."""
    return np.sqrt(np.diag(model.covariance)[: len(model.strengths)])


def test_bradley_terry_of_two_models_is_the_log_odds():
    result = bradley_terry([[0, 30], [10, 0]])
    gap = math.log(3)
    # Var(logit) = 1/30 + 1/10; under the sum-to-zero constraint each strength is half the gap.
    stderr = math.sqrt(1 / 30 + 1 / 10) / 2
    assert result.strengths == pytest.approx((gap / 2, -gap / 2))
    assert stderrs_of(result) == pytest.approx((stderr, stderr))


def test_two_models_with_ties_are_the_odds_of_the_decided_games_and_the_ties_have_their_own():
    # Davidson 1970: p_1 / p_2 = 30 / 10, and p_tie / sqrt(p_1 p_2) = 60 / sqrt(300).
    result = tie_model(np.array([[0.0, 30], [10, 0]]), np.array([[0.0, 60], [60, 0]]))
    assert result.strengths == pytest.approx((math.log(3) / 2, -math.log(3) / 2))
    assert result.tie == pytest.approx(math.log(60 / math.sqrt(300)))


def test_the_tie_model_matches_a_general_optimizer():
    ties = np.array([[0, 5, 2, 7], [5, 0, 9, 1], [2, 9, 0, 4], [7, 1, 4, 0.0]])

    def loss(parameters):
        worth, nu = np.exp(parameters[:4]), math.exp(parameters[4])
        value = 0.0
        for i, j in combinations(range(4), 2):
            total = worth[i] + worth[j] + nu * math.sqrt(worth[i] * worth[j])
            value -= WINS[i, j] * math.log(worth[i] / total) + WINS[j, i] * math.log(worth[j] / total)
            value -= ties[i, j] * math.log(nu * math.sqrt(worth[i] * worth[j]) / total)
        return value + parameters[:4].sum() ** 2

    expected = minimize(loss, np.zeros(5), tol=1e-12).x
    result = tie_model(WINS, ties)
    assert result.strengths == pytest.approx(expected[:4], abs=1e-4)
    assert result.tie == pytest.approx(expected[4], abs=1e-4)


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
    assert stderrs_of(mirrored) == pytest.approx(stderrs_of(result), rel=1e-6)


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
        result = bradley_terry(wins)
        for value, estimate, stderr in zip(truth, result.strengths, stderrs_of(result), strict=True):
            low, high = normal_ci(estimate, stderr)
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
        gaps = np.subtract.outer(np.array(result.strengths), np.array(result.strengths))
        weights = (wins + wins.T) / (2 + 2 * np.cosh(gaps))
        information = np.diag(weights.sum(axis=1)) - weights
        held = np.zeros((n_models, n_models))
        held[1:, 1:] = np.linalg.inv(information[1:, 1:])
        centred = np.eye(n_models) - 1 / n_models
        expected = np.sqrt(np.diag(centred @ held @ centred))
        assert stderrs_of(result) == pytest.approx(expected, rel=1e-6)


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
    assert all(math.isfinite(value) for value in (*result.strengths, *stderrs_of(result)))


@pytest.mark.parametrize("wins", [[[0]], [[0, 1]], [[0, -1], [1, 0]], [[0, math.nan], [1, 0]]])
def test_an_invalid_table_is_rejected(wins):
    with pytest.raises(ValueError, match="expected"):
        bradley_terry(wins)


def test_the_table_is_not_changed():
    wins = np.array([[7.0, 3.0], [2.0, 7.0]])
    tie_model(wins, np.zeros((2, 2)), pseudo_ties=1.0)
    assert wins.tolist() == [[7.0, 3.0], [2.0, 7.0]]


def verdicts_of(rated):
    """Convert ratings (models, prompts) into the names and verdicts of a comparison."""
    names = [str(i) for i in range(len(rated))]
    return names, {
        (a, b): verdicts_from_ratings(list(rated[int(a)]), list(rated[int(b)])) for a, b in combinations(names, 2)
    }


def covers(truth, intervals):
    return [low <= value <= high for value, (low, high) in zip(truth, intervals, strict=True)]


def test_prompts_whose_scores_cancel_out_leave_no_interval_of_one_point():
    # The last model loses half of its games and ties the rest, on every one of the four prompts.
    rated = [[2, 2, 1, 1], [1, 1, 2, 2], [1, 1, 1, 1]]
    ranked = rank_by_prompts(*verdicts_of(rated))
    wins, ties = np.array([[0.0, 2, 2], [2, 0, 2], [0, 0, 0]]), np.array([[0.0, 0, 2], [0, 0, 2], [2, 2, 0]])
    alone = tie_model(wins, ties)
    assert ranked.intervals[2] == pytest.approx(normal_ci(alone.strengths[2], stderrs_of(alone)[2]))
    assert ranked.intervals[2][1] - ranked.intervals[2][0] > 1


def test_intervals_over_prompts_cover_the_truth_where_those_of_independent_games_do_not():
    # Ten models that answer equally well: every strength is 0.
    rng = np.random.default_rng(0)
    over_prompts, of_games = [], []
    for _ in range(60):
        rated = rng.normal(size=(10, 80))
        over_prompts += covers([0] * 10, rank_by_prompts(*verdicts_of(rated)).intervals)
        alone = bradley_terry((rated[:, None] > rated[None]).sum(axis=2))
        of_games += covers([0] * 10, [normal_ci(*one) for one in zip(alone.strengths, stderrs_of(alone), strict=True)])
    assert 0.93 <= np.mean(over_prompts) <= 0.97
    assert np.mean(of_games) < 0.8


def test_ties_do_not_shrink_the_strengths():
    few, many = (rank_by_prompts(["x", "y"], {("x", "y"): [A] * 30 + [B] * 10 + [T] * n_ties}) for n_ties in (0, 60))
    assert many.strengths == pytest.approx(few.strengths)
    assert few.strengths[0] == pytest.approx(math.log(3) / 2)
    assert many.intervals[0][1] == pytest.approx(few.intervals[0][1], abs=0.05)


def test_a_flip_is_a_win_each_and_a_half_tie_half_of_both():
    flips = rank_by_prompts(["x", "y"], {("x", "y"): [A] * 6 + [B] * 2 + [FLIP] * 4})
    assert flips.strengths[0] == pytest.approx(math.log(8 / 4) / 2)
    halves = rank_by_prompts(["x", "y"], {("x", "y"): [A] * 6 + [B] * 2 + [LEANS_A] * 4})
    assert halves.strengths[0] == pytest.approx(math.log(8 / 2) / 2)


def test_ranks_are_those_that_the_differences_allow():
    good, equal = [A] * 70 + [B] * 10, [A, B] * 40
    pairs = {("x", "y"): good, ("x", "z"): good, ("y", "z"): equal}
    ranking = rank_by_prompts(["x", "y", "z"], pairs)
    assert ranking.ranks == ((1, 1), (2, 3), (2, 3))
    gaps = {(one.a, one.b): one for one in ranking.differences}
    assert gaps["x", "y"].value == pytest.approx(ranking.strengths[0] - ranking.strengths[1])
    assert gaps["x", "y"].interval[0] > 0 > gaps["y", "z"].interval[0]


def test_models_that_beat_each_other_in_a_circle_are_named():
    circle = {("R", "P"): [B] * 30, ("R", "S"): [A] * 30, ("P", "S"): [B] * 30}
    [(models, p)] = cycles(circle)
    assert models == ("R", "S", "P"), "rock beats scissors, scissors beat paper, paper beats rock"
    assert p == pytest.approx(2 / 2**30)
    assert rank_by_prompts("RPS", circle).strengths == pytest.approx((0, 0, 0))
    assert cycles({**circle, ("P", "S"): [A] * 30}) == [], "P beats both, so there is no cycle"
    assert cycles({**circle, ("P", "S"): [A] * 14 + [B] * 16}) == [], "16 of 30 prove nothing"


def test_copies_of_a_prompt_are_one_observation():
    assert decided_groups([A, A, B, T, U]) == (2, 1)
    assert decided_groups([A, A, B, T, B], ["q", "q", "q", "q", "r"]) == (1, 1)
    once = rank_by_prompts(["x", "y"], {("x", "y"): [A] * 12 + [B] * 8})
    often = rank_by_prompts(["x", "y"], {("x", "y"): [A] * 120 + [B] * 80}, [n // 10 for n in range(200)])
    assert often.strengths == pytest.approx(once.strengths)
    assert often.intervals[0] == pytest.approx(once.intervals[0])


def test_two_models_have_the_log_odds_of_the_win_rate():
    ranking = rank_by_prompts(["x", "y"], {("x", "y"): [A] * 240 + [B] * 160})
    assert ranking.strengths[0] == pytest.approx(math.log(240 / 160) / 2)
    shares = binom(400, 0.6).ppf([0.025, 0.975]) / 400
    assert ranking.intervals[0] == pytest.approx(np.log(shares / (1 - shares)) / 2, abs=0.015)


def test_negating_all_ratings_mirrors_the_ranking():
    rated = np.random.default_rng(2).integers(1, 11, size=(5, 40))
    here, there = (rank_by_prompts(*verdicts_of(each)) for each in (rated, -rated))
    assert there.strengths == pytest.approx([-value for value in here.strengths], abs=1e-8)
    for (low, high), (other_low, other_high) in zip(here.intervals, there.intervals, strict=True):
        assert (-other_high, -other_low) == pytest.approx((low, high), abs=1e-8)


def test_a_model_that_always_wins_gets_ties_and_an_interval():
    ranking = rank_by_prompts(["x", "y"], {("x", "y"): [A] * 20})
    assert ranking.added_ties == 1.0
    assert ranking.strengths[0] == pytest.approx(math.log(20.5 / 0.5) / 2)
    # The prompts do not differ, so the interval of independent games applies: Var(logit) = 1/20.5 + 1/0.5.
    half = 1.959964 * math.sqrt(1 / 20.5 + 1 / 0.5) / 2
    assert ranking.intervals[0] == pytest.approx((ranking.strengths[0] - half, ranking.strengths[0] + half), abs=1e-6)


def test_one_loss_does_not_give_a_lower_upper_bound_than_no_loss():
    ranking = rank_by_prompts(["x", "y"], {("x", "y"): [A] * 9 + [B]})
    assert ranking.added_ties == 0.0
    # Var(logit) = 1/9 + 1/1 by game; times 10 / 9 and with Student's t of 9 degrees by prompt.
    assert ranking.intervals[0][1] == pytest.approx((math.log(9) + 2.262157 * math.sqrt((1 / 9 + 1) * 10 / 9)) / 2)
    uppers = [rank_by_prompts(["x", "y"], {("x", "y"): [A] * k + [B] * (10 - k)}).intervals[0][1] for k in range(5, 11)]
    assert uppers == sorted(uppers)


@pytest.mark.parametrize(("n", "chance"), [(10, 0.97), (20, 0.98), (20, 0.6), (40, 0.9)])
def test_intervals_cover_the_truth_near_a_clean_sweep_too(n, chance):
    truth = math.log(chance / (1 - chance)) / 2
    held = 0.0
    for k in range(n + 1):
        low, high = rank_by_prompts(["x", "y"], {("x", "y"): [A] * k + [B] * (n - k)}).intervals[0]
        held += binom(n, chance).pmf(k) * (low <= truth <= high)
    assert held > 0.9


@pytest.mark.parametrize(
    ("wins", "ties", "is_finite"),
    [
        # 0 never lost to 1 and 2, but tied with 2; the tie parameter follows from 1 and 2, who both won.
        ([(0, 1), (0, 2), (1, 2), (2, 1)], [(0, 2)], True),
        # A tie closes the circle of two wins, so no strengths can grow without a smaller likelihood.
        ([(0, 1), (1, 2)], [(0, 2)], True),
        # Two wins and two ties: all strengths and the tie parameter can grow together.
        ([(0, 1), (0, 2)], [(0, 1), (0, 2)], False),
        ([(0, 1)], [(0, 1)], False),
        ([(0, 1), (1, 0)], [(0, 1)], True),
        ([], [(0, 1)], False),
        # 2 never lost and never tied.
        ([(0, 1), (1, 0), (2, 0), (2, 1)], [(0, 1)], False),
    ],
)
def test_strengths_are_finite_exactly_where_the_likelihood_has_a_maximum(wins, ties, is_finite):
    n = 1 + max(max(pair) for pair in [*wins, *ties])
    won, tied = np.zeros((2, n, n))
    for i, j in wins:
        won[i, j] += 3
    for i, j in ties:
        tied[i, j] = tied[j, i] = 2
    model = tie_model(won, tied)
    assert (model is not None) == is_finite

    def loss(parameters):
        half = (parameters[:n, None] - parameters[None, :n]) / 2
        total = np.logaddexp(np.logaddexp(half, -half), parameters[n])
        return -float((won * (half - total)).sum() + (np.triu(tied) * (parameters[n] - total)).sum())

    far = minimize(loss, np.zeros(n + 1), method="BFGS").x
    spread = np.abs(far[:n] - far[:n].mean()).max()
    if is_finite:
        assert far[:n] - far[:n].mean() == pytest.approx(model.strengths, abs=1e-3)
    else:
        assert spread > 6 or abs(far[n]) > 6, "the general optimizer walks away"


def test_only_ties_do_not_give_a_zero_width_interval():
    ranking = rank_by_prompts(["x", "y"], {("x", "y"): [T] * 80})
    # Nothing was decided but the half win each that was added: Var(logit) = 1/0.5 + 1/0.5.
    half = 1.959964 * math.sqrt(4) / 2
    assert ranking.intervals[0] == pytest.approx((-half, half), abs=1e-6)


def test_one_prompt_has_no_interval_and_no_verdict_no_ranking():
    one = rank_by_prompts(["x", "y", "z"], {("x", "y"): [A, U], ("y", "z"): [A, U], ("x", "z"): [B, U]})
    assert one.strengths == pytest.approx((0, 0, 0))
    assert one.intervals == (None, None, None)
    assert rank_by_prompts(["x", "y"], {("x", "y"): [U, U]}) is None
    assert rank_by_prompts(["x", "y", "z"], {("x", "y"): [A, B]}) is None
