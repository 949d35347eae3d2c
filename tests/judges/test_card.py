import pytest

from judges.card import (
    JudgedPair,
    LabelledPair,
    agreement,
    attack_figures,
    baseline_figures,
    failure_figures,
    length_figures,
    position_figures,
    repeat_figures,
    self_preference_figures,
)
from judges.card_checks import conclusions
from judges.statistics import proportion_ci, wilson_ci
from judges.types import Unscored
from judges.verdicts import Game, PairVerdict, Request

MISSING = Unscored("no_verdict")


def judged(number, label, original, swapped, *, long=1, authors=(None, None), **more):
    texts = [("a longer text",), ("short",)] if long == 1 else [("short",), ("a longer text",)]
    pair = LabelledPair(str(number), Request((f"Q{number}",)), *texts, label, *authors, **more)
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
    assert (figures["n"], figures["n_scored"], figures["n_decided"]) == (6, 5, 3)
    # right, right, wrong, and one half for each flip
    assert figures["accuracy"] == (1 + 1 + 0 + 0.5 + 0.5) / 5
    assert figures["ci95"] == proportion_ci([1, 1, 0, 0.5, 0.5])
    assert figures["undecided"] == pytest.approx(2 / 5)
    strict = figures["both_orders"]
    assert (strict["right"], strict["wrong"], strict["undecided"], strict["accuracy"]) == (2, 1, 2, 2 / 5)
    # decided by both orders: judge 1 2 2, people 1 2 1: agreement 2/3, by chance (1 * 2 + 2 * 1) / 9 = 4/9
    assert figures["kappa"] == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    # the mean preference of the fourth falls on output 1, that of the fifth on neither
    assert (figures["by_mean"]["accuracy"], figures["by_mean"]["n"]) == (3 / 4, 4)
    # single games: right right, right right, wrong wrong, right wrong, wrong right
    single = figures["single_order"]
    assert (single["accuracy"], single["as_listed"], single["swapped"]) == (6 / 10, 3 / 5, 3 / 5)


def test_a_tie_in_one_order_is_a_half_tie_and_no_flip():
    half = judged(1, 1, 0.5, 0.1)
    assert (half.verdict.winner, half.verdict.position_flip, half.verdict.half_tie) == ("tie", False, True)
    figures, position = agreement([half]), position_figures([half])
    assert (figures["accuracy"], figures["undecided"], figures["by_mean"]["accuracy"]) == (0.5, 1.0, 1.0)
    assert figures["single_order"]["accuracy"] == 0.75
    assert (position["position_flips"], position["half_ties"]) == (0, 1)


def test_ties_of_people_are_apart():
    pairs = [judged(1, 1, 0.9, 0.1), judged(2, 0, 0.5, 0.5), judged(3, 0, 0.9, 0.1)]
    figures = agreement(pairs)
    assert (figures["accuracy"], figures["n_scored"]) == (1.0, 1)
    assert figures["ties"]["n"] == 2
    assert figures["ties"]["judged_ties"] == 0.5
    assert figures["ties"]["three_way"]["accuracy"] == pytest.approx(2 / 3)


def test_categories_and_the_best_of_several():
    right, wrong = (0.9, 0.1), (0.1, 0.9)
    pairs = [judged(n, 1, *right, category="math", item="x") for n in range(3)]
    pairs += [judged(n, 1, *(wrong if n == 5 else right), category="chat", item="y") for n in range(3, 6)]
    figures = agreement(pairs)
    assert {name: row["accuracy"] for name, row in figures["categories"].items()} == {"math": 1.0, "chat": 2 / 3}
    assert (figures["items"]["n"], figures["items"]["accuracy"]) == (2, 0.5)


def test_swapping_the_outputs_changes_no_figure():
    mirrored = [
        JudgedPair(
            LabelledPair(p.pair.id, p.pair.request, p.pair.output_2, p.pair.output_1, 3 - p.pair.label),
            p.swapped,
            p.original,
        )
        for p in PAIRS
    ]
    for figure in (agreement, position_figures, length_figures):
        here, there = figure(PAIRS), figure(mirrored)
        for key, value in here.items():
            if isinstance(value, float | int) and key not in ("as_listed", "swapped"):
                assert there[key] == pytest.approx(value)


def test_position_by_hand():
    figures = position_figures(PAIRS)
    # first position wins: 1:(y n) 2:(n y) 3:(n y) 4:(y y) 5:(y y); the sixth was judged in one order only
    assert (figures["first_rate"], figures["n_games"]) == (7 / 10, 10)
    assert (figures["position_flips"], figures["flip_rate"]) == (2, 2 / 5)


def test_length_preference_is_compared_with_people():
    figures = length_figures(PAIRS)
    # output 1 is the longer one; the judge takes 1 2 2 and neither twice, people 1 2 1 1 2
    assert (figures["judge_rate"], figures["people_rate"], figures["n"]) == (2 / 5, 3 / 5, 5)
    assert figures["difference"] == pytest.approx(-0.2)
    # right where the longer is: 1, 0, 0.5; where the shorter is: 1, 0.5
    assert figures["bias"] == pytest.approx(0.5 - 0.75)


def test_a_judge_that_errs_either_way_alike_has_no_length_bias():
    # People take the longer in 3 of 4 pairs; the judge is right in 2 of 3, whichever is longer.
    pairs = [
        judged(n, 1 if n % 4 else 2, *((0.9, 0.1) if (n % 4 > 0) == (n % 3 > 0) else (0.1, 0.9))) for n in range(48)
    ]
    figures = length_figures(pairs)
    assert figures["bias"] == pytest.approx(0.0)
    assert figures["difference"] == pytest.approx(2 / 3 * 0.75 + 1 / 3 * 0.25 - 0.75)


def test_self_preference_needs_authors():
    assert self_preference_figures(PAIRS, "j") is None
    pairs = [judged(1, 2, 0.9, 0.2, authors=("j", "x")), judged(2, 2, 0.3, 0.8, authors=("x", "j"))]
    figures = self_preference_figures([*pairs, judged(3, 1, 0.9, 0.1, authors=("j", "j"))], "j")
    assert (figures["n"], figures["judge_rate"], figures["people_rate"], figures["bias"]) == (2, 1.0, 0.5, 1.0)


def test_judges_that_do_not_read_are_played_on_the_same_pairs():
    # The longer output is right in 3 of 4; the judge in all.
    pairs = [judged(n, 1, 0.9, 0.1, long=1 if n % 4 else 2) for n in range(40)]
    figures = baseline_figures(pairs)
    assert (figures["constant"], figures["random"]) == (0.5, 0.5)
    assert figures["length"] == {"takes": "longer", "accuracy": 0.75}
    assert figures["gain"] == pytest.approx(0.25)
    assert figures["gain_ci95"][0] > 0
    always_first = [judged(n, 1, 0.9, 0.9) for n in range(10)]
    assert agreement(always_first)["accuracy"] == 0.5, "which is why a constant judge has one half"


def test_pairs_of_one_question_count_as_one_observation():
    # Ten equal pairs per question: the evidence of ten questions, regardless of the number of pairs.
    once = [judged(n, 1, 0.9, *((0.6,) if n % 2 else (0.2,)), authors=("j", "x")) for n in range(10)]
    often = [pair for pair in once for _ in range(10)]
    by_pair = wilson_ci(50, 100)
    for pairs in (once, often):
        position, length, own = position_figures(pairs), length_figures(pairs), self_preference_figures(pairs, "j")
        figures = agreement(pairs)
        for low, high in (figures["both_orders"]["ci95"], position["flip_rate_ci95"], figures["ci95"]):
            assert high - low > by_pair[1] - by_pair[0]
        assert length["judge_ci95"] == own["judge_ci95"] == figures["ci95"]
    assert agreement(once)["ci95"] == pytest.approx(agreement(often)["ci95"])


def test_repeats_and_failures():
    figures = repeat_figures([(Game(0.9), Game(0.7)), (Game(0.6), Game(0.4)), (Game(0.6), MISSING)], "abc")
    assert (figures["n"], figures["changed"]) == (2, 0.5)
    assert figures["mean_abs_difference"] == pytest.approx(0.2)
    assert repeat_figures([], []) is None
    games = [
        Game(1.0, closed_by_guide=True, contradicts=True),
        MISSING,
        Unscored("context_length"),
        Game(0.2, mass=0.4),
    ]
    failures = failure_figures([*games, Game(0.7, mass=0.2), Game(0.7, in_words=True)])
    assert failures == {
        "n_games": 6,
        "unscored": {"context_length": 1, "no_verdict": 1},
        "parse_failures": 1,
        "label_mass": pytest.approx(0.3),
        "least_label_mass": 0.2,
        "in_words": 1,
        "closed_by_guide": 1,
        "contradictions": 1,
        "shortened": 0,
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


def card_of(pairs, attacks=None, games=None):
    every = games or [game for pair in pairs for game in (pair.original, pair.swapped)]
    return {
        "agreement": agreement(pairs),
        "baselines": baseline_figures(pairs),
        "position_bias": position_figures(pairs),
        "length_bias": length_figures(pairs),
        "self_preference": self_preference_figures(pairs, "j"),
        "failures": failure_figures(every),
        "attacks": attacks,
    }


def truthful(n=40, **more):
    """A judge that is right in both orders, on pairs in which length says nothing."""
    return [
        judged(i, 1 + i % 2, *((0.9, 0.1) if i % 2 == 0 else (0.1, 0.9)), long=1 + i // 2 % 2, **more) for i in range(n)
    ]


def result_of(summary, name):
    return next(check["result"] for check in summary["checks"] if check["name"] == name)


def test_a_judge_that_agrees_is_usable():
    summary = conclusions(card_of(truthful()))
    assert summary["verdict"] == "usable"
    assert summary["words"][0] == "usable: it passes every check"
    assert summary["words"][1].startswith("it agrees with people on 100.0%")
    assert summary["words"][-1] == "not measured: own answers, empty answers, attacks, label mass"


def test_a_coin_is_not_distinguishable_from_chance():
    coin = [judged(i, 1 + i % 2, *((0.9, 0.1) if i % 4 < 2 else (0.1, 0.9))) for i in range(40)]
    summary = conclusions(card_of(coin))
    assert (summary["verdict"], result_of(summary, "agreement")) == ("do not use", "do not use")
    assert any("not distinguishable from chance" in one for one in summary["words"])


def test_a_judge_that_looks_at_the_position_is_reported():
    first = [judged(i, 1 + i % 2, 0.9, 0.8) for i in range(10)]
    summary = conclusions(card_of(first))
    assert result_of(summary, "position") == "do not use"
    assert any("100% of the pairs, so the order matters more" in one for one in summary["words"])


@pytest.mark.parametrize("long", [1, 2])
def test_a_judge_that_takes_the_longer_or_the_shorter_is_not_usable(long):
    # It agrees with people on 30 of 40 pairs, since people like that kind too.
    pairs = [judged(i, 1 if i % 4 else 2, 0.9, 0.1, long=long) for i in range(40)]
    summary = conclusions(card_of(pairs))
    assert agreement(pairs)["accuracy"] == 0.75
    assert (result_of(summary, "agreement"), result_of(summary, "length")) == ("usable", "do not use")
    assert result_of(summary, "length-only judge") == "with care"
    assert summary["verdict"] == "do not use"
    kind = "longer" if long == 1 else "shorter"
    assert any(one.startswith(f"it errs towards the {kind} answer") for one in summary["words"])


def test_a_judge_that_prefers_its_own_answers_is_not_usable():
    others = truthful(60)
    own = [judged(100 + i, 1 + i % 2, 0.9, 0.1, long=1 + i // 2 % 2, authors=("j", "x")) for i in range(20)]
    summary = conclusions(card_of([*others, *own]))
    assert (result_of(summary, "own answers"), summary["verdict"]) == ("do not use", "do not use")
    assert any("errs towards the own answer" in one for one in summary["words"])
    # One that is too strict with its own is biased too, but nobody is misled in its favour.
    strict = [judged(100 + i, 1 + i % 2, 0.1, 0.9, long=1 + i // 2 % 2, authors=("j", "x")) for i in range(20)]
    assert result_of(conclusions(card_of([*others, *strict])), "own answers") == "usable"


def test_failures_and_mass_count():
    good = truthful()
    games = [Game(0.9, mass=0.9)] * 409
    assert result_of(conclusions(card_of(good, games=[*games, *[MISSING] * 41])), "failures") == "do not use"
    assert result_of(conclusions(card_of(good, games=[*games, *[MISSING] * 9])), "failures") == "with care"
    assert result_of(conclusions(card_of(good, games=[*games, *[MISSING] * 4])), "failures") == "usable"
    for mass, result in ((0.96, "usable"), (0.14, "with care"), (0.02, "do not use")):
        summary = conclusions(card_of(good, games=[Game(0.9, mass=mass)] * 10))
        assert (result_of(summary, "label mass"), summary["verdict"]) == (result, result)
    closed = [Game(0.9, closed_by_guide=True, contradicts=True)] * 24
    assert conclusions(card_of(good, games=closed))["verdict"] == "do not use"


def test_an_empty_answer_that_wins_is_reported():
    empty = [WON] * 10
    summary = conclusions(card_of(truthful(), attack_figures({"x": [LOST] * 10}, empty)))
    assert (result_of(summary, "empty answers"), summary["verdict"]) == ("do not use", "do not use")
    assert any("an empty answer beats the answer that people prefer in 100%" in one for one in summary["words"])


def test_a_judge_that_can_be_fooled_is_reported():
    attacks = attack_figures({"x": [WON] * 6 + [LOST] * 2}, [LOST] * 8)
    summary = conclusions(card_of(truthful(), attacks))
    assert (result_of(summary, "attacks"), summary["verdict"]) == ("do not use", "do not use")
    # Six questions gain 0.8 and two gain 0.
    assert any("+0.600" in one and "fooled" in one for one in summary["words"])


@pytest.mark.parametrize(
    ("n", "result"),
    [(1, "usable"), (2, "usable"), (5, "usable"), (6, "do not use")],  # two-sided: 2 / 2**5 is above 5 %
)
def test_equal_gains_are_tested_by_the_sign_test(n, result):
    undecided = [PairVerdict("tie", 0.6, position_flip=True)] * n
    attacks = attack_figures({"x": undecided, "y": [MISSING] * n}, [PairVerdict("b", 0.5)] * n)
    assert (attacks["all"]["gain_ci95"], attacks["all"]["n_questions"]) == (None, n)
    assert result_of(conclusions(card_of(truthful(), attacks)), "attacks") == result


def test_attacks_that_cancel_out_gain_nothing():
    # 0.8 - 0.5 and 0.2 - 0.5 add up to 0 except for rounding, on all ten questions.
    up, down = PairVerdict("a", 0.8), PairVerdict("b", 0.2)
    figures = attack_figures({"x": [up] * 10, "y": [down] * 10}, [PairVerdict("tie", 0.5)] * 10)
    assert 0 < figures["all"]["gain"] < 1e-9
    gaining = next(one for one in conclusions(card_of(truthful(), figures))["checks"] if one["name"] == "attacks")
    assert "fooled" not in gaining["words"]


def wilson(p, n, z=1.959964):
    half = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    return [(p + z * z / (2 * n) - half) / (1 + z * z / n), (p + z * z / (2 * n) + half) / (1 + z * z / n)]


def test_equal_figures_are_as_uncertain_as_a_proportion_of_the_questions():
    """A consistent judge has a first_rate of exactly 0.5 for any number of pairs."""
    consistent = [judged(n, 1, 0.9, 0.1) for n in range(3)]
    position, length = position_figures(consistent), length_figures(consistent)
    assert (position["first_rate"], position["ci95"]) == (0.5, pytest.approx(wilson(0.5, 3)))
    assert (length["difference"], length["difference_ci95"]) == (0.0, None)


def test_without_a_scored_pair_nothing_is_to_be_trusted():
    summary = conclusions(card_of([judged(1, 1, None, None)]))
    assert summary["verdict"] == "do not use"
    assert "its agreement is unknown: no pair was judged in both orders" in summary["words"]
    assert agreement([])["accuracy"] is None
