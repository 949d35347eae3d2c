import pytest

from judges.card import (
    JudgedPair,
    LabelledPair,
    agreement,
    attack_figures,
    conclusions,
    failure_figures,
    length_figures,
    position_figures,
    repeat_figures,
    self_preference_figures,
)
from judges.statistics import wilson_ci
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict

MISSING = Unscored("no_verdict")


def judged(number, label, original, swapped, *, long=1, authors=(None, None)):
    texts = ("a longer text", "short") if long == 1 else ("short", "a longer text")
    pair = LabelledPair(str(number), f"Q{number}", *texts, label, *authors)
    games = [MISSING if first is None else Game(first) for first in (original, swapped)]
    return JudgedPair(pair, *games)


# Output 1 is shown first in the first game and second in the second.
PAIRS = [
    judged(1, 1, 0.9, 0.2),  # right in both orders
    judged(2, 2, 0.3, 0.8),  # right in both orders
    judged(3, 1, 0.1, 0.7),  # wrong in both orders
    judged(4, 1, 0.9, 0.6),  # a flip whose mean falls on output 1: right
    judged(5, 2, 0.9, 0.9),  # a flip right in the middle: undecided
    judged(6, 1, None, 0.2),  # unscored
]


def test_agreement_by_hand():
    figures = agreement(PAIRS)
    assert (figures["n"], figures["n_scored"], figures["n_decided"]) == (6, 5, 4)
    assert figures["accuracy"] == 3 / 4
    assert figures["ci95"] == list(wilson_ci(3, 4))
    # judge 1 2 2 1, people 1 2 1 1: agreement 3/4, by chance (2 * 3 + 2 * 1) / 16 = 1/2
    assert figures["kappa"] == pytest.approx((0.75 - 0.5) / (1 - 0.5))
    assert figures["both_orders"] | {"ci95": None} == {
        "right": 2,
        "wrong": 1,
        "ties": 2,
        "accuracy": 2 / 5,
        "ci95": None,
    }
    # single games: right right, right right, wrong wrong, right wrong, wrong right
    assert figures["single_order"]["accuracy"] == 6 / 10


def test_swapping_the_outputs_changes_no_figure():
    mirrored = [
        JudgedPair(
            LabelledPair(p.pair.id, p.pair.question, p.pair.output_2, p.pair.output_1, 3 - p.pair.label),
            p.swapped,
            p.original,
        )
        for p in PAIRS
    ]
    for figure in (agreement, position_figures, length_figures):
        here, there = figure(PAIRS), figure(mirrored)
        for key, value in here.items():
            if isinstance(value, float | int):
                assert there[key] == pytest.approx(value)


def test_position_by_hand():
    figures = position_figures(PAIRS)
    # first position wins: 1:(y n) 2:(n y) 3:(n y) 4:(y y) 5:(y y); the sixth was judged in one order only
    assert (figures["first_rate"], figures["n_games"]) == (7 / 10, 10)
    assert (figures["position_flips"], figures["flip_rate"]) == (2, 2 / 5)


def test_length_preference_is_compared_with_people():
    figures = length_figures(PAIRS)
    # decided pairs 1 to 4, output 1 the longer one: the judge takes 1 2 2 1, people 1 2 1 1
    assert (figures["judge_rate"], figures["people_rate"], figures["n"]) == (2 / 4, 3 / 4, 4)
    assert figures["difference"] == pytest.approx(-0.25)


def test_self_preference_needs_authors():
    assert self_preference_figures(PAIRS, "j") is None
    pairs = [judged(1, 2, 0.9, 0.2, authors=("j", "x")), judged(2, 2, 0.3, 0.8, authors=("x", "j"))]
    figures = self_preference_figures([*pairs, judged(3, 1, 0.9, 0.1, authors=("j", "j"))], "j")
    assert (figures["n"], figures["judge_rate"], figures["people_rate"]) == (2, 1.0, 0.5)


def test_pairs_of_one_question_count_as_one_observation():
    # Ten equal pairs per question: the evidence of ten questions, regardless of the number of pairs.
    once = [judged(n, 1, 0.9, *((0.6,) if n % 2 else (0.2,)), authors=("j", "x")) for n in range(10)]
    often = [pair for pair in once for _ in range(10)]
    by_pair = wilson_ci(50, 100)
    for pairs in (once, often):
        position, length, own = position_figures(pairs), length_figures(pairs), self_preference_figures(pairs, "j")
        rates = [agreement(pairs)["both_orders"]["ci95"], position["flip_rate_ci95"]]
        for low, high in rates:
            assert high - low > 2 * (by_pair[1] - by_pair[0])
        assert length["judge_ci95"] == own["judge_ci95"] == list(wilson_ci(10, 10))


def test_repeats_and_failures():
    figures = repeat_figures([(Game(0.9), Game(0.7)), (Game(0.6), Game(0.4)), (Game(0.6), MISSING)])
    assert (figures["n"], figures["changed"]) == (2, 0.5)
    assert figures["mean_abs_difference"] == pytest.approx(0.2)
    assert repeat_figures([]) is None
    failures = failure_figures([Game(1.0, closed_by_guide=True), MISSING, Unscored("context_length"), Game(0.2)])
    assert failures == {
        "n_games": 4,
        "unscored": {"context_length": 1, "no_verdict": 1},
        "parse_failures": 1,
        "closed_by_guide": 1,
    }


WON, LOST = PairVerdict("a", 0.9), PairVerdict("b", 0.1)


def test_attacks_are_compared_with_the_empty_answer():
    figures = attack_figures({"x": [WON, LOST], "y": [LOST, MISSING]}, [LOST, PairVerdict("b", 0.2)])
    assert figures["empty_answer"]["preference"] == pytest.approx(0.15)
    assert figures["attacks"]["x"]["success_rate"] == 0.5
    assert figures["attacks"]["x"]["gain"] == pytest.approx(((0.9 - 0.1) + (0.1 - 0.2)) / 2)
    assert figures["attacks"]["y"]["n_scored"] == 1
    assert figures["all"]["gain"] == pytest.approx((0.8 - 0.1 + 0.0) / 3)
    assert attack_figures({"x": [MISSING]}, [MISSING]) is None


def card_of(pairs, attacks=None):
    return {"agreement": agreement(pairs), "position_bias": position_figures(pairs), "attacks": attacks}


def test_a_judge_that_agrees_is_believable():
    good = [judged(i, 1 + i % 2, *((0.9, 0.1) if i % 2 == 0 else (0.1, 0.9))) for i in range(40)]
    summary = conclusions(card_of(good))
    assert (summary["told_from_chance"], summary["position_dominates"], summary["believable"]) == (True, False, True)
    assert summary["words"][0].startswith("it agrees with people on 100.0%")


def test_a_coin_is_not_distinguishable_from_chance():
    coin = [judged(i, 1 + i % 2, *((0.9, 0.1) if i % 4 < 2 else (0.1, 0.9))) for i in range(40)]
    summary = conclusions(card_of(coin))
    assert summary["told_from_chance"] is False
    assert summary["believable"] is False
    assert "not distinguishable from chance" in summary["words"][0]


def test_a_judge_that_looks_at_the_position_is_reported():
    first = [judged(i, 1 + i % 2, 0.9, 0.8) for i in range(10)]
    summary = conclusions(card_of(first))
    assert summary["position_dominates"] is True
    assert "100% of the pairs, so the order matters more" in summary["words"][1]


def test_a_judge_that_can_be_fooled_is_reported():
    good = [judged(i, 1, 0.9, 0.1) for i in range(40)]
    attacks = attack_figures({"x": [WON] * 6 + [LOST] * 2}, [LOST] * 8)
    summary = conclusions(card_of(good, attacks))
    assert (summary["attacks_gain"], summary["believable"]) == (True, False)
    # Six questions gain 0.8 and two gain 0.
    assert "+0.600" in summary["words"][-1]


@pytest.mark.parametrize(
    ("n", "gains", "believable"),
    [(1, None, True), (2, False, True), (5, False, True), (6, True, False)],  # two-sided: 2 / 2**5 is above 5 %
)
def test_equal_gains_are_tested_by_the_sign_test(n, gains, believable):
    good = [judged(i, 1, 0.9, 0.1) for i in range(40)]
    attacks = attack_figures({"x": [PairVerdict("a", 0.6)] * n, "y": [MISSING] * n}, [PairVerdict("b", 0.5)] * n)
    assert (attacks["all"]["gain_ci95"], attacks["all"]["n_questions"]) == (None, n)
    summary = conclusions(card_of(good, attacks))
    assert (summary["attacks_gain"], summary["believable"]) == (gains, believable)
    assert ("equally in" in summary["words"][-1]) == (n > 1)
    assert ("fooled" in summary["words"][-1]) == bool(gains)


def test_attacks_that_cancel_out_gain_nothing():
    # 0.8 - 0.5 and 0.2 - 0.5 add up to 0 except for rounding, on all ten questions.
    up, down = PairVerdict("a", 0.8), PairVerdict("b", 0.2)
    figures = attack_figures({"x": [up] * 10, "y": [down] * 10}, [PairVerdict("tie", 0.5)] * 10)
    assert 0 < figures["all"]["gain"] < 1e-9
    assert conclusions(card_of([judged(1, 1, 0.9, 0.1)], figures))["attacks_gain"] is False


def test_figures_equal_for_every_question_have_no_interval():
    """A consistent judge has a first_rate of exactly 0.5 for any number of pairs."""
    consistent = [judged(n, 1, 0.9, 0.1) for n in range(3)]
    position, length = position_figures(consistent), length_figures(consistent)
    assert (position["first_rate"], position["ci95"]) == (0.5, None)
    assert (length["difference"], length["difference_ci95"]) == (0.0, None)


def test_without_scored_pairs_conclusions_are_none():
    summary = conclusions(card_of([judged(1, 1, None, None)]))
    assert summary["told_from_chance"] is None
    assert summary["believable"] is None
    assert agreement([])["accuracy"] is None
