import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.factors import (
    FACTORS,
    NEEDED_VARIABLES,
    TEMPLATE,
    TEMPLATE_VARIABLES,
    Factor,
    expected_rating,
    factor_prompt,
    rating_of_letter,
)
from judges.templates import JudgeTemplate, judge_template
from judges.types import Rating
from judges.verdicts import Request

TEN = FACTORS["factuality"]
RATING_LABELS = tuple("ABCDEFGHIJ")

masses = st.lists(st.floats(1e-6, 1.0), min_size=10, max_size=10)


def logs(probabilities: dict[str, float]) -> dict[str, float]:
    return {letter: math.log(p) for letter, p in probabilities.items()}


def test_there_are_twelve_factors_and_ten_ratings():
    assert len(FACTORS) == 12
    assert {(factor.scale[0], factor.scale[-1]) for factor in FACTORS.values()} == {(("A", 1), ("J", 10))}
    assert TEN.letters == RATING_LABELS


@pytest.mark.parametrize("factor", FACTORS)
def test_a_prompt_shows_the_answer_the_factor_and_the_scale(factor):
    one = FACTORS[factor]
    system, user = factor_prompt(judge_template(TEMPLATE), one, Request(("What is 2 + 2?",)), ["Four, I think."])
    name, meaning = one.name, one.meaning
    assert "Four, I think." in user.content
    assert "What is 2 + 2?" in user.content
    assert f"{name}: {meaning}" in user.content
    assert "A = 1 of 10\n" in system.content
    assert "J = 10 of 10\n" in system.content
    assert "E for one that half succeeds" in system.content
    assert user.content.endswith("Which letter from A to J is the rating?")


def test_the_template_uses_the_needed_variables():
    judge_template(TEMPLATE).check(TEMPLATE_VARIABLES, NEEDED_VARIABLES)


def test_a_scale_of_ones_own_with_described_levels():
    warmth = Factor("warmth", "warmth", "it is kind.", 0, 2, {0: "cold", 2: "kind"})
    request = Request(("Hello?",), system="Be kind.", reference="Hello!", rubric="Kind words.")
    system, user = factor_prompt(judge_template(TEMPLATE), warmth, request, ["Hi."])
    assert "A = 0 of 2: cold\nB = 1 of 2\nC = 2 of 2: kind\n" in system.content
    assert "B for one that half succeeds" in system.content
    assert all(text in user.content for text in ("Be kind.", "Hello!", "Kind words.", "letter from A to C"))
    assert expected_rating(logs({"A": 0.2, "C": 0.6}), warmth).value == pytest.approx(0.6 * 2 / 0.8)
    assert rating_of_letter("B", warmth) == Rating(1.0, "B")
    assert rating_of_letter("D", warmth).reason == "no_rating"


@pytest.mark.parametrize(
    ("factor", "fault"),
    [
        (Factor("f", "f", "", 5, 1), "scale of f is 5 to 1"),
        (Factor("f", "f", "", 1, 100), "expected 2 to 20 whole numbers"),
        (Factor("f", "f", "", 1, 5, {6: "more"}), "describes the level 6, and its scale is 1 to 5"),
    ],
)
def test_a_scale_at_fault_is_named(factor, fault):
    assert fault in factor.fault()
    assert not TEN.fault()


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "{{ nonce }}{{ factor }}{{ answers }} Rate from 1 to 10.",
            "the template says 1 to 10, and the scale is 1 to 5",
        ),
        ("{{ nonce }}{{ factor }}{{ answers }} Rate it.", "names no scale"),
        ("{{ nonce }}{{ factor }}{{ answers }} Rate from 1 to 5.", ""),
        ("{{ nonce }}{{ factor }}{{ answers }} Rate up to {{ high }}.", ""),
        ("{{ nonce }}{{ factor }}{{ answers }} Rate by {{ scale }}.", ""),
    ],
)
def test_a_template_with_another_scale_is_at_fault(text, fault):
    found = Factor("f", "f", "", 1, 5).template_fault(JudgeTemplate(text))
    assert fault in found
    assert bool(fault) == bool(found)


@given(masses)
def test_the_expectation_over_the_ten_ratings(weights):
    expected = sum(rating * weight for rating, weight in enumerate(weights, 1)) / sum(weights)
    # Only the ratings' relative probabilities count, not those of other tokens.
    for mass in (1.0, 0.06):
        shares = [mass * weight / sum(weights) for weight in weights]
        given_logprobs = logs(dict(zip(RATING_LABELS, shares, strict=True)))
        assert expected_rating(given_logprobs, TEN).value == pytest.approx(expected)


@given(masses)
def test_reversing_the_scale_mirrors_the_rating(weights):
    shares = [weight / sum(weights) for weight in weights]
    original = expected_rating(logs(dict(zip(RATING_LABELS, shares, strict=True))), TEN).value
    mirrored = expected_rating(logs(dict(zip(RATING_LABELS, reversed(shares), strict=True))), TEN).value
    assert original + mirrored == pytest.approx(11)
    assert 1 <= original <= 10


def test_a_rating_of_ten_is_not_read_as_one():
    # A judge that is certain of the best rating. With digits, a tokenizer that splits "10" puts all
    # probability on the first token "1", and the published code reads 1.
    by_digit = {str(rating): 1e-9 for rating in range(2, 10)} | {"1": 1.0}
    published = sum(int(digit) * p for digit, p in by_digit.items())
    assert published == pytest.approx(1.0, abs=1e-6)
    by_letter = dict.fromkeys(RATING_LABELS[:-1], 1e-09) | {"J": 1.0}
    assert expected_rating(logs(by_letter), TEN) == Rating(pytest.approx(10.0, abs=1e-6), "J")


def test_missing_or_non_finite_logprobs_are_unscored():
    assert expected_rating({}, TEN).reason == "no_rating"
    assert expected_rating({"K": -0.1}, TEN).reason == "no_rating"
    assert expected_rating({"A": math.nan}, TEN).reason == "non_finite_logprob"
    assert expected_rating({"A": -2000.0}, TEN).reason == "label_mass"


def test_a_generated_letter_is_a_rating():
    assert rating_of_letter(" J ", TEN) == Rating(10.0, "J")
    assert rating_of_letter("10", TEN).reason == "no_rating"
