"""The recorded cases of data in ``../shared/cases/data``: recipes and conversations that once came out wrong."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from evalsuite.assets.demo import demo_folder
from evalsuite.checkpoint import resolve
from evalsuite.conversations.formats import Conversation, conversation_of
from evalsuite.errors import DataError
from evalsuite.generation.run import generate
from evalsuite.mix.build import build_mix
from evalsuite.progress import NoProgress
from evalsuite.recipes.recipe import read_recipe
from evalsuite.recipes.training import TrainingConfig
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.training.data import open_training_data, write_tokens
from evalsuite.training.template import open_template
from tests.evalsuite.generation_endpoint import answering, config
from tests.evalsuite.mix.test_duplicates import jaccard
from tests.evalsuite.mix.test_mix import NO_CHECK, rows_of
from tests.evalsuite.stub_endpoint import StubEndpoint


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def mixed(cases, name, out):
    """The document of the mix of a recorded recipe."""
    return build_mix(read_recipe(cases / "data" / f"{name}.yaml"), out, NoProgress(), contamination=NO_CHECK)


def with_source(recipe, **changes):
    """The recipe with other settings of its first source."""
    first, *others = recipe.mix.sources
    sources = (first.model_copy(update=changes), *others)
    return recipe.model_copy(update={"mix": recipe.mix.model_copy(update={"sources": sources})})


def test_near_duplicates_are_found(cases, tmp_path):
    rows = lines(cases / "data/near_recall.jsonl")
    words = [" ".join(turn["content"] for turn in row["messages"]).split() for row in rows]
    n_near = sum(jaccard(one, other) >= 0.8 for one, other in zip(words[::2], words[1::2], strict=True))
    document = mixed(cases, "near_recall", tmp_path / "out")
    # The bands propose a pair at the threshold with at least 98.5 %.
    assert n_near == 200
    assert 0.985 * n_near <= document["sources"][0]["refused"]["near_duplicate"] <= n_near


def test_chinese_texts_that_differ_in_one_sign_are_near_duplicates(cases, tmp_path):
    document = mixed(cases, "near_chinese", tmp_path / "out")
    assert (document["n_rows"], document["sources"][0]["refused"]) == (1, {"near_duplicate": 2})


@pytest.mark.parametrize(
    ("name", "roles", "first"),
    [
        ("system_column", ["system", "user", "assistant"], "Answer in French."),
        ("empty_system", ["user", "assistant"], "Name a river."),
        ("conversational_prompt_completion", ["user", "assistant"], "Name a river."),
    ],
)
def test_a_row_of_another_form_is_read_whole(cases, tmp_path, name, roles, first):
    mixed(cases, name, tmp_path / "out")
    [row] = rows_of(tmp_path / "out")
    assert [turn["role"] for turn in row["messages"]] == roles
    assert row["messages"][0]["content"] == first
    with StubEndpoint(answering) as stub:
        generate(config(stub, cases / "data" / f"{name}.jsonl", tmp_path / "answers"))
        asked = stub.requests[0][1]["messages"]
    assert [(turn["role"], turn["content"]) for turn in asked] == [
        (turn["role"], turn["content"]) for turn in row["messages"][:-1]
    ]


def test_preferences_as_lists_of_messages_are_read(cases):
    [row] = lines(cases / "data/conversational_prompt_completion.jsonl")
    answer = row.pop("completion")
    read = conversation_of(
        {**row, "chosen": answer, "rejected": [{**answer[0], "content": "A lake."}]}, "prompt_answer"
    )
    assert isinstance(read, Conversation)
    assert [turn.content for turn in read.messages] == ["Name a river.", "Po"]


def test_a_small_source_is_repeated_if_the_recipe_says_so(cases, tmp_path):
    with pytest.raises(DataError, match=r"asks for 20 conversations of source 'small', which has 5 .*repeat"):
        mixed(cases, "upsample", tmp_path / "refused")
    recipe = with_source(read_recipe(cases / "data/upsample.yaml"), repeat=4)
    document = build_mix(recipe, tmp_path / "out", NoProgress(), contamination=NO_CHECK)
    assert [(source["taken"], source["unique"]) for source in document["sources"]] == [(20, 5), (20, 20)]
    small = Counter(row["messages"][0]["content"] for row in rows_of(tmp_path / "out") if row["source"] == "small")
    assert sorted(small.values()) == [4] * 5


def test_mix_and_sft_count_the_same_tokens(cases, tmp_path):
    if not (demo_folder() / "config.json").is_file():
        pytest.skip(f"needs the demo model in {demo_folder()}")
    recipe = read_recipe(cases / "data/token_filter.yaml")
    with pytest.raises(DataError, match="max_tokens 3"):
        mixed(cases, "token_filter", tmp_path / "none")
    demo = resolve("demo")
    template = open_template(demo, load_chat_format(demo), {})
    filters = recipe.mix.sources[0].filters

    def build(limit):
        kept = with_source(recipe, filters=filters.model_copy(update={"max_tokens": limit}))
        return build_mix(kept, tmp_path / str(limit), NoProgress(), contamination=NO_CHECK)

    build(None)
    read = open_training_data(str(tmp_path / "None"))
    sizes = [len(template.on.conversation_tokens(talk.messages)) for talk in read]
    longest = max(sizes)
    assert min(sizes) > 90, "none of them fits"
    assert build(longest)["n_rows"] == 3
    data = open_training_data(str(tmp_path / str(longest)))
    counts = write_tokens(data, template, tmp_path / "tokens", TrainingConfig(base="demo", max_length=longest))
    # The line break after the last answer is the template's; training ends with the answer.
    assert (counts.dropped, counts.longest) == ({}, longest - 1)


def test_the_answers_of_a_model_are_in_the_column_that_trainers_read(cases, tmp_path):
    with StubEndpoint(answering) as stub:
        generate(config(stub, cases / "data/messages_column.jsonl", tmp_path / "out"))
    rows = rows_of(tmp_path / "out")
    assert [len(row["messages"]) for row in rows] == [2, 4]
    assert not {"conversation", "conversations", "prompt", "completion", "text"} & set(rows[0])
    assert "ORIGINAL" not in str([row["messages"] for row in rows])
    assert [row["source_messages"][1]["content"] for row in rows] == ["ORIGINAL ANSWER ONE", "ORIGINAL ANSWER TWO"]


def test_one_row_of_content_parts_leaves_the_types_of_the_others(cases, tmp_path):
    with StubEndpoint(answering) as stub:
        generate(config(stub, cases / "data/mixed_content.jsonl", tmp_path / "out"))
    rows = rows_of(tmp_path / "out")
    assert [row["unscored"] for row in rows] == [None, None]
    for column in ("messages", "source_messages"):
        assert [row[column][0]["content"] for row in rows] == ["Name a river.", "Name a lake."]
