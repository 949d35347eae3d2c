"""Rows as conversations, and the reasons of rows that are not."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.conversations.formats import Conversation, conversation_of, detect_format, prompts_of
from evalsuite.errors import DataError
from judges.types import Message, Unscored


def turns(*pairs):
    return [{"role": role, "content": text} for role, text in pairs]


CHAT = turns(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"))


def reason(row, layout="chat", read=conversation_of):
    conversation = read(row, layout)
    return conversation.reason if isinstance(conversation, Unscored) else None


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["conversation_hash", "model", "conversation", "turn"], "chat"),
        (["messages", "prompt", "prompt_id"], "chat"),
        (["id", "conversations"], "sharegpt"),
        (["question", "subject", "choices", "answer"], "multiple_choice"),
        (["instruction", "input", "output"], "prompt_answer"),
        (["prompt"], "prompt_answer"),
        (["question_id", "category", "turns"], "prompt_answer"),
    ],
)
def test_the_format_is_detected_from_the_columns(columns, expected):
    assert detect_format(columns, "here") == expected


def test_an_unknown_format_names_the_columns_and_the_supported_ones():
    with pytest.raises(DataError, match=r"rows\.jsonl has the columns body, subject; supported are 'conversation'"):
        detect_format(["subject", "body"], "rows.jsonl")


def test_a_conversation_keeps_its_turns_language_and_hash():
    row = {"conversation_hash": "abc", "language": "English", "conversation": CHAT, "messages": turns(("user", "no"))}
    assert conversation_of(row, "chat") == Conversation(
        "abc",
        (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Bye")),
        "English",
        (None,) * 4,
    )


def test_a_row_without_a_hash_is_hashed_by_its_roles_and_texts():
    content = json.dumps([["user", "Grüße"], ["assistant", "Hallo"]], ensure_ascii=False)
    expected = hashlib.sha256(content.encode()).hexdigest()[:32]
    same = [
        ({"messages": turns(("user", "Grüße"), ("assistant", "Hallo"))}, "chat"),
        ({"conversations": [{"from": "human", "value": "Grüße"}, {"from": "gpt", "value": "Hallo"}]}, "sharegpt"),
        ({"prompt": "Grüße", "completion": "Hallo"}, "prompt_answer"),
    ]
    assert {conversation_of(row, layout).hash for row, layout in same} == {expected}


def test_multiple_choice_becomes_a_lettered_question_and_its_correct_option():
    row = {"question": "2 + 2?", "choices": ["3", "4"], "answer": 1}
    conversation = conversation_of(row, "multiple_choice")
    assert conversation.messages == (Message("user", "2 + 2?\nA. 3\nB. 4"), Message("assistant", "B. 4"))
    for answer in ("B", "b", "1"):
        assert conversation_of(row | {"answer": answer}, "multiple_choice").messages == conversation.messages
    for answer in (2, -1, "C", None, True, "four"):
        assert reason(row | {"answer": answer}, "multiple_choice") == "malformed_row"


def test_an_instruction_is_joined_with_its_input():
    row = {"instruction": "Translate.", "input": "chat", "output": "cat"}
    assert conversation_of(row, "prompt_answer").messages == (
        Message("user", "Translate.\n\nchat"),
        Message("assistant", "cat"),
    )
    assert conversation_of({"turns": ["a", "b"]}, "prompt_answer").messages == (
        Message("user", "a"),
        Message("user", "b"),
    )


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], "empty"),
        (turns(("system", "Be brief.")), "empty"),
        (turns(("user", "Hi"), ("assistant", " \n")), "empty"),
        (turns(("user", ""), ("assistant", "Hello")), "empty"),
        (turns(("assistant", "Hello"), ("user", "Hi")), "starts_with_assistant"),
        (turns(("system", "Be brief."), ("assistant", "Hello"), ("user", "Hi")), "starts_with_assistant"),
        (turns(("user", "Hi"), ("tool", "{}")), "bad_roles"),
        (turns(("user", "Hi"), ("system", "Be brief.")), "bad_roles"),
        (turns(("user", "Hi"), ("assistant", "a"), ("assistant", "b")), "bad_roles"),
        (turns(("user", "Hi"), ("assistant", None)), "no_answer"),
        ("Hi", "malformed_row"),
        (None, "malformed_row"),
        (["Hi"], "malformed_row"),
        ([{"role": "user", "content": {"parts": []}}], "malformed_row"),
        ([{"content": "Hi"}], "malformed_row"),
        (turns(("user", "Hi")), None),
        (turns(("user", "Hi"), ("assistant", "Hello"), ("user", "And?")), None),
    ],
)
def test_a_row_that_is_not_a_conversation_has_a_reason(messages, expected):
    assert reason({"messages": messages}) == expected


def test_prompts_need_no_answers():
    row = {"messages": turns(("user", "Hi"), ("assistant", None), ("user", ""))}
    assert reason(row) == "no_answer"
    assert [message.content for message in prompts_of(row, "chat").messages] == ["Hi", "", ""]


def test_the_finish_reasons_of_generated_answers_are_kept():
    answered = {"role": "assistant", "content": "Hello", "finish_reason": "length", "cumulative_logprob": -1.0}
    row = {"conversation": [{"role": "user", "content": "Hi", "finish_reason": None}, answered]}
    assert conversation_of(row, "chat").finish_reasons == (None, "length")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["chat", "sharegpt", "multiple_choice", "prompt_answer"]))
def test_no_row_raises(value, layout):
    names = ("conversation", "conversations", "question", "choices", "answer", "prompt")
    assert isinstance(conversation_of(dict.fromkeys(names, value), layout), Conversation | Unscored)
