"""Answering one conversation (histories, seeds, failures), and the order and bounds of shards."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.conversations.formats import Conversation, conversation_of, prompts_of
from evalsuite.errors import TemplateError
from evalsuite.generation.answers import RollingStore
from evalsuite.generation.feed import Mark, Prompted, SeenConversations
from evalsuite.generation.settings import GenerateConfig
from evalsuite.generation.shards import Columns, Row, ShardWriter, file_name
from evalsuite.generation.turns import Turn, answer_conversation
from evalsuite.serving.requests import Completion
from judges.types import Message, Unscored
from tests.evalsuite.scripted_chat import ScriptedChat


def scripted(**fails):
    """A model that answers "re: <last text>"; ``fails`` maps a text to another reply."""

    def reply(call):
        failure = fails.get(call.messages[-1].content)
        if isinstance(failure, Exception):
            raise failure
        return failure or Completion(f"re: {call.messages[-1].content}", "stop", 7, 3, 0, -1.23456)

    return ScriptedChat(reply)


def conversation(*pairs, name="h"):
    return prompts_of({"conversation_hash": name, "messages": [{"role": r, "content": t} for r, t in pairs]}, "chat")


def answer_settings(**changes):
    given = {"policy": "own", "max_new_tokens": 5, "temperature": 0.7, "top_p": 1.0, "seed": 0} | changes
    return GenerateConfig(models=("demo",), prompts="chats.jsonl", out="answers", **given)


THREE = (("user", "a"), ("assistant", "A"), ("user", "b"), ("assistant", "B"), ("user", "c"))


def answered(talk, model, **changes):
    return asyncio.run(answer_conversation(talk, model, answer_settings(**changes)))


def texts(messages):
    return [message.content for message in messages]


def test_own_history_has_the_models_answers_and_teacher_forced_the_original_ones():
    own, forced = scripted(), scripted()
    answered(conversation(*THREE), own)
    answered(conversation(*THREE), forced, policy="teacher-forced")
    assert [texts(call.messages) for call in own.calls] == [
        ["a"],
        ["a", "re: a", "b"],
        ["a", "re: a", "b", "re: b", "c"],
    ]
    assert [texts(call.messages) for call in forced.calls] == [["a"], ["a", "A", "b"], ["a", "A", "b", "B", "c"]]


def test_a_later_system_turn_is_sent_and_recorded():
    model = scripted()
    turns = answered(conversation(("user", "a"), ("assistant", "A"), ("system", "Be brief."), ("user", "b")), model)
    assert texts(model.calls[1].messages) == ["a", "re: a", "Be brief.", "b"]
    assert [turn.role for turn in turns] == ["user", "assistant", "system", "user", "assistant"]


def test_a_turn_is_recorded_with_the_servers_figures():
    turns = answered(conversation(("user", "a")), scripted())
    assert turns == (Turn("user", "a"), Turn("assistant", "re: a", "stop", -1.2346, 7, 3))


def thinking(call):
    closed = call.messages[-1].content == "b"
    return Completion("so", "stop", 7, 3, 0, -1.0, thought="hm", thought_tokens=9, thought_closed=closed)


def test_a_thought_stands_beside_the_answer_and_in_the_history():
    model = ScriptedChat(thinking)
    turns = answered(conversation(("user", "a"), ("user", "b")), model)
    assert turns[1] == Turn("assistant", "so", "stop", -1.0, 7, 3, "hm", 9, thought_closed=False)
    assert turns[3].thought_closed
    assert model.calls[1].messages[1] == Message("assistant", "so", thought="hm")


def test_written_thoughts_are_read_back_and_a_cut_one_is_no_complete_answer():
    turns = answered(conversation(("user", "a"), ("user", "b")), ScriptedChat(thinking))
    rows = [Row(row(0).prompted, turns, None)]
    (written,) = Columns(schema(), "m", "own").table(rows).to_pylist()
    read = conversation_of(written, "chat")
    assert [message.thought for message in read.messages] == [None, "hm", None, "hm"]
    assert read.finish_reasons == (None, "stop", None, "thought_closed")
    (old,) = Columns(schema(), "m", "own", thoughts=False).table(rows).to_pylist()
    assert set(old["messages"][1]).isdisjoint({"reasoning_content", "thought_tokens", "thought_closed"})


def test_a_failed_turn_ends_the_conversation_only_with_own_history():
    fails = {"b": Unscored("context_length", "too long")}
    for policy, last in (("own", "no_answer"), ("teacher-forced", None)):
        model = scripted(**fails)
        turns = [turn for turn in answered(conversation(*THREE), model, policy=policy) if turn.role == "assistant"]
        assert [turn.unscored for turn in turns] == [None, "context_length", last]
        assert [turn.content for turn in turns] == ["re: a", None, None if policy == "own" else "re: c"]
        assert len(model.calls) == (2 if policy == "own" else 3)


@pytest.mark.parametrize(("text", "expected"), [(" \n", "empty"), ("odd", "bad_roles")])
def test_a_user_turn_that_cannot_be_asked_has_a_reason(text, expected):
    model = scripted(odd=TemplateError("the template wants turns to alternate"))
    turns = answered(conversation(("user", text)), model)
    assert turns == (Turn("user", text), Turn("assistant", None, expected))


def test_the_system_turn_is_the_given_one_or_the_conversations():
    talk = conversation(("system", "own"), ("user", "a"))
    for given_text, expected in ((None, "own"), ("given", "given")):
        model = scripted()
        turns = answered(talk, model, system=given_text)
        assert turns[0] == Turn("system", expected)
        assert model.calls[0].messages == (Message("system", expected), Message("user", "a"))


def test_seeds_depend_only_on_run_conversation_and_turn():
    def seeds(name, **changes):
        model = scripted()
        answered(conversation(*THREE, name=name), model, **changes)
        return [call.sampling.seed for call in model.calls]

    assert seeds("x") == seeds("x", policy="teacher-forced")
    every = [seed for run in (0, 1) for name in ("x", "y") for seed in seeds(name, seed=run)]
    assert len(set(every)) == 12


def schema():
    import pyarrow as pa

    return pa.schema([("n", pa.int64())])


def row(index):
    talk = Conversation(f"h{index}", (Message("user", "q"),), None, (None,))
    prompted = Prompted(index, {"n": index}, talk, f"h{index}", Mark(rows=index + 1, position=index + 1))
    return Row(prompted, (Turn("user", "q"), Turn("assistant", f"answer {index}", "stop")), None)


def writer(folder, size, ahead=4, written=None):
    return ShardWriter(folder, "", Columns(schema(), "m", "own"), size, ahead, written or {})


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(13)), size=st.integers(1, 15))
def test_files_have_the_sources_order_whichever_row_finishes_first(tmp_path_factory, order, size):
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("shards")

    async def add_all():
        shards = writer(folder, size)
        for index in order:
            await shards.add(row(index))
        await shards.finish(13)
        return shards

    shards = asyncio.run(add_all())
    read = [pq.read_table(folder / file_name(number, ""))["n"].to_pylist() for number in sorted(shards.written)]
    assert [n for part in read for n in part] == list(range(13))
    assert all(len(part) == size for part in read[:-1])
    assert sum(map(len, shards._rows.values())) == 0
    assert [shard.mark.rows for _, shard in sorted(shards.written.items())] == [part[-1] + 1 for part in read]


@pytest.mark.parametrize(("size", "ahead"), [(10, 4), (3, 8), (1, 5)])
async def test_a_straggler_blocks_only_rows_beyond_reach(tmp_path, size, ahead):
    shards = writer(tmp_path, size, ahead)
    assert shards.reach >= ahead + 1
    for index in range(1, shards.reach):
        await asyncio.wait_for(shards.admit(index), 5)
        await shards.add(row(index))
    beyond = asyncio.ensure_future(shards.admit(shards.reach))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not beyond.done()
    assert sum(map(len, shards._rows.values())) <= shards.reach
    await shards.add(row(0))
    await asyncio.wait_for(beyond, 5)


def test_is_first_is_idempotent_for_the_same_row(tmp_path):
    seen = SeenConversations(tmp_path / "seen.sqlite")
    assert [seen.is_first("x", 1), seen.is_first("y", 2), seen.is_first("x", 3)] == [True, True, False]
    seen.commit(2)
    seen.close()
    again = SeenConversations(tmp_path / "seen.sqlite")
    assert [again.is_first("x", 1), again.is_first("y", 2), again.is_first("x", 3)] == [True, True, False]
    again.close()


def test_answers_are_kept_until_their_shard_and_all_earlier_ones_are_written(tmp_path):
    with RollingStore(tmp_path) as store:
        store.open_shard(0)
        store.put("a", {"shard": 0})
        store.open_shard(1)
        store.put("b", {"shard": 0})
        store.delete_before(0)
        assert store.get("a") == store.get("b") == {"shard": 0}
    with RollingStore(tmp_path) as store:
        store.open_shard(0)
        store.put("c", {"shard": 0})
        assert store.get("a") == {"shard": 0}
        store.delete_before(1)
        assert store.get("a") is None
        assert store.get("c") == {"shard": 0}
        store.delete_before(2)
        assert store.get("c") is None
    assert not [path for path in tmp_path.iterdir() if "answers" in path.name]
