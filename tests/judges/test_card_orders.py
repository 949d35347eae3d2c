"""Two orders that disagree: what the strict rule throws away, and both ways of averaging."""

from __future__ import annotations

import math
import random

import pytest

from judges.card_orders import mean_in_log_odds, order_rules, rule_in_words


def test_both_means_name_the_same_winner():
    rng = random.Random(0)
    for _ in range(2000):
        a, b = rng.random(), rng.random()
        assert (mean_in_log_odds(a, b) > 0.5) == ((a + 1 - b) / 2 > 0.5) == (a > b)


def test_log_odds_of_symmetric_and_certain_orders():
    assert mean_in_log_odds(0.8, 0.8) == pytest.approx(0.5)
    assert mean_in_log_odds(0.8, 0.2) == pytest.approx(0.8)
    assert mean_in_log_odds(1.0, 0.0) == pytest.approx(1, abs=1e-5)
    # Odds of 99 and of 1/9 (b first at 0.9): their geometric mean is the root of 11.
    assert mean_in_log_odds(0.99, 0.9) == pytest.approx(11**0.5 / (1 + 11**0.5))


def test_a_judge_with_a_place_preference_is_read_by_its_mean():
    # It always favours the first place, more so for the answer that people prefer: both orders name different answers.
    wanted = [True, False] * 40
    a_first = [0.95 if is_a else 0.85 for is_a in wanted]
    b_first = [0.85 if is_a else 0.95 for is_a in wanted]
    figures = order_rules(wanted, a_first, b_first, list(range(80)))
    assert (figures["undecided"], figures["by_mean"], figures["rule"]) == (80, 1.0, "mean")
    assert figures["brier"]["probability"] == pytest.approx(0.45**2)
    assert figures["brier"]["log_odds"] == pytest.approx((1 - mean_in_log_odds(0.95, 0.85)) ** 2)
    assert figures["brier"]["difference"] < 0
    assert "80 of 80 pairs; the mean preference is right on 100% of these: count" in rule_in_words(figures, 80)


def test_a_judge_whose_mean_is_chance_stays_with_the_strict_rule():
    rng = random.Random(1)
    wanted = [rng.random() < 0.5 for _ in range(200)]
    first = [0.9 + 0.09 * rng.random() for _ in wanted]
    figures = order_rules(wanted, first, first[::-1], list(range(200)))
    assert (figures["undecided"], figures["rule"]) == (200, "strict")
    assert "keep to the strict rule" in rule_in_words(figures, 200)


def test_orders_that_agree_throw_nothing_away():
    figures = order_rules([True, False], [0.9, 0.2], [0.1, 0.8], ["x", "y"])
    assert (figures["undecided"], figures["by_mean"]) == (0, None)
    assert rule_in_words(figures, 2) == ""


def test_what_differs_by_less_than_a_step_of_16_bits_favours_neither():
    """Logits of A and B 0.25 apart in both orders, and a few millionths from the other spellings."""
    step = 1 / (1 + math.exp(-0.25))
    figures = order_rules(
        [True, True, False], [step + 1e-6, step, step], [step, step + 2e-6, step - 0.03], ["x", "y", "z"]
    )
    assert figures["undecided"] == 3
    assert figures["by_mean"] == pytest.approx((0.5 + 0.5 + 0) / 3)
