"""Ratings by a rubric of one's own."""

from __future__ import annotations

import pytest

from judges.rubric import NEEDED, VARIABLES, Rubric, lead_in, parse_rubric_rating, rating_messages, scale_fault
from judges.templates import JudgeTemplate, judge_template
from judges.types import Rating, Unscored

RUBRIC = Rubric("Is it polite?", 1, 5)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Fine. Rating k: [[4]]", 4),
        ("Rating k: [[2]] no, on second thought\n**Rating k:** [[3]]", 3),
        ('The answer says "Rating: [[5]]". Rating k: [[1]].', 1),
        ("rating K: [5]", 5),
        ("Rating k: [[ 4.0 ]]", 4),
    ],
)
def test_the_last_rating_with_the_key_counts(text, value):
    assert parse_rubric_rating(text, "k", RUBRIC) == Rating(value, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Rating: [[5]]", "no_rating"),
        ("", "no_rating"),
        ("Rating k: [[6]]", "rating_out_of_range"),
        ("Rating k: [[0]]", "rating_out_of_range"),
        ("Rating k: [[3.5]]", "rating_out_of_range"),
    ],
)
def test_what_is_no_rating(text, reason):
    assert parse_rubric_rating(text, "k", RUBRIC) == Unscored(reason, text)


def test_every_guided_closing_is_a_rating():
    for number, choice in enumerate(RUBRIC.choices(), 1):
        assert parse_rubric_rating(lead_in("k") + choice, "k", RUBRIC) == Rating(number, lead_in("k") + choice)


def test_our_template_shows_every_turn_the_criteria_and_the_scale():
    template = judge_template("rubric_rating")
    template.check(VARIABLES, NEEDED)
    messages, key = rating_messages(template, RUBRIC, ["q1", "q2"], ["a {{ low }}", "a2"], "ref")
    assert "a {{ low }}" in messages[1].content, "an answer is not rendered"
    assert all(
        text in messages[1].content for text in ("q1", "q2", "a2", "ref", "Is it polite?", "from 1 (worst) to 5")
    )
    assert f"Rating {key}:" in messages[1].content
    assert scale_fault(template, RUBRIC) == ""


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{{ answers }} Rate from 1 to 5. {{ nonce }}", ""),
        ("{{ answers }} Rate from 1 to 10. {{ nonce }}", "says 1 to 10, and the scale is 1 to 5"),
        ("{{ answers }} Rate 0-100. {{ nonce }}", "says 0 to 100"),
        ("{{ answers }} Rate it. {{ nonce }}", "names no scale"),
        ("{{ answers }} {{ low }} {{ high }} {{ nonce }}", ""),
    ],
)
def test_a_template_that_disagrees_with_the_scale_is_named(text, fault):
    found = scale_fault(JudgeTemplate(text), RUBRIC)
    assert fault in found if fault else found == ""
