"""A panel's verdict, and how far its judges agree."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.panel import (
    disagrees,
    judges_agreement,
    krippendorff_alpha,
    marks_agreement,
    own_preference,
    paired_difference,
    panel_majority,
    panel_mean,
    weight_by_accuracy,
)
from judges.statistics import cohen_kappa_ci, jackknifed, mean_ci, sign_test_exact
from judges.types import Unscored
from judges.verdicts import IDENTICAL, PairVerdict, swap_pair

shares = st.floats(0, 1)
verdicts = st.builds(PairVerdict, st.sampled_from(["a", "b", "tie"]), shares, st.booleans())
missing = Unscored("no_verdict")

A, B, T = PairVerdict("a", 0.9), PairVerdict("b", 0.2), PairVerdict("tie", 0.5, position_flip=True)


@pytest.mark.parametrize(
    ("votes", "winner", "preference"),
    [
        ([A], "a", 1.0),
        ([A, A, B], "a", 2 / 3),
        ([A, B], "tie", 0.5),
        ([A, T], "tie", 0.75),
        ([A, T, B, A], "tie", 2.5 / 4),
        ([A, A, missing], "a", 1.0),
    ],
)
def test_a_majority_is_more_than_half(votes, winner, preference):
    verdict = panel_majority(votes)
    assert (verdict.winner, verdict.preference_a) == (winner, pytest.approx(preference))


def test_judges_may_weigh_differently():
    # 0.9 of weight 3 and 0.2 of weight 1 twice: 3.1 of 5.
    assert panel_majority([A, B, B], [3, 1, 1]).winner == "a"
    assert panel_majority([A, B, B], [2, 1, 1]).winner == "tie", "half of the weight is not more than half"
    assert panel_mean([A, B, B], weights=[3, 1, 1]).preference_a == pytest.approx(3.1 / 5)
    assert panel_mean([A, missing, missing], weights=[100, 1, 1]).reason == "no_quorum"


def test_weights_are_log_odds():
    # Nitzan and Paroush 1982: log(p / (1 - p)).
    assert weight_by_accuracy(0.75) == pytest.approx(math.log(3))
    assert weight_by_accuracy(0.5) == weight_by_accuracy(0.3) == 0.0
    assert weight_by_accuracy(1.0) == pytest.approx(math.log(99))


def test_agreement_on_marks_is_that_of_the_definitions():
    """Krippendorff 2011, section E: the interval alpha of his reliability data, 0.849."""
    table = [
        [1, 1, None, 1],
        [2, 2, 3, 2],
        [3, 3, 3, 3],
        [3, 3, 3, 3],
        [2, 2, 2, 2],
        [1, 2, 3, 4],
        [4, 4, 4, 4],
        [1, 1, 2, 1],
        [2, 2, 2, 2],
        [None, 5, 5, 5],
        [None, None, 1, 1],
        [None, None, 3, None],
    ]
    found = marks_agreement(table, range(12), best=5)
    assert found.alpha == pytest.approx(0.849, abs=5e-4)
    # Shifted far from 0, as ratings of another scale are, it is the same.
    shifted = [[None if mark is None else mark + 1e6 for mark in row] for row in table]
    assert marks_agreement(shifted, range(12), best=5).alpha == pytest.approx(found.alpha, abs=1e-9)
    assert found.alpha_interval[0] < found.alpha < found.alpha_interval[1]
    assert (found.n, found.disputed) == (11, (5,))
    assert found.pairs[0, 1].n == 9
    # Quadratic kappa of 0 and 1 is Cohen's: 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no is 0.4.
    yes_no = [[1, 1]] * 20 + [[1, 0]] * 5 + [[0, 1]] * 10 + [[0, 0]] * 15
    pair = marks_agreement(yes_no, range(50), best=1).pairs[0, 1]
    assert (pair.kappa, pair.share) == (pytest.approx(0.4), 0.7)
    low, high = cohen_kappa_ci(*zip(*yes_no, strict=True))
    assert pair.interval == (pytest.approx(low), pytest.approx(high))


def test_a_panel_without_any_verdict_keeps_the_reason():
    assert panel_majority([missing, Unscored("request_failed")]) is missing
    with pytest.raises(ValueError, match="no verdicts"):
        panel_mean([])


def test_the_panel_mean_weighs_by_confidence():
    verdict = panel_mean([A, B, B])
    assert verdict.preference_a == pytest.approx(1.3 / 3)
    assert verdict.winner == "b"
    assert panel_mean([A, PairVerdict("b", 0.1)]).winner == "tie"
    assert panel_mean([IDENTICAL, IDENTICAL]).identical


@given(st.lists(st.one_of(verdicts, st.just(missing)), min_size=1, max_size=5))
def test_panels_are_symmetric_in_the_models(votes):
    swapped = [swap_pair(vote) if isinstance(vote, PairVerdict) else vote for vote in votes]
    for panel in (panel_majority, panel_mean):
        here, there = panel(votes), panel(swapped)
        if isinstance(here, Unscored):
            assert here == there
        else:
            assert here.winner == swap_pair(there).winner


@pytest.mark.parametrize("votes", [[A, missing], [A, missing, missing], [A, B, missing, missing]])
def test_half_of_a_panel_or_less_is_no_verdict(votes):
    for panel in (panel_majority, panel_mean):
        assert panel(votes).reason == "no_quorum"


def test_alpha_of_a_published_table():
    # Krippendorff 2011, section A: ten units, two observers, binary; alpha is 0.095.
    first, second = "0100000010", "1110010000"
    games = [[A if value == "0" else B for value in pair] for pair in zip(first, second, strict=True)]
    assert krippendorff_alpha(games)[0] == pytest.approx(0.095, abs=5e-4)


def test_alpha_by_hand_with_missing_verdicts():
    games = [[A, A], [A, B], [B, B], [T, missing], [B, B]]
    # Pairable values: a a a b b b b b. Observed: 2 of 8 unlike. Expected: 2 * 3 * 5 of 8 * 7.
    assert krippendorff_alpha(games)[0] == pytest.approx(1 - (2 / 8) / (30 / 56))
    assert krippendorff_alpha([[A, A], [A, A]]) == (None, None)
    assert krippendorff_alpha([[A, missing]]) == (None, None)
    assert krippendorff_alpha([]) == (None, None)
    assert krippendorff_alpha([[A, A, A], [B, B, B]]) == (1.0, None)


def test_the_interval_of_alpha_leaves_out_whole_clusters():
    games = [[A, B], [A, A], [B, B], [B, T], [A, A], [T, T], [B, B], [A, missing], [A, B], [B, B]]
    clusters = "ppqqrrsstu"
    alpha, interval = krippendorff_alpha(games, clusters)
    left_out = [
        krippendorff_alpha([game for game, name in zip(games, clusters, strict=True) if name != one])[0]
        for one in dict.fromkeys(clusters)
    ]
    assert interval == pytest.approx(jackknifed(alpha, left_out, 6))
    assert interval[0] < alpha < interval[1]
    assert krippendorff_alpha(games, ["one"] * 10) == (alpha, None)


def test_two_judges_on_the_same_games():
    one, other = [A, A, B, T, missing, A], [A, B, B, T, A, missing]
    found = judges_agreement(one, other)
    assert (found.n, found.share) == (4, 3 / 4)
    # alike 3/4; by chance a: 2/4 * 1/4, b: 1/4 * 2/4, tie: 1/4 * 1/4 = 5/16
    assert found.kappa == pytest.approx((3 / 4 - 5 / 16) / (1 - 5 / 16))
    assert found.interval == cohen_kappa_ci(["a", "a", "b", "tie"], ["a", "b", "b", "tie"])
    assert judges_agreement([missing], [A]).share is None
    assert disagrees([A, B, missing])
    assert not disagrees([A, A, missing])


def test_a_judge_that_favours_its_own_answers():
    # Judge 0 wrote the answers of j: it lets them win always, the others in half of the games.
    rows = [[A, A, B], [A, B, B], [A, A, A], [A, B, A]]
    mirrored = [[swap_pair(vote) for vote in row] for row in rows]
    for games in ({("j", "x"): rows}, {("x", "j"): mirrored}, {("j", "x"): rows, ("x", "y"): [[B, B, B]] * 4}):
        difference, (low, high) = own_preference("j", 0, games, "pqrs")
        assert difference == pytest.approx((0.5 + 1 + 0 + 0.5) / 4)
        assert low < difference < high
    assert own_preference("j", 0, {("x", "y"): rows}, "pqrs") == (None, None)


def test_two_judges_on_the_same_labels():
    mine = {"1": 1.0, "2": 1.0, "3": 0.5, "4": 0.0, "5": 1.0}
    theirs = {"1": 0.0, "2": 0.0, "3": 0.5, "4": 1.0, "9": 1.0}
    n, difference, interval, p = paired_difference(mine, theirs, dict.fromkeys("12345", 0) | {"3": 1, "4": 2})
    assert (n, difference) == (4, 0.25)
    assert interval == mean_ci([1, 1, 0, -1], [0, 0, 1, 2])
    assert p == sign_test_exact(1, 1), "two pairs of one question are one observation"
    assert paired_difference({"1": 1.0}, {"2": 1.0}, {"1": 0}) == (0, None, None, 1.0)
