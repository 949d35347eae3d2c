from __future__ import annotations

import time

import pytest

from judges.parse import parse_option, parse_rating, parse_score_0_to_1
from judges.thoughts import STYLES, is_loop, split_thought
from judges.types import Unscored


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda style: style.name)
def test_each_style_is_split(style):
    assert split_thought(f"{style.start}so{style.end}\n\nYes.") == ("so", "Yes.")
    assert split_thought(f"so{style.end}Yes.", is_opened=True) == ("so", "Yes.")
    assert split_thought(f"{style.start}so") == ("so", None)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Yes.", (None, "Yes.")),
        ("", (None, "")),
        ("so\n</think>\nYes.", ("so", "Yes.")),
        ("<think></think>Yes.", ("", "Yes.")),
        ("<think>a</think>b</think>c", ("a", "b</think>c")),
        ("Yes: <think>is a mark</think>.", (None, "Yes: <think>is a mark</think>.")),
        ("Use `</think>` here.", (None, "Use `</think>` here.")),
        ("```\n</think>\n```", (None, "```\n</think>\n```")),
        ("```\nx\n```\nso</think>Yes.", ("```\nx\n```\nso", "Yes.")),
    ],
)
def test_marks_elsewhere_are_text(text, parts):
    assert split_thought(text) == parts


@pytest.mark.parametrize("as_published", [False, True])
def test_a_thought_is_never_parsed_for_a_verdict(as_published):
    rating = parse_rating("<think>maybe [[3]], or Rating: [[4]]</think> Rating: [[8]]", as_published=as_published)
    assert rating.value == 8
    bare = parse_rating("maybe [[3]]\n</think>\nRating: [[8]]", as_published=as_published)
    assert bare.value == 8
    assert parse_score_0_to_1("[THINK][[1.0]][/THINK][[0.5]]", as_published=as_published).value == 0.5
    assert parse_option("<think>[[A]]</think>[[B]]", 3, as_published=as_published).letter == "B"
    unfinished = parse_rating("<think>it deserves [[9]]", as_published=as_published)
    assert isinstance(unfinished, Unscored)
    assert unfinished.reason == "no_rating"


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("the same words again " * 20, True),
        ("first something else. " + "wait, let me check. " * 30 + "wait, let", True),
        (" ".join(f"item {number}" for number in range(200)), False),
        ("no no no", False),
        ("a long answer without any refrain that just goes on " * 1, False),
    ],
)
def test_loops(text, loops):
    assert is_loop(text) is loops


@pytest.mark.parametrize("piece", ["<think>", "</think>", "`", "```\n", "a ", "[THINK]x"])
def test_splitting_is_linear(piece):
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    split_thought(text)
    is_loop(text)
    assert time.process_time() - began < 1
