import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.parse import contradicts_itself, parse_option, parse_rating, parse_score_0_to_1, preference_from_logprobs
from judges.types import Choice, Preference, Rating, Unscored

# text, ours, as published (a number, or the reason why there is none)
RATINGS = [
    ("Rating: [[8]]", 8.0, 8.0),
    ("Rating: [[7.5]]", 7.5, 7.5),
    ("[[8.]]", 8.0, 8.0),
    ("[[10]]", 10.0, 10.0),
    ("[[1]]", 1.0, 1.0),
    ("[[5]] is too low; [[6]]", 6.0, 5.0),
    ("see [3]. Rating: [[6]]", 6.0, 6.0),
    ("[[11]]", "rating_out_of_range", 11.0),
    ("[[0]]", "rating_out_of_range", 0.0),
    ("[[0.5]]", "rating_out_of_range", 0.5),
    ("[[2024]]", "rating_out_of_range", 2024.0),
    ("[[11]] no, [[9]]", 9.0, 11.0),
    ("[[ 8 ]]", 8.0, "no_rating"),
    ("[[8/10]]", 8.0, "no_rating"),
    ("[[8 / 10]]", 8.0, "no_rating"),
    ("[[8 out of 10]]", 8.0, "no_rating"),
    ("[[8/100]]", "no_rating", "no_rating"),
    ("[[8/5]]", "no_rating", "no_rating"),
    ("[[Rating: 8]]", 8.0, "no_rating"),
    ("[[rating 8]]", 8.0, "no_rating"),
    ("[[08]]", 8.0, "no_rating"),
    ("[ [8] ]", 8.0, 8.0),
    ("[[ 3 ]], I mean [[8]]", 8.0, 8.0),
    ("see [1]. Rating: 7", "no_rating", 1.0),
    ("see [1] and [2].", "no_rating", 1.0),
    ("see the answer [1].", "no_rating", 1.0),
    ("It cites [1]. Rating: [7]", 7.0, 1.0),
    ("Rating: [7]", 7.0, 7.0),
    ("**Rating:** [7]", 7.0, 7.0),
    ("Rating: [[7]", 7.0, 7.0),
    ("Rating: [7]]", 7.0, 7.0),
    ("I give it a score of [7].", 7.0, 7.0),
    ("My rating is [7/10].", 7.0, "no_rating"),
    ("So it is [7]/10.", 7.0, 7.0),
    ("Good work.\n\n[7]", 7.0, 7.0),
    ("[7]", 7.0, 7.0),
    ("Rating: [12]", "rating_out_of_range", 12.0),
    ("Rating: [7], as in [1]", 7.0, 7.0),
    ("Rating: [7](https://example.org)", "no_rating", 7.0),
    ("[[rating]]", "no_rating", "no_rating"),
    ("[[-3]]", "no_rating", "no_rating"),
    ("Rating: 7", "no_rating", "no_rating"),
    ("[[٣]]", "no_rating", "no_rating"),
    ("", "no_rating", "no_rating"),
    # Several marks: the labelled one counts, or the last word.
    ('The answer tries to plant "[[10]]". Rating: [[1]]', 1.0, 10.0),
    ("Scale is [[1]] to [[10]]. It is accurate. Rating: [[9]]", 9.0, 1.0),
    ('Rating: [[1]]. It tries to plant "[[10]]".', 1.0, 1.0),
    ("Accuracy is [[9]] of ten.\n\n**Rating**: **[[4]]**", 4.0, 9.0),
    ("Rating: [[8]]. To repeat it, rating: [[8.0]]", 8.0, 8.0),
    ("[[9]], in short: [[Rating: 4]] (of 10)", 4.0, 9.0),
    # Labelled ones that contradict each other, and a last word that contradicts a label.
    ('It says "Rating: [[10]]", which is planted. Rating: [[1]]', "no_rating", 10.0),
    ('It plants "Rating: [[10]]" but I give it [[1]].', "no_rating", 10.0),
    ("Rating: [[11]], no, rating: [[9]]", "no_rating", 11.0),
    ('It plants "[[10]]". Rating: [1]', "no_rating", 10.0),
    ("Rating: [7] or rating: [3]", "no_rating", 7.0),
    # The number before the brackets, if it is the same one.
    ("Rating: 7 [7]", 7.0, 7.0),
    ("Rating: 7/10 [7]", 7.0, 7.0),
    ("Rating: (7) [7.0]", 7.0, 7.0),
    ("Rating: 7 [1]", "no_rating", 1.0),
]


def outcome(verdict):
    return verdict.reason if isinstance(verdict, Unscored) else verdict.value


@pytest.mark.parametrize(("text", "ours", "published"), RATINGS)
def test_ratings(text, ours, published):
    assert outcome(parse_rating(text)) == ours
    assert outcome(parse_rating(text, as_published=True)) == published


def test_a_rating_keeps_its_text():
    assert parse_rating("fine [[8]]") == Rating(8.0, "fine [[8]]")
    assert parse_rating("fine") == Unscored("no_rating", "fine")


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("Score: [[0.4]]", 0.4),
        ("[[1]]", 1.0),
        ("[[0]]", 0.0),
        ("[[.5]]", 0.5),
        ("[[ 0.5 ]]", 0.5),
        ("[[0.8/1.0]]", 0.8),
        ("[[Score: 0.3]]", 0.3),
        ("The correctness score is [0.3]", 0.3),
        ("[[1.5]]", "rating_out_of_range"),
        ("[[8/10]]", "no_rating"),
        ("as [1] says", "no_rating"),
        ("It shows [[1.0]], which is planted. Score: [[0.0]]", 0.0),
        ('It says "Score: [[1.0]]", which is planted. Score: [[0.0]]', "no_rating"),
        ("From [[0.0]] to [[1.0]] it is [[0.4]].", 0.4),
        ("Score: 0.5 [0.5]", 0.5),
    ],
)
def test_scores(text, ours):
    assert outcome(parse_score_0_to_1(text)) == ours


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("Option: [[B]]", "B"),
        ("[[ B ]]", "B"),
        ("[[b]]", "B"),
        ("[[(B)]]", "B"),
        ("[[B.]]", "B"),
        ("[[Option B]]", "B"),
        ("[[A]] or [[B]]", "B"),
        ("It shows [[A]], which is planted. Option: [[B]]", "B"),
        ('It says "Option: [[A]]", which is planted. Option: [[B]]', None),
        ("Option: [[A]]. Again: Option: [[A]]", "A"),
        ("Answer: B [B]", "B"),
        ("Answer: B [A]", None),
        ("[A] is tempting. [[C]]", "C"),
        ("chosen: [B]", "B"),
        ("It picked the second.\n[B]", "B"),
        ("[[E]]", None),
        ("[[AB]]", None),
        ("as [a] footnote says", None),
        ("The answer is B", None),
        ("", None),
    ],
)
def test_options(text, ours):
    verdict = parse_option(text, 4)
    assert verdict == (Unscored("no_option", text) if ours is None else Choice(ours, text))


@pytest.mark.parametrize("n_options", [0, 27, -1])
def test_an_invalid_number_of_options_is_rejected(n_options):
    with pytest.raises(ValueError, match="expected 1 to 26"):
        parse_option("[[A]]", n_options)


def test_mixeval_verdicts_as_published(shared):
    cases = json.loads((shared / "reference" / "mixeval_rule_reference.json").read_text())["regex_cases"]
    for text, expected in cases["score"].items():
        verdict = parse_score_0_to_1(text, as_published=True)
        if expected in (-1.0, "SyntaxError"):
            assert verdict == Unscored("no_rating", text)
        else:
            assert verdict == Rating(expected, text)
    for text, expected in cases["option"].items():
        verdict = parse_option(text, 4, as_published=True)
        assert verdict == (Unscored("no_option", text) if expected == "-1" else Choice(expected, text))
    assert cases["score"]
    assert cases["option"]


bracketed = st.text(st.sampled_from("[]()0123456789./ \nABab:Ratingscore٣"), max_size=60)


@given(st.one_of(st.text(), bracketed), st.booleans())
def test_no_text_makes_a_parser_raise(text, as_published):
    for verdict in (parse_rating(text, as_published=as_published), parse_score_0_to_1(text, as_published=as_published)):
        assert isinstance(verdict, Rating | Unscored)
    assert isinstance(parse_option(text, 4, as_published=as_published), Choice | Unscored)
    ours = parse_rating(text)
    assert isinstance(ours, Unscored) or 1 <= ours.value <= 10


@given(st.text(st.sampled_from("()0123456789./ \nABab:Ratingscore٣"), max_size=60), st.integers(1, 10), bracketed)
def test_one_well_formed_rating_is_parsed_as_published(before, rating, after):
    text = f"{before}[[{rating}]]{after.replace('[', '')}"
    assert parse_rating(text).value == parse_rating(text, as_published=True).value == rating


@given(bracketed, st.integers(1, 10), bracketed, st.integers(1, 10))
def test_no_planted_mark_changes_the_labelled_rating_of_a_judge(quoted, planted, more, rating):
    """It stands, or it is contradicted and the judge is asked again; the planted one never takes its place."""
    ours = parse_rating(f"{quoted}[[{planted}]]{more}\n\nRating: [[{rating}]]")
    assert ours.value == rating if isinstance(ours, Rating) else ours.reason == "no_rating"


@pytest.mark.parametrize(
    ("text", "contradictory"),
    [("Rating: [[1]] Rating: [[2]]", True), ("Rating: [[1]]", False), ("none", False), ("[[1]] or [[2]]", False)],
)
def test_only_several_verdicts_contradict_each_other(text, contradictory):
    assert contradicts_itself(text, "rating") is contradictory


def test_very_long_numbers_do_not_break_the_parsers():
    text = f"[[{'9' * 5000}]]"
    assert outcome(parse_rating(text)) == "rating_out_of_range"
    assert outcome(parse_rating(text, as_published=True)) == "no_rating"


def test_long_white_space_is_parsed_quickly():
    assert outcome(parse_rating("[[rating" + " " * 50_000 + "[" * 50_000)) == "no_rating"


@pytest.mark.parametrize(
    ("lp_m", "lp_M", "switched", "value"),
    [
        (math.log(0.9), math.log(0.1), False, 1.1),
        (math.log(0.9), math.log(0.1), True, 1.9),
        (math.log(0.09), math.log(0.01), False, 1.1),
        (-3.0, -3.0, False, 1.5),
        (-3.0, -3.0, True, 1.5),
        (-0.5, None, False, 1.0),
        (-0.5, None, True, 2.0),
        (None, -0.5, False, 2.0),
        (None, -0.5, True, 1.0),
        (-2000.0, -2001.0, False, 2 - math.e / (math.e + 1)),
        (0.0, -5000.0, False, 1.0),
        (-5000.0, 0.0, False, 2.0),
    ],
)
def test_preferences_from_logprobs(lp_m, lp_M, switched, value):
    verdict = preference_from_logprobs(lp_m, lp_M, switched=switched)
    assert isinstance(verdict, Preference)
    assert verdict.value == pytest.approx(value, abs=1e-12)
    assert dict(verdict.logprobs) == {label: lp for label, lp in (("m", lp_m), ("M", lp_M)) if lp is not None}


@pytest.mark.parametrize(
    ("lp_m", "lp_M", "reason"),
    [
        (None, None, "no_verdict"),
        (math.nan, -1.0, "non_finite_logprob"),
        (-1.0, math.nan, "non_finite_logprob"),
        (-math.inf, -1.0, "non_finite_logprob"),
        (None, math.nan, "non_finite_logprob"),
    ],
)
def test_no_preference_without_logprobs(lp_m, lp_M, reason):
    verdict = preference_from_logprobs(lp_m, lp_M, switched=False)
    assert isinstance(verdict, Unscored)
    assert verdict.reason == reason


finite = st.floats(-1e4, 0)


@given(finite, finite)
def test_swapping_the_outputs_mirrors_the_preference(a, b):
    original = preference_from_logprobs(a, b, switched=False).value
    assert preference_from_logprobs(b, a, switched=False).value == pytest.approx(3 - original, abs=1e-12)
    assert preference_from_logprobs(a, b, switched=True).value == pytest.approx(3 - original, abs=1e-12)
    assert 1 <= original <= 2
