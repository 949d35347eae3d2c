"""What is asked again: failures, and nothing else; and runs that grow. Proven by the requests that a server counts."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from evalsuite.errors import StoreError, UsageError
from evalsuite.generation.run import generate
from tests.evalsuite.generation_endpoint import answering, chat_reply, config, write_chats
from tests.evalsuite.stub_endpoint import StubEndpoint


def rows_of(folder):
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def asked(stub, start=0):
    """How often each last user turn was asked."""
    return Counter(body["messages"][-1]["content"] for _, body in stub.requests[start:])


class Failing:
    """Answers, but rejects the questions in ``failing``."""

    def __init__(self, *failing):
        self.failing = set(failing)

    def __call__(self, path, body):
        if body["messages"][-1]["content"] in self.failing:
            return 400, {"error": {"message": "not today"}}
        return 200, chat_reply(body)


@pytest.fixture
def chats(tmp_path):
    return write_chats(tmp_path / "chats.jsonl")


def whole(stub, chats, folder, **changes):
    """The rows of a run that was never interrupted, and how many requests it took."""
    before = len(stub.requests)
    generate(config(stub, chats, folder, **changes))
    return rows_of(folder), len(stub.requests) - before


def test_the_same_command_asks_again_what_failed_through_the_servers_fault(chats, tmp_path):
    endpoint = Failing("question 7.0", "question 23.1", "question 52.0")
    with StubEndpoint(endpoint) as stub:
        (manifest,) = generate(config(stub, chats, tmp_path / "out")).manifests
        assert manifest["counts"]["unscored"] == {"no_answer": 3, "request_failed": 3}
        start = len(stub.requests)
        generate(config(stub, chats, tmp_path / "out"))
        assert set(asked(stub, start)) == endpoint.failing, "only what failed is asked"
        failed, endpoint.failing = endpoint.failing, set()
        start = len(stub.requests)
        (manifest,) = generate(config(stub, chats, tmp_path / "out")).manifests
        # And what follows from it.
        assert asked(stub, start) == Counter({*failed, "question 7.1", "question 23.2", "question 52.1"})
        start = len(stub.requests)
        generate(config(stub, chats, tmp_path / "out"))
        assert len(stub.requests) == start
        assert (manifest["counts"]["unscored"], manifest["complete"]) == ({}, True)
        assert rows_of(tmp_path / "out") == whole(stub, chats, tmp_path / "whole")[0]
    assert not (tmp_path / "out" / "_unfinished").exists()


def test_other_failures_are_asked_again_with_retry_failed_only(tmp_path):
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps({"turns": turns}) + "\n" for turns in (["a", "b"], ["silent", "c"], ["d"])))
    silent = [True]

    def reply(path, body):
        done = chat_reply(body)
        if silent[0] and body["messages"][-1]["content"] == "silent":
            done["choices"][0]["message"]["content"] = " "
        return 200, done

    with StubEndpoint(reply) as stub:
        (manifest,) = generate(config(stub, chats, tmp_path / "out")).manifests
        assert manifest["counts"]["unscored"] == {"empty": 1, "no_answer": 1}
        start = len(stub.requests)
        generate(config(stub, chats, tmp_path / "out"))
        assert len(stub.requests) == start
        silent[0] = False
        (manifest,) = generate(config(stub, chats, tmp_path / "out", retry_failed=True)).manifests
        assert asked(stub, start) == Counter(["silent", "c"])
    assert manifest["counts"]["unscored"] == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"limit": 20}, {"limit": 37}),
        ({"limit": 20}, {}),
        ({"shard_size": 10}, {"shard_size": 7}),
        ({"shard_size": 3, "limit": 20}, {"shard_size": 30, "limit": 31}),
        ({"limit": 20}, {"limit": 20, "samples": 3}),
    ],
)
def test_a_run_that_grows_asks_only_what_is_new(chats, tmp_path, before, after):
    with StubEndpoint(answering) as stub:
        generate(config(stub, chats, tmp_path / "out", **before))
        n_before = len(stub.requests)
        (manifest,) = generate(config(stub, chats, tmp_path / "out", **after)).manifests
        n_asked = len(stub.requests)
        rows, n_whole = whole(stub, chats, tmp_path / "whole", **after)
        assert n_asked == n_whole, f"{n_before} answers stay"
        assert rows_of(tmp_path / "out") == rows
        assert manifest["complete"]
        start = len(stub.requests)
        generate(config(stub, chats, tmp_path / "out", **after))
        assert len(stub.requests) == start
    assert not (tmp_path / "out" / ".replaced").exists()


def test_a_run_grows_with_its_source_wherever_the_new_rows_are(chats, tmp_path):
    lines = chats.read_text().splitlines(keepends=True)
    chats.write_text("".join(lines[:40]))
    with StubEndpoint(answering) as stub:
        generate(config(stub, chats, tmp_path / "out"))
        chats.write_text("".join([lines[45], *lines[:20], lines[50], *lines[20:40], *lines[51:]]))
        generate(config(stub, chats, tmp_path / "out"))
        n_asked = len(stub.requests)
        rows, n_whole = whole(stub, chats, tmp_path / "whole")
        assert n_asked == n_whole
        assert rows_of(tmp_path / "out") == rows
        # Rows that are gone: their answers are kept aside.
        chats.write_text("".join(lines[1:5]))
        generate(config(stub, chats, tmp_path / "out"))
        assert len(stub.requests) == n_asked + n_whole
    assert len(rows_of(tmp_path / "out")) == 4
    (aside,) = (tmp_path / "out" / ".replaced").iterdir()
    assert sum(pq.read_table(path).num_rows for path in aside.glob("*.parquet")) == 44


def test_a_run_that_is_interrupted_while_it_grows_asks_nothing_twice(chats, tmp_path):
    answers = Counter()

    def counted(path, body):
        answers[json.dumps(body["messages"])] += 1
        return 200, chat_reply(body)

    with StubEndpoint(counted) as stub:
        # The first call is cut after some answers: its stores are those of files of another size.
        out = tmp_path / "out"
        interrupted(stub, chats, out, after=15, shard_size=20)
        interrupted(stub, chats, out, after=20, shard_size=4)
        generate(config(stub, chats, out, shard_size=10))
        assert max(answers.values()) == 1
        rows, _ = whole(stub, chats, tmp_path / "whole", shard_size=10)
    assert rows_of(out) == rows


def interrupted(stub, chats, out, *, after, **changes):
    """Call generate, and stop it after some more answers."""
    from evalsuite.generation import run

    start, real = len(stub.requests), run.answer_conversation

    async def watched(*args, **kwargs):
        if len(stub.requests) >= start + after:
            raise StoreError("stopped")
        return await real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "answer_conversation", watched)
        with pytest.raises(StoreError, match="stopped"):
            generate(config(stub, chats, out, in_flight=1, **changes))


def test_a_smaller_run_is_refused(chats, tmp_path):
    with StubEndpoint(answering) as stub:
        generate(config(stub, chats, tmp_path / "out", limit=4, samples=2))
        for changes in ({"limit": 3, "samples": 2}, {"limit": 4, "samples": 1}):
            with pytest.raises(UsageError, match=r"contains answers with (limit 4|samples 2)"):
                generate(config(stub, chats, tmp_path / "out", **changes))


def test_several_samples_of_a_conversation_are_rows_of_their_own(chats, tmp_path):
    with StubEndpoint(answering) as stub:
        once = whole(stub, chats, tmp_path / "one", limit=5)[0]
        rows = whole(stub, chats, tmp_path / "three", limit=5, samples=3, shard_size=2)[0]
    assert [row["sample"] for row in rows] == [0, 1, 2] * 5
    assert [row["conversation_hash"] for row in rows[::3]] == [row["conversation_hash"] for row in once]
    # The first sample is the answer of a run with one sample, the others differ.
    assert [row["messages"] for row in rows[::3]] == [row["messages"] for row in once]
    assert len({row["messages"][1]["content"] for row in rows}) == 15
    assert [pq.read_table(path).num_rows for path in sorted((tmp_path / "three").glob("part-*"))] == [6, 6, 3]
    with pytest.raises(UsageError, match="--samples with --temperature 0"):
        config(stub, chats, tmp_path / "out", samples=2, temperature=0)


def test_a_served_models_folder_is_named_by_its_served_name(chats, tmp_path):
    with StubEndpoint(answering) as stub, StubEndpoint(answering, model="other") as second:
        both = [f"stub@{stub.url}", f"other@{second.url}"]
        folders = generate(config(stub, chats, tmp_path / "out", models=both, limit=2)).folders
    assert [folder.name for folder in folders] == ["stub", "other"]
