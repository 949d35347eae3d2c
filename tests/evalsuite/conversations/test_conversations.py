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
        (turns(("user", "Hi"), ("system", "Be brief.")), None),
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


@pytest.mark.parametrize("layout", ["chat", "sharegpt", "prompt_answer", "multiple_choice"])
def test_a_system_column_is_the_system_turn(layout):
    rows = {
        "chat": {"messages": turns(("user", "Hi"), ("assistant", "Salut"))},
        "sharegpt": {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Salut"}]},
        "prompt_answer": {"prompt": "Hi", "completion": "Salut"},
        "multiple_choice": {"question": "Hi", "choices": ["a", "b"], "answer": 0},
    }
    for name in ("system", "system_prompt"):
        read = conversation_of(rows[layout] | {name: "Answer in French."}, layout)
        assert read.messages[0] == Message("system", "Answer in French.")
        assert [message.role for message in read.messages] == ["system", "user", "assistant"]
    assert reason(rows[layout] | {"system": {"text": "x"}}, layout) == "malformed_row"
    assert conversation_of(rows[layout] | {"system": " "}, layout) == conversation_of(rows[layout], layout)


def test_a_system_column_beside_a_system_turn_is_read_only_if_they_agree():
    row = {"messages": turns(("system", "Be brief."), ("user", "Hi"))}
    assert conversation_of(row | {"system": "Be brief. "}, "chat") == conversation_of(row, "chat")
    assert reason(row | {"system": "Be long."}) == "bad_roles"
    empty = {"messages": turns(("system", ""), ("user", "Hi"))}
    assert conversation_of(empty | {"system": "Be long."}, "chat").messages[0].content == "Be long."


@pytest.mark.parametrize("text", ["", " ", None])
def test_an_empty_system_turn_is_left_out(text):
    read = conversation_of({"messages": turns(("system", text), ("user", "Hi"), ("assistant", "Hello"))}, "chat")
    assert [message.role for message in read.messages] == ["user", "assistant"]
    assert (len(read.finish_reasons), read.had_empty_system) == (2, True)


def test_the_role_developer_is_system():
    read = conversation_of({"messages": turns(("developer", "Be brief."), ("user", "Hi"))}, "chat")
    assert read.messages[0] == Message("system", "Be brief.")


def test_text_parts_are_joined_and_other_parts_are_malformed():
    parts = [{"type": "text", "text": "Name a"}, {"type": "text", "text": "lake."}]
    assert conversation_of({"messages": turns(("user", parts))}, "chat").messages[0].content == "Name a\nlake."
    for odd in ({"type": "image_url", "image_url": {"url": "x"}}, {"type": "image_url", "text": "x"}, 3):
        assert reason({"messages": turns(("user", [*parts, odd]))}) == "malformed_row"


def test_trls_conversational_columns_are_read():
    prompt, answer = turns(("system", "Be brief."), ("user", "Name a river.")), turns(("assistant", "Po"))
    whole = (Message("system", "Be brief."), Message("user", "Name a river."), Message("assistant", "Po"))
    for row in (
        {"prompt": prompt, "completion": answer},
        {"prompt": prompt, "chosen": answer, "rejected": turns(("assistant", "No"))},
        {"prompt": "Name a river.", "chosen": [*prompt, *answer], "rejected": [*prompt, *answer]},
        {"chosen": [*prompt, *answer], "rejected": prompt},
    ):
        assert conversation_of(row, detect_format(list(row), "here")).messages == whole
    text = {"prompt": "Name a river.", "completion": answer}
    assert conversation_of(text, "prompt_answer").messages == whole[1:]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["role", "content", "x"]), inner),
    max_leaves=8,
)


@given(JSON, st.sampled_from(["chat", "sharegpt", "multiple_choice", "prompt_answer"]))
def test_no_row_raises(value, layout):
    names = ("conversation", "conversations", "question", "choices", "answer", "prompt")
    assert isinstance(conversation_of(dict.fromkeys(names, value), layout), Conversation | Unscored)
