"""The first choice of a reply is the one with the lowest index, and what it says is valid Unicode."""

from __future__ import annotations

import pytest

from evalsuite.serving.replies import read_chat, read_completion, read_safely
from judges.types import Unscored


def choice(text, **fields):
    return {"text": text, "message": {"content": text}, "finish_reason": "stop", **fields}


def reply(*choices):
    return {"choices": list(choices), "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


@pytest.mark.parametrize("read", [read_completion, read_chat])
@pytest.mark.parametrize(
    "choices",
    [
        [choice("second", index=1), choice("first", index=0)],
        [choice("first", index=0), choice("second", index=1)],
        [choice("first", index=1)],
        [choice("first"), choice("second", index=1)],
        [None, choice("first", index=0)],
        [choice("first", index="0"), choice("second", index="1")],
    ],
    ids=["reversed", "in order", "one of another index", "without", "not an object", "as text"],
)
def test_choices_are_read_by_index(read, choices):
    answer = read_safely(read, reply(*choices))
    assert not isinstance(answer, Unscored)
    assert answer["text"] == "first"


@pytest.mark.parametrize("choices", [None, {}, {"index": 0}, 5, "x", [], [[]], [None]])
def test_choices_of_another_form_are_a_malformed_reply(choices):
    answer = read_safely(read_chat, {"choices": choices})
    assert isinstance(answer, Unscored)
    assert answer.reason == "malformed_reply"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "one"}, {"type": "text", "text": " two"}], "one two"),
        ([{"type": "text", "text": "one"}, {"type": "image_url"}], None),
        ([{"type": "text", "text": None}], None),
        ([], None),
    ],
)
def test_parts_of_text_are_one_text(content, text):
    answer = read_safely(read_chat, reply(choice(content)))
    assert (None if isinstance(answer, Unscored) else answer["text"]) == text


def test_half_a_surrogate_pair_in_an_answer_adds_no_digits():
    answer = read_safely(read_chat, reply(choice("a\ud83d b")))
    assert not isinstance(answer, Unscored)
    assert answer["text"] == "a\ufffd b"
