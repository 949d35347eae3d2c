"""``evalsuite generate`` against a scripted endpoint."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.config import read_as
from evalsuite.conversations.formats import conversation_of, detect_format
from evalsuite.conversations.source import open_source
from evalsuite.errors import DataError, StoreError, UsageError
from evalsuite.generation import feed as feed_module
from evalsuite.generation import run as run_module
from evalsuite.generation import shards as shards_module
from evalsuite.generation.feed import SeenConversations
from evalsuite.generation.run import generate
from evalsuite.generation.settings import GenerateConfig
from evalsuite.serving.requests import derive_seed
from tests.evalsuite.generation_endpoint import answering, config, slow, write_chats
from tests.evalsuite.stub_endpoint import StubEndpoint


def rows_of(folder):
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.fixture
def chats(tmp_path):
    return write_chats(tmp_path / "chats.jsonl")


@pytest.fixture
def stub():
    with StubEndpoint(slow) as endpoint:
        yield endpoint


def test_every_user_turn_is_answered_in_the_sources_order_with_its_columns(stub, chats, tmp_path):
    out = tmp_path / "out"
    (manifest,) = generate(config(stub, chats, out)).manifests
    source = [json.loads(line) for line in chats.read_text().splitlines()]
    rows = rows_of(out)
    assert [pq.read_table(path).num_rows for path in sorted(out.glob("part-*.parquet"))] == [10] * 5 + [3]
    assert [row["conversation_hash"] for row in rows] == [row["conversation_hash"] for row in source]
    assert [row["source_conversation"] for row in rows] == [row["conversation"] for row in source]
    assert [row["extra"] for row in rows] == [row["extra"] for row in source]
    assert list(rows[0]) == [
        "conversation_hash", "model", "language", "messages", "policy", "unscored",
        "source_model", "source_conversation", "extra",
    ]  # fmt: skip
    assert {(row["model"], row["policy"], row["source_model"], row["unscored"]) for row in rows} == {
        ("stub", "own", "gpt-4", None)
    }
    n_users = 0
    for row, old in zip(rows, source, strict=True):
        asked = [turn["content"] for turn in old["conversation"] if turn["role"] == "user"]
        assert [turn["content"] for turn in row["messages"] if turn["role"] == "user"] == asked
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"] * len(asked)
        history = []
        for number, turn in enumerate(row["messages"]):
            if turn["role"] == "assistant":
                # the endpoint's answer, derived from the expected history and seed
                seed = derive_seed(0, "generate", row["conversation_hash"], number // 2 + 1)
                expected = hashlib.sha256(json.dumps([history, seed, 8]).encode()).hexdigest()[:16]
                assert turn["content"] == expected
                assert (turn["finish_reason"], turn["cumulative_logprob"]) == ("stop", -0.75)
                assert (turn["prompt_tokens"], turn["completion_tokens"]) == (5, 2)
            history.append({"role": turn["role"], "content": turn["content"]})
        n_users += len(asked)
    assert manifest["counts"]["answers"] == n_users
    assert manifest["tokens"] == {"prompt": 5 * n_users, "completion": 2 * n_users, "thought": 0, "cached": 0}
    assert manifest == json.loads((out / "_manifest.json").read_text())
    assert manifest["complete"]
    assert not (out / "_unfinished").exists()


def test_the_output_can_be_read_by_datasets_and_as_a_source(stub, chats, tmp_path):
    import datasets

    generate(config(stub, chats, tmp_path / "out"))
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "out" / "*.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [row["conversation_hash"] for row in loaded] == [f"hash-{number}" for number in range(53)]
    rows = open_source(str(tmp_path / "out"))
    layout = detect_format(rows.columns, rows.spec)
    assert [conversation_of(row, layout).finish_reasons[1] for row in rows] == ["stop"] * 53


def test_teacher_forced_history_is_the_original_one(stub, chats, tmp_path):
    generate(config(stub, chats, tmp_path / "out", policy="teacher-forced", limit=3))
    asked = [body["messages"] for _, body in stub.requests if len(body["messages"]) > 1]
    assert {message["content"][:8] for messages in asked for message in messages if message["role"] == "assistant"} == {
        "original"
    }
    assert {row["policy"] for row in rows_of(tmp_path / "out")} == {"teacher-forced"}


def test_a_second_call_asks_nothing_and_a_damaged_file_is_rewritten(stub, chats, tmp_path):
    out = tmp_path / "out"
    first = generate(config(stub, chats, out))
    n_asked, content = len(stub.requests), {path.name: path.read_bytes() for path in out.glob("*.parquet")}
    assert generate(config(stub, chats, out)).manifests == first.manifests
    assert len(stub.requests) == n_asked
    (out / "part-00002.parquet").write_bytes(b"cut")
    (out / "part-00004.parquet").unlink()
    generate(config(stub, chats, out))
    assert {path.name: path.read_bytes() for path in out.glob("*.parquet")} == content
    again = Counter(body["messages"][0]["content"].partition(".")[0] for _, body in stub.requests[n_asked:])
    assert set(again) == {f"question {number}" for number in [*range(20, 30), *range(40, 50)]}


@pytest.mark.parametrize("lost", [[1], [0], [2], [0, 2]])
def test_a_rewritten_file_has_the_same_rows_if_the_source_has_duplicates(stub, tmp_path, lost):
    chats, out = tmp_path / "chats.jsonl", tmp_path / "out"
    # Without the second A there are six conversations, two per file.
    chats.write_text("".join(json.dumps({"prompt": letter}) + "\n" for letter in "ABCADEF"))
    (first,) = generate(config(stub, chats, out, shard_size=2)).manifests
    rows = rows_of(out)
    assert [row["source_prompt"] for row in rows] == list("ABCDEF")
    for number in lost:
        (out / f"part-{number:05d}.parquet").unlink()
    (again,) = generate(config(stub, chats, out, shard_size=2)).manifests
    assert rows_of(out) == rows
    assert (again["counts"], again["shards"]) == (first["counts"], first["shards"])


def test_reading_the_source_again_does_not_count_as_generation(stub, tmp_path, monkeypatch):
    chats, out = write_chats(tmp_path / "chats.jsonl", 30), tmp_path / "out"
    (before,) = generate(config(stub, chats, out)).manifests
    (out / "part-00002.parquet").unlink()
    read, hours = feed_module.prompts_of, []

    def slowly(row, layout):
        hours.append(1)
        return read(row, layout)

    monkeypatch.setattr(feed_module, "prompts_of", slowly)
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * len(hours), sleep=time.sleep)
    monkeypatch.setattr(run_module, "time", clock)
    (after,) = generate(config(stub, chats, out)).manifests
    assert len(hours) == 30
    # Each row takes an hour to read; the first twenty are before the first that is asked again.
    assert 0 < after["seconds"]["generate"] - before["seconds"]["generate"] < 11 * 3600


def test_an_interrupted_repair_still_knows_the_earlier_rows(stub, tmp_path):
    chats, out = tmp_path / "chats.jsonl", tmp_path / "out"
    chats.write_text("".join(json.dumps({"prompt": letter}) + "\n" for letter in "ABCADEF"))
    generate(config(stub, chats, out, shard_size=2))
    rows = rows_of(out)
    (out / "part-00001.parquet").unlink()
    # A kill before the first row leaves a store without any seen conversations.
    seen = SeenConversations(out / "_unfinished" / "seen.sqlite")
    seen.commit(0)
    seen.close()
    generate(config(stub, chats, out, shard_size=2))
    assert rows_of(out) == rows


def test_shards_of_several_machines_add_up_to_all_rows(stub, chats, tmp_path):
    generate(config(stub, chats, tmp_path / "whole"))
    for number in (3, 1, 2):
        generate(config(stub, chats, tmp_path / "parts", shard=f"{number}/3"))
    names = sorted(path.name for path in (tmp_path / "parts").glob("*.parquet"))
    assert names == [f"part-{number}of3-{file:05d}.parquet" for number in (1, 2, 3) for file in (0, 1)]
    assert len(list((tmp_path / "parts").glob("_manifest-*of3.json"))) == 3
    whole, parts = rows_of(tmp_path / "whole"), rows_of(tmp_path / "parts")
    assert sorted(parts, key=lambda row: row["extra"]["number"]) == whole
    assert [row["extra"]["number"] % 3 for row in parts] == [0] * 18 + [1] * 18 + [2] * 17
    with pytest.raises(UsageError, match="answers with --shard 1/3"):
        generate(config(stub, chats, tmp_path / "parts", shard="1/2"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy": "teacher-forced"}, r"policy own \(now teacher-forced\)"),
        ({"temperature": 0.0}, r"temperature 0.7 \(now 0.0\)"),
        ({"max_new_tokens": 9}, r"--max-new-tokens 8 \(now 9\)"),
        ({"seed": 1, "limit": 3}, r"seed 0 \(now 1\), limit 4 \(now 3\)"),
        ({"system": "Be brief."}, "another system"),
        ({"max_model_len": 64}, "another model"),
    ],
)
def test_answers_of_other_settings_are_not_mixed(stub, chats, tmp_path, changes, message):
    generate(config(stub, chats, tmp_path / "out", limit=4))
    with pytest.raises(UsageError, match=f"contains answers with {message}; give another --out, or --fresh"):
        generate(config(stub, chats, tmp_path / "out", **({"limit": 4} | changes)))


def test_fresh_moves_the_earlier_answers_aside(stub, chats, tmp_path):
    out = tmp_path / "out"
    generate(config(stub, chats, out, limit=4))
    generate(config(stub, chats, out, limit=4, seed=1, fresh=True))
    assert len(rows_of(out)) == 4
    (aside,) = (out / ".replaced").iterdir()
    assert rows_of(aside) != rows_of(out)
    assert (aside / "_manifest.json").is_file()


def test_another_source_is_rejected(stub, chats, tmp_path):
    generate(config(stub, chats, tmp_path / "out", limit=4))
    chats.write_text(chats.read_text().replace("hash-", "other-"))
    with pytest.raises(UsageError, match="answers to other prompts"):
        generate(config(stub, chats, tmp_path / "out", limit=4))


BAD = [
    {"messages": [{"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Hi"}]},
    {"messages": []},
    {"messages": "Hi"},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "{}"}]},
    {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "user", "content": ""},
            {"role": "user", "content": "c"},
        ]
    },
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]},
    {"messages": [{"role": "user", "content": "word " * 200_000}]},
    {"messages": [{"role": "user", "content": "again"}]},
    {"messages": [{"role": "user", "content": "again"}], "other": 1},
    {"messages": [{"role": "user", "content": "half \ud83d of a pair"}]},
]


def too_long_is_rejected(path, body):
    if sum(len(message["content"]) for message in body["messages"]) > 10_000:
        return 400, {"error": {"message": "This model's maximum context length is 4096 tokens"}}
    return answering(path, body)


def test_rows_that_cannot_be_answered_are_kept_with_their_reason(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in BAD))
    with StubEndpoint(too_long_is_rejected) as stub:
        arguments = ["generate", f"stub@{stub.url}", "--prompts", str(path), "--out", str(tmp_path / "out"), "--json"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 1, result.output
        assert "more than --max-unscored 0.01 allows" in result.stderr
        assert CliRunner().invoke(app, [*arguments, "--max-unscored", "1"]).exit_code == 0
    (manifest,) = json.loads(result.stdout)["models"]
    assert manifest["counts"]["unscored"] == {
        "bad_roles": 1, "context_length": 1, "empty": 2, "malformed_row": 1, "no_answer": 1, "starts_with_assistant": 1
    }  # fmt: skip
    assert manifest["counts"]["left_out"] == {"duplicate": 1, "other_language": 0}
    rows = rows_of(tmp_path / "out")
    assert [row["unscored"] for row in rows[:5]] == [
        "starts_with_assistant", "empty", "malformed_row", "bad_roles", None
    ]  # fmt: skip
    reasons = [[turn["finish_reason"] for turn in row["messages"] if turn["role"] == "assistant"] for row in rows[4:]]
    assert reasons == [["stop", "empty", "no_answer"], ["stop"], ["context_length"], ["stop"], ["stop"]]
    assert [turn["content"] for turn in rows[6]["messages"]] == ["word " * 200_000, None]
    assert [turn["role"] for turn in rows[5]["messages"]] == ["system", "user", "assistant"]
    assert rows[8]["messages"][0]["content"] == "half \ufffd of a pair"
    # An odd row leaves the column's type alone.
    assert rows[2]["source_messages"] is None
    assert rows[4]["source_messages"][0]["role"] == "user"


def test_source_columns_with_names_of_output_columns_are_renamed(stub, tmp_path):
    path = tmp_path / "in.jsonl"
    starts = [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Hi"}]
    rows = [{"conversation_hash": 17, "language": "French", "messages": starts}]
    rows.append({"conversation_hash": 18, "language": "French", "messages": [{"role": "user", "content": "Hi"}]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    generate(config(stub, path, tmp_path / "out"))
    written = rows_of(tmp_path / "out")
    assert [row["unscored"] for row in written] == ["starts_with_assistant", None]
    assert [row["language"] for row in written] == ["French", "French"]
    # Numbers are not conversation hashes and are kept as source columns.
    assert [row["source_conversation_hash"] for row in written] == [17, 18]
    assert all(len(row["conversation_hash"]) == 32 for row in written)


def test_only_the_requested_language(stub, chats, tmp_path):
    (manifest,) = generate(config(stub, chats, tmp_path / "out", language="french", limit=5)).manifests
    assert [row["extra"]["number"] for row in rows_of(tmp_path / "out")] == [0, 4, 8, 12, 16]
    assert manifest["counts"]["left_out"]["other_language"] == 12
    with pytest.raises(DataError, match=r"no row of .*chats.jsonl has the language 'Latin'; languages: English, F"):
        generate(config(stub, chats, tmp_path / "latin", language="Latin"))
    (tmp_path / "plain.jsonl").write_text('{"prompt": "Hi"}\n')
    with pytest.raises(DataError, match="has no column 'language'"):
        generate(config(stub, tmp_path / "plain.jsonl", tmp_path / "plain", language="English"))


def test_several_models_have_a_folder_each_also_in_later_calls(stub, chats, tmp_path):
    with StubEndpoint(answering, model="other") as second:
        both = [f"stub@{stub.url}", f"other@{second.url}"]
        generate(config(stub, chats, tmp_path / "out", models=both[:1], limit=2))
        with pytest.raises(UsageError, match="contains the shards of one model"):
            generate(config(stub, chats, tmp_path / "out", models=both, limit=2))
        folders = generate(config(stub, chats, tmp_path / "both", models=both, limit=2)).folders
        assert [folder.parent for folder in folders] == [tmp_path / "both"] * 2
        assert generate(config(stub, chats, tmp_path / "both", models=both[:1], limit=2)).folders == folders[:1]
    assert [rows_of(folder)[0]["model"] for folder in folders] == ["stub", "other"]


def test_a_full_disk_is_one_sentence_and_loses_nothing(stub, chats, tmp_path, monkeypatch):
    write_table, out = pq.write_table, tmp_path / "out"
    written = []

    def until_full(table, path, **options):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(path)
        write_table(table, path, **options)

    monkeypatch.setattr(pq, "write_table", until_full)
    with pytest.raises(StoreError, match=r"cannot write .*No space left on device.*free some space and run again"):
        generate(config(stub, chats, out))
    assert not list(out.glob(".part-*"))
    monkeypatch.undo()
    generate(config(stub, chats, out))
    n_turns = sum(len(row["messages"]) // 2 for row in rows_of(out))
    # requests in flight are repeated: five conversations were in progress
    assert n_turns <= len(stub.requests) <= n_turns + 5


def test_rows_keep_their_arrow_types(stub, tmp_path):
    import datetime

    time_ = datetime.datetime(2023, 4, 9, 12, tzinfo=datetime.UTC)
    kinds = [("prompt", pa.string()), ("timestamp", pa.timestamp("us", "UTC")), ("toxic", pa.bool_())]
    table = pa.table({"prompt": ["a"], "timestamp": [time_], "toxic": [None]}, schema=pa.schema(kinds))
    pq.write_table(table, tmp_path / "in.parquet")
    generate(config(stub, tmp_path / "in.parquet", tmp_path / "out"))
    written = pq.read_table(tmp_path / "out" / "part-00000.parquet")
    kept = written.select(["source_prompt", "timestamp", "toxic"])
    assert kept.rename_columns(["prompt", "timestamp", "toxic"]) == table


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shard": "5/4", "policy": "mine"}, "--policy must be 'own' or .*, not 'mine'; --shard: '5/4' is not i/n"),
        ({"push_to": "name"}, "--push-to: 'name' is not a hub id; give org/name"),
        ({"top_p": 0.9, "temperature": None}, "--top-p without --temperature"),
        ({"system": " "}, "--system: it is empty"),
        ({"limit": 0, "shard_size": 0}, "--limit must be at least 1, not 0; --shard-size must be at least 1, not 0"),
        ({"temperature": float("inf")}, "--temperature must be a finite number, not inf"),
    ],
)
def test_all_invalid_options_are_reported_together(changes, message, tmp_path):
    values = {"models": ["demo"], "prompts": "x", "out": tmp_path, "temperature": 0.5}
    with pytest.raises(UsageError, match=message):
        read_as(GenerateConfig, {key: value for key, value in (values | changes).items() if value is not None})


def test_lone_surrogates_are_escaped():
    clean = shards_module._array(["half \ud83d", "b"], pa.string())
    assert clean.to_pylist() == ["half \\ud83d", "b"]


def test_the_resolved_options_are_written_and_run_again(stub, chats, tmp_path):
    first = generate(config(stub, chats, tmp_path / "out", limit=5))
    asked = len(stub.requests)
    again = read_as(GenerateConfig, {}, tmp_path / "out" / "_config.yaml")
    assert (again.limit, again.prompts, again.serve.in_flight) == (5, str(chats), 4)
    assert generate(again).manifests == first.manifests
    assert len(stub.requests) == asked
    part = generate(config(stub, chats, tmp_path / "parts", shard="2/3"))
    assert (part.folders[0] / "_config-2of3.yaml").is_file()


def test_a_turn_of_the_token_cap_is_cut_and_an_answer_without_text_is_empty(tmp_path):
    def replies(path, body):
        text, end, n = {"cap": ("long", "stop", 8), "none": ("", "stop", 1), "fine": ("yes", "stop", 7)}[
            body["messages"][-1]["content"]
        ]
        return 200, {
            "choices": [{"message": {"content": text}, "finish_reason": end}],
            "usage": {"prompt_tokens": 3, "completion_tokens": n},
        }

    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"turns": turns}) + "\n" for turns in (["cap"], ["none", "fine"], ["fine"])))
    with StubEndpoint(replies) as stub:
        (manifest,) = generate(config(stub, path, tmp_path / "out", max_unscored=1)).manifests
        assert len(stub.requests) == 3, "nothing follows an empty answer"
    ends = [[turn["finish_reason"] for turn in row["messages"][1::2]] for row in rows_of(tmp_path / "out")]
    assert ends == [["length"], ["empty", "no_answer"], ["stop"]]
    assert manifest["counts"]["finish_reasons"] == {"length": 1, "stop": 1}


def test_one_odd_row_leaves_the_others_types_alone(stub, tmp_path):
    talks = ["Name a river.", [{"type": "text", "text": "Name a lake."}], [{"type": "image_url", "image_url": "x"}]]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"messages": [{"role": "user", "content": talk}]}) + "\n" for talk in talks))
    generate(config(stub, path, tmp_path / "out", max_unscored=1))
    rows = rows_of(tmp_path / "out")
    assert [row["unscored"] for row in rows] == [None, None, "malformed_row"]
    assert [row["source_messages"] and row["source_messages"][0]["content"] for row in rows] == [
        "Name a river.", "Name a lake.", None
    ]  # fmt: skip


def test_a_folder_of_an_older_version_keeps_its_column(stub, chats, tmp_path):
    out = tmp_path / "out"
    generate(config(stub, chats, out))
    for path in out.glob("part-*.parquet"):
        table = pq.read_table(path)
        names = {"messages": "conversation"}
        pq.write_table(table.rename_columns([names.get(name, name) for name in table.column_names]), path)
    manifest = json.loads((out / "_manifest.json").read_text())
    del manifest["turns_column"]
    for shard in manifest["shards"]:
        shard["sha256"] = hashlib.sha256((out / shard["file"]).read_bytes()).hexdigest()
    (out / "_manifest.json").write_text(json.dumps(manifest))
    (out / "part-00002.parquet").unlink()
    generate(config(stub, chats, out))
    assert all(len(row["conversation"]) in {2, 4, 6} for row in rows_of(out))
