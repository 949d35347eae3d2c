"""Arena-Hard's labels and prompt."""

from __future__ import annotations

import pytest

from judges.arena import CHOICES, LABELS, LEAD_IN, OUTCOMES, game_messages, own_game_messages, parse_label
from judges.types import Choice, Unscored


@pytest.mark.parametrize(
    ("judgment", "label"),
    [
        ("My final verdict is tie: [[A=B]].", "A=B"),
        ("I thought [[A>>B]] at first. Verdict: [[B>A]]", "B>A"),
        ("verdict [[a>>b]]", "A>>B"),
        ("Verdict: [B>>A]", "B>>A"),
        ("[B>A] and in the end [[A>B]]", "A>B"),
        ("[[A<<B]]", "A<<B"),
    ],
)
def test_the_last_label_of_the_first_pattern_that_occurs(judgment, label):
    assert parse_label(judgment) == Choice(label, judgment)


@pytest.mark.parametrize("judgment", ["", "A is better", "[[A]]", "[[>>]]", "[[A>>>B]]", "A>B"])
def test_no_known_label_is_no_verdict(judgment):
    assert parse_label(judgment) == Unscored("no_verdict", judgment)


def test_every_guided_closing_is_a_label():
    assert [parse_label(LEAD_IN + choice) for choice in CHOICES] == [
        Choice(label, LEAD_IN + choice) for label, choice in zip(LABELS, CHOICES, strict=True)
    ]


@pytest.mark.parametrize("label", LABELS)
def test_a_label_and_its_mirror_image_share_one_game(label):
    mirror = label.translate(str.maketrans("AB", "BA"))
    (share, weight), (other, same) = OUTCOMES[label], OUTCOMES[mirror]
    assert share + other == 1
    assert weight == same
    back = label[::-1].replace(">", "<")
    assert OUTCOMES[back] == (share, weight), "B<<A says what A>>B says"


def test_an_answer_cannot_fill_a_place_of_the_prompt():
    template = "<u>{QUESTION}</u><a>{ANSWER_A}</a><b>{ANSWER_B}</b>"
    system, user = game_messages("judge", template, "q {ANSWER_B}", "{QUESTION}", "two")
    assert (system.role, system.content) == ("system", "judge")
    assert user.content == "<u>q {ANSWER_B}</u><a>{QUESTION}</a><b>two</b>"


def test_our_own_prompt_delimits_with_a_key_and_names_all_labels():
    system, user = own_game_messages(["q"], ["one"], ["two"])
    assert all(f"[[{label}]]" in system.content for label in LABELS)
    assert user.content.index("one") < user.content.index("two")
    assert "reference answer" not in user.content
    _, told = own_game_messages(["q"], ["one"], ["two"], criteria="Be brief.", reference="the key")
    assert "What counts:\nBe brief." in told.content
    assert "the key" in told.content
