"""A streamed answer is the same document as one in a piece."""

from __future__ import annotations

import json

import pytest

from evalsuite.serving.event_stream import assembled, is_event_stream
from evalsuite.serving.replies import read_chat


def stream(*events, end="data: [DONE]\n\n"):
    return ("".join(f"data: {json.dumps(event)}\n\n" for event in events) + end).encode()


def delta(text, finish=None, **fields):
    return {"model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish, **fields}]}


def test_parts_are_joined_and_the_last_usage_counts():
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    logprob = {"logprobs": {"content": [{"token": "a", "logprob": -0.5}]}}
    raw = stream(delta("Par", **logprob), delta("is", **logprob), delta("", "stop"), {"choices": [], "usage": usage})
    assert is_event_stream(raw)
    read = read_chat(assembled(raw))
    assert (read["text"], read["finish_reason"], read["completion_tokens"]) == ("Paris", "stop", 2)
    assert read["cumulative_logprob"] == -1.0


def test_comments_and_line_ends_are_read():
    raw = b": keep-alive\r\n\r\n" + stream(delta("x", "stop")).replace(b"\n", b"\r\n")
    assert is_event_stream(raw)
    assert assembled(raw)["choices"][0]["message"]["content"] == "x"


def test_a_stream_that_is_cut_off_is_no_answer():
    with pytest.raises(ValueError, match="ends before"):
        assembled(stream(delta("half"), end=""))


def test_an_error_in_the_stream_is_the_document():
    assert assembled(stream(delta("half"), {"error": {"message": "overloaded"}}))["error"]["message"] == "overloaded"
