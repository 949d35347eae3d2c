"""Thoughts, tool calls, tools and weights in a mix."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from evalsuite.conversations.formats import conversation_of
from evalsuite.training.data import open_training_data
from tests.evalsuite.mix.test_mix import build, chat, rows_of, write

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"place": "Oslo"}'}}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {}}}]


def thinking(number: int, thought: str = "Easy.") -> dict:
    row = chat(number)
    row["messages"][-1]["reasoning_content"] = thought
    return row


def calling(number: int) -> dict:
    turns = [
        {"role": "user", "content": f"Weather {number}?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL], "weight": 0},
        {"role": "tool", "content": "rain", "tool_call_id": "c1"},
        {"role": "assistant", "content": "It rains."},
    ]
    return {"messages": turns, "tools": TOOLS, "conversation_hash": f"call{number}"}


def test_a_mix_has_the_fields_that_its_rows_have(tmp_path):
    rows = [chat(1), thinking(2), calling(3)]
    document = build(tmp_path / "mix", [{"data": write(tmp_path / "c.jsonl", rows)}])
    assert document["sources"][0]["n_thoughts"] == 1
    by_hash = {conversation.hash: conversation for conversation in open_training_data(str(tmp_path / "mix"))}
    for row in rows:
        conversation = conversation_of(row, "chat")
        assert by_hash[conversation.hash].messages == conversation.messages
        assert by_hash[conversation.hash].tools == conversation.tools
    assert json.loads(by_hash["call3"].tools) == TOOLS


def test_a_mix_without_them_has_the_columns_of_before(tmp_path):
    build(tmp_path / "mix", [{"data": write(tmp_path / "c.jsonl", [chat(1), chat(2)])}])
    schema = pq.read_schema(tmp_path / "mix" / "mix-00000-of-00001.parquet")
    assert schema.names == ["messages", "conversation_hash", "source", "dgm"]
    assert [field.name for field in schema.field("messages").type.value_type] == ["role", "content"]


@pytest.mark.parametrize(("policy", "least", "most"), [("keep", 40, 40), ("drop", 0, 0), ("mixed", 8, 32)])
def test_thoughts_are_kept_dropped_or_mixed(tmp_path, policy, least, most):
    path = write(tmp_path / "c.jsonl", [thinking(number) for number in range(40)])
    document = build(tmp_path / "mix", [{"data": path}], thinking=policy)
    thoughts = [turn.get("reasoning_content") for row in rows_of(tmp_path / "mix") for turn in row["messages"]]
    assert least <= sum(thought is not None for thought in thoughts) <= most
    assert document["sources"][0]["n_thoughts"] == sum(thought is not None for thought in thoughts)


def test_answers_with_other_thoughts_or_calls_are_no_duplicates(tmp_path):
    twice = chat(1)["messages"]
    rows = [thinking(1, "Easy."), thinking(1, "Hard."), {"messages": twice}, {"messages": twice}]
    path = write(tmp_path / "c.jsonl", rows)
    assert build(tmp_path / "kept", [{"data": path}])["n_rows"] == 3
    assert build(tmp_path / "dropped", [{"data": path}], thinking="drop")["n_rows"] == 1
