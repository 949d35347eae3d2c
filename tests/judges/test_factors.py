import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.factors import (
    FACTORS,
    NEEDED_VARIABLES,
    RATING_LABELS,
    SCALE,
    TEMPLATE,
    TEMPLATE_VARIABLES,
    expected_rating,
    factor_prompt,
    rating_of_letter,
)
from judges.templates import judge_template
from judges.types import Rating

masses = st.lists(st.floats(1e-6, 1.0), min_size=10, max_size=10)


def logs(probabilities: dict[str, float]) -> dict[str, float]:
    return {letter: math.log(p) for letter, p in probabilities.items()}


def test_there_are_twelve_factors_and_ten_ratings():
    assert len(FACTORS) == 12
    assert SCALE[0] == ("A", 1)
    assert SCALE[-1] == ("J", 10)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_prompt_shows_the_answer_the_factor_and_the_scale(factor):
    system, user = factor_prompt(judge_template(TEMPLATE), factor, ["What is 2 + 2?"], ["Four, I think."])
    name, meaning = FACTORS[factor]
    assert "Four, I think." in user.content
    assert "What is 2 + 2?" in user.content
    assert f"{name}: {meaning}" in user.content
    assert "A = 1 of 10\n" in system.content
    assert "J = 10 of 10\n" in system.content


def test_the_template_uses_the_needed_variables():
    judge_template(TEMPLATE).check(TEMPLATE_VARIABLES, NEEDED_VARIABLES)


def test_an_unknown_factor_is_rejected():
    with pytest.raises(ValueError, match="unknown factor 'style'"):
        factor_prompt(judge_template(TEMPLATE), "style", ["Q"], ["A"])


@given(masses)
def test_the_expectation_over_the_ten_ratings(weights):
    expected = sum(rating * weight for rating, weight in enumerate(weights, 1)) / sum(weights)
    # Only the ratings' relative probabilities count, not those of other tokens.
    for mass in (1.0, 0.06):
        shares = [mass * weight / sum(weights) for weight in weights]
        given_logprobs = logs(dict(zip(RATING_LABELS, shares, strict=True)))
        assert expected_rating(given_logprobs).value == pytest.approx(expected)


@given(masses)
def test_reversing_the_scale_mirrors_the_rating(weights):
    shares = [weight / sum(weights) for weight in weights]
    original = expected_rating(logs(dict(zip(RATING_LABELS, shares, strict=True)))).value
    mirrored = expected_rating(logs(dict(zip(RATING_LABELS, reversed(shares), strict=True)))).value
    assert original + mirrored == pytest.approx(11)
    assert 1 <= original <= 10


def test_a_rating_of_ten_is_not_read_as_one():
    # A judge that is certain of the best rating. With digits, a tokenizer that splits "10" puts all
    # probability on the first token "1", and the published code reads 1.
    by_digit = {str(rating): 1e-9 for rating in range(2, 10)} | {"1": 1.0}
    published = sum(int(digit) * p for digit, p in by_digit.items())
    assert published == pytest.approx(1.0, abs=1e-6)
    by_letter = dict.fromkeys(RATING_LABELS[:-1], 1e-09) | {"J": 1.0}
    assert expected_rating(logs(by_letter)) == Rating(pytest.approx(10.0, abs=1e-6), "J")


def test_missing_or_non_finite_logprobs_are_unscored():
    assert expected_rating({}).reason == "no_rating"
    assert expected_rating({"K": -0.1}).reason == "no_rating"
    assert expected_rating({"A": math.nan}).reason == "non_finite_logprob"
    assert expected_rating({"A": -2000.0}).reason == "label_mass"


def test_a_generated_letter_is_a_rating():
    assert rating_of_letter(" J ") == Rating(10.0, "J")
    assert rating_of_letter("10").reason == "no_rating"
