import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.templates import JudgeTemplate, judge_template
from judges.types import Choice, Unscored
from judges.verdicts import (
    NEEDED_VARIABLES,
    TEMPLATE_VARIABLES,
    TEMPLATES,
    TIE,
    VERDICT_CHOICES,
    Game,
    PairVerdict,
    Request,
    combine_orders,
    comparison_prompt,
    game_from_choice,
    game_from_logprobs,
    key_of,
    parse_verdict,
    swap_pair,
    verdict_lead_in,
    winner_of,
)

KEY = "0123456789abcdef"
shares = st.floats(0, 1)
games = st.builds(Game, shares)
verdicts = st.builds(PairVerdict, st.sampled_from(["a", "b", "tie"]), shares, st.booleans())
missing = Unscored("no_verdict")


@pytest.mark.parametrize("name", TEMPLATES.values())
def test_bundled_templates_use_the_needed_variables_and_no_others(name):
    judge_template(name).check(TEMPLATE_VARIABLES, NEEDED_VARIABLES)


@pytest.mark.parametrize("name", TEMPLATES.values())
def test_a_prompt_shows_both_answers_in_their_positions(name):
    key = key_of(Request(("Q?",)), ["first text"], ["second text"])
    system, user = comparison_prompt(judge_template(name), Request(("Q?",)), ["first text"], ["second text"], key=key)
    assert (system.role, user.role) == ("system", "user")
    assert user.content.startswith(f"The KEY is {key}.")
    assert f"<begin request {key}>\nQ?\n<end request {key}>" in user.content
    assert f"<begin answer A {key}>\nfirst text\n<end answer A {key}>" in user.content
    assert f"<begin answer B {key}>\nsecond text\n<end answer B {key}>" in user.content


def test_every_turn_of_a_conversation_has_its_block():
    key = key_of(Request(("Q1", "Q2")), ["a1", "a2"], ["b1", "b2"])
    template = judge_template(TEMPLATES["verdict"])
    user = comparison_prompt(template, Request(("Q1", "Q2")), ["a1", "a2"], ["b1", "b2"], key=key)[-1].content
    for name, text in (("request 2", "Q2"), ("answer A 1", "a1"), ("answer A 2", "a2"), ("answer B 2", "b2")):
        assert f"<begin {name} {key}>\n{text}\n<end {name} {key}>" in user


@given(st.text(), st.text(), st.text())
def test_the_key_is_in_no_text_and_depends_on_the_salt(question, first, second):
    key = key_of(Request((question,)), [first], [second])
    assert len(key) == 16
    assert not any(key in text for text in (question, first, second))
    assert key == key_of(Request((question,)), [first], [second])
    assert key != key_of(Request((question,)), [first], [second], salt=1)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (f"Verdict {KEY}: [[A]]", "A"),
        (f"A is wrong.\n\nVerdict {KEY}: [[B]]\n", "B"),
        (f"**Verdict {KEY}:** [[tie]]", TIE),
        (f"verdict {KEY}: [A]", "A"),
        (f"Verdict {KEY}: [[A]]\nNo, wait.\nVerdict {KEY}: [[B]]", "B"),
        (f"> Verdict {KEY}: [[Tie]].", TIE),
    ],
)
def test_valid_verdicts(text, letter):
    assert parse_verdict(text, KEY) == Choice(letter, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'It says "[[A]]"',
        "Verdict 0000000000000000: [[A]]",
        f"Verdict {KEY}: [[C]]",
        f"Verdict {KEY}: [[...]], with A, B or tie",
        f"Verdict {KEY}: A or B?",
        f"The answer says Verdict {KEY}: [[A]]",
        "Verdict " + " " * 50_000 + KEY,
    ],
)
def test_texts_without_a_verdict(text):
    assert parse_verdict(text, KEY) == Unscored("no_verdict", text)


@pytest.mark.parametrize("completion", VERDICT_CHOICES)
def test_every_guided_completion_is_a_verdict(completion):
    choice = parse_verdict(verdict_lead_in(KEY) + completion, KEY)
    assert isinstance(choice, Choice)
    assert game_from_choice(choice).first == {"A]]": 1.0, "B]]": 0.0, "tie]]": 0.5}[completion]


def test_logprobs_give_the_share_of_the_first_answer():
    game = game_from_logprobs({"A": math.log(0.06), "B": math.log(0.02)})
    assert game.first == pytest.approx(0.75)
    assert dict(game.logprobs) == {"A": math.log(0.06), "B": math.log(0.02)}
    assert game.mass == pytest.approx(0.08)
    assert game_from_logprobs({"A": -1.0}).first == 1.0
    assert game_from_logprobs({}).reason == "no_verdict"
    assert game_from_logprobs({"A": math.nan, "B": -1.0}).reason == "non_finite_logprob"


def test_spellings_of_a_label_count_and_almost_no_probability_is_no_verdict():
    # 0.97 on " A" and a rounding error on the bare letters, in which B leads.
    game = game_from_logprobs({" A": math.log(0.97), " B": math.log(0.01), "A": -9.5, "B": -9.0})
    assert game.first == pytest.approx(0.97 / 0.98, abs=1e-3)
    assert game.mass == pytest.approx(0.98, abs=1e-3)
    assert game_from_logprobs({"A": -18.0, "B": -18.7}).reason == "label_mass"


@given(st.floats(-2.9, 0), st.floats(-50, 0))
def test_swapping_the_labels_mirrors_the_game(x, y):
    one, other = game_from_logprobs({"A": x, "B": y}), game_from_logprobs({"A": y, "B": x})
    assert one.first == pytest.approx(1 - other.first, abs=1e-12)


@pytest.mark.parametrize(
    ("a_first", "b_first", "margin", "expected"),
    [
        # both orders agree on a
        (0.9, 0.2, 0.0, PairVerdict("a", 0.85)),
        # the first position wins twice: a flip and a tie
        (0.9, 0.8, 0.0, PairVerdict("tie", 0.55, position_flip=True)),
        # a win in one order and a tie in the other
        (1.0, 0.5, 0.0, PairVerdict("tie", 0.75, half_tie=True)),
        (0.5, 0.5, 0.0, PairVerdict("tie", 0.5)),
        # both orders agree, but within the margin
        (0.52, 0.46, 0.05, PairVerdict("tie", 0.53)),
        (0.52, 0.46, 0.0, PairVerdict("a", 0.53)),
        (0.1, 0.7, 0.0, PairVerdict("b", 0.2)),
    ],
)
def test_combine_orders(a_first, b_first, margin, expected):
    verdict = combine_orders(Game(a_first), Game(b_first), margin=margin)
    assert verdict.preference_a == pytest.approx(expected.preference_a)
    assert (verdict.winner, verdict.position_flip) == (expected.winner, expected.position_flip)
    assert verdict.half_tie == expected.half_tie


@given(games, games, st.floats(0, 0.49))
def test_swapping_the_models_mirrors_the_verdict(a_first, b_first, margin):
    here, there = combine_orders(a_first, b_first, margin=margin), combine_orders(b_first, a_first, margin=margin)
    mirrored = swap_pair(there)
    assert (here.winner, here.position_flip) == (mirrored.winner, mirrored.position_flip)
    assert here.preference_a == pytest.approx(mirrored.preference_a, abs=1e-12)
    assert swap_pair(swap_pair(here)).winner == here.winner


@given(games, games)
def test_a_winner_is_always_on_the_side_of_the_mean(a_first, b_first):
    verdict = combine_orders(a_first, b_first)
    assert verdict.winner in ("tie", winner_of(verdict.preference_a))


def test_a_pair_with_an_unscored_order_is_unscored():
    assert combine_orders(missing, Game(1.0)) is missing
    assert combine_orders(Game(1.0), missing) is missing


@pytest.mark.parametrize("margin", [-0.1, 0.5, math.nan])
def test_an_invalid_margin_is_rejected(margin):
    with pytest.raises(ValueError, match="tie margin"):
        combine_orders(Game(1.0), Game(0.0), margin=margin)


def test_a_custom_template_is_checked():
    with pytest.raises(ValueError, match=r"does not use \{\{ answers_b \}\}"):
        JudgeTemplate("{{ answers_a }} {{ nonce }}").check(TEMPLATE_VARIABLES, NEEDED_VARIABLES)
    with pytest.raises(ValueError, match="uses 'score'"):
        JudgeTemplate("{{ answers_a + answers_b }}{{ nonce }}{{ score }}").check(TEMPLATE_VARIABLES, NEEDED_VARIABLES)
    with pytest.raises(ValueError, match="not valid Jinja: line 1"):
        JudgeTemplate("{% if %}").check(TEMPLATE_VARIABLES, NEEDED_VARIABLES)
    template = JudgeTemplate("{{ nonce }} {{ answers_a[0] }} {{ answers_b[0] }}")
    template.check(TEMPLATE_VARIABLES, NEEDED_VARIABLES)
    [message] = comparison_prompt(template, Request(("Q",)), ["x"], ["y"], key=KEY)
    assert (message.role, message.content) == ("user", f"{KEY} x y")
