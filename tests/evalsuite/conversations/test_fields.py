"""What turns have besides role and text: read in every common spelling, written in one, never lost unsaid."""

from __future__ import annotations

import json

import pytest

from evalsuite.conversations.fields import fields_of
from evalsuite.conversations.formats import Conversation, conversation_of, prompts_of, with_thoughts
from judges.types import Message, ToolCall, Unscored

ASK = {"role": "user", "content": "Hi"}
CALL = ToolCall("look", '{"place": "Oslo", "days": 2}', "c1")
WEATHER = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def read(*turns, read=conversation_of, **row):
    return read({"messages": [ASK, *turns], **row}, "chat")


def answer(turn, **row) -> Message:
    conversation = read({"role": "assistant", **turn}, **row)
    assert isinstance(conversation, Conversation), conversation
    return conversation.messages[1]


@pytest.mark.parametrize(
    "turn",
    [
        {"content": "4.", "reasoning_content": "Two twos."},
        {"content": "4.", "reasoning": "Two twos.", "reasoning_content": None},
        {"content": "4.", "thinking": "Two twos."},
        {"content": "<think>\nTwo twos.\n</think>\n\n4."},
        {"content": "Two twos.\n</think>\n\n4."},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Two twos."}]},
                {"type": "text", "text": "4."},
            ]
        },
        {"content": [{"type": "reasoning", "reasoning": "Two twos."}, {"type": "text", "text": "4."}]},
    ],
)
def test_a_thought_is_read_wherever_it_stands(turn):
    assert answer(turn) == Message("assistant", "4.", thought="Two twos.")


def test_marks_that_are_no_thought_stay_text():
    text = "Close it with `</think>`."
    assert answer({"content": text}) == Message("assistant", text)
    assert read({"role": "assistant", "content": "x"}).messages[0] == Message("user", "Hi")
    asked = conversation_of({"messages": [{"role": "user", "content": "<think>a</think>b"}]}, "chat")
    assert asked.messages[0].content == "<think>a</think>b", "a user's text is never split"


def test_a_thought_without_an_answer_has_its_own_reason():
    turn = {"role": "assistant", "content": "<think>and so on and"}
    assert read(turn).reason == "unfinished_thinking"
    assert read(turn, read=prompts_of).messages[1] == Message("assistant", "", thought="and so on and")


@pytest.mark.parametrize(
    "turn",
    [
        {"tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": CALL.arguments}}]},
        {"tool_calls": [{"id": "c1", "function": {"name": "look", "arguments": json.loads(CALL.arguments)}}]},
        {"tool_calls": json.dumps([{"id": "c1", "name": "look", "arguments": json.loads(CALL.arguments)}])},
        # Arrow adds null fields where other rows call with other arguments.
        {"tool_calls": [{"id": "c1", "name": "look", "arguments": {"place": "Oslo", "days": 2, "hour": None}}]},
        {"function_call": {"id": "c1", "name": "look", "arguments": CALL.arguments}, "tool_calls": None},
    ],
)
def test_tool_calls_are_read_in_every_spelling(turn):
    assert answer({"content": None, **turn}) == Message("assistant", "", tool_calls=(CALL,))


def test_a_sharegpt_call_and_its_observation():
    turns = [
        {"from": "human", "value": "Weather?"},
        {
            "from": "function_call",
            "value": json.dumps({"id": "c1", "name": "look", "arguments": {"place": "Oslo", "days": 2}}),
        },
        {"from": "observation", "value": "rain"},
        {"from": "gpt", "value": "It rains."},
    ]
    conversation = conversation_of({"conversations": turns, "tools": json.dumps([WEATHER["function"]])}, "sharegpt")
    assert [message.role for message in conversation.messages] == ["user", "assistant", "tool", "assistant"]
    assert conversation.messages[1].tool_calls == (CALL,)
    assert json.loads(conversation.tools) == [WEATHER]
    assert conversation.uses_tools


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"content": "x", "tool_calls": [{"function": {"arguments": "{}"}}]}, "a tool call has no name"),
        ({"content": "x", "tool_calls": [{"name": "look", "arguments": "[1]"}]}, "arguments of look are not an object"),
        ({"content": "x", "tool_calls": "look()"}, "tool_calls is not JSON"),
        ({"content": "x", "weight": "much"}, "weight 'much' is not a number"),
        ({"content": "x", "weight": -1}, "weight -1 is not a number of at least 0"),
    ],
)
def test_fields_that_cannot_be_read_are_a_malformed_row(turn, reason):
    unread = read({"role": "assistant", **turn})
    assert isinstance(unread, Unscored)
    assert unread.reason == "malformed_row"
    assert reason in unread.detail
    assert read({"role": "assistant", "content": "x"}, tools="[").reason == "malformed_row"
    assert read({"role": "assistant", "content": "x"}, tools=[{"type": "function"}]).reason == "malformed_row"


@pytest.mark.parametrize(
    ("field", "weight"),
    [
        ({"weight": 0}, 0.0),
        ({"weight": 0.5}, 0.5),
        ({"train": False}, 0.0),
        ({"train": True}, 1.0),
        ({"loss": False}, 0.0),
        ({"loss": 2.5}, None),
        ({"train": None}, None),
        ({}, None),
    ],
)
def test_weights_are_read(field, weight):
    assert answer({"content": "x", **field}).weight == weight


def test_a_tools_turn_needs_a_call_before_it():
    assert read({"role": "tool", "content": "4"}).reason == "bad_roles"
    called = {"role": "assistant", "content": "", "tool_calls": [{"name": "add", "arguments": {}}]}
    assert isinstance(read(called, {"role": "tool", "content": ""}), Conversation), "a tool may return nothing"


def test_a_later_system_turn_is_kept_and_an_image_is_malformed():
    assert [m.role for m in read({"role": "system", "content": "Be brief."}).messages] == ["user", "system"]
    assert read({"role": "user", "content": [{"type": "image"}]}).reason == "malformed_row"


def test_what_is_written_is_read_back():
    messages = (
        Message("user", "Hi"),
        Message("assistant", "", thought="Look it up.", tool_calls=(CALL,), weight=0.0),
        Message("tool", "rain", name="look", tool_call_id="c1"),
        Message("assistant", "It rains."),
    )
    assert conversation_of({"messages": [fields_of(message) for message in messages]}, "chat").messages == messages
    assert fields_of(Message("user", "Hi")) == {"role": "user", "content": "Hi"}


def test_mixed_thoughts_depend_on_the_hash_alone():
    rows = [
        {"messages": [ASK, {"role": "assistant", "content": "A", "thinking": "T"}], "conversation_hash": str(i)}
        for i in range(200)
    ]
    conversations = [conversation_of(row, "chat") for row in rows]
    kept = [with_thoughts(one, "mixed").messages[1].thought is not None for one in conversations]
    assert 70 < sum(kept) < 130
    assert kept == [with_thoughts(one, "mixed").messages[1].thought is not None for one in conversations]
