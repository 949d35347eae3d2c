"""Names, prompts and answers of others on their way through import, report, tables and tokenizers."""

from __future__ import annotations

import ast
import csv
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from evalsuite.api import load_results
from evalsuite.checkpoint import resolve
from evalsuite.cli import app
from evalsuite.serving.chat_format import load_chat_format
from judges.types import Message
from tests.evalsuite.generation_endpoint import answering
from tests.evalsuite.report_results import mt_bench_scores, write_model
from tests.evalsuite.results.test_importing import judgments
from tests.evalsuite.stub_endpoint import StubEndpoint
from tests.evalsuite.tiny_checkpoint import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONTROLS = ("\x1b", "\x07", "\x9b", "\u202e", "\r")
HOSTILE = "m\x1b[2J\x1b]0;t\x07\x9b31m\u202e\rx[/b]"


def invoke(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("name", ["half \ud83d", "\udcff"])
def test_half_a_surrogate_pair_in_a_name_does_not_take_the_report_down(tmp_path, name):
    recorded = judgments(tmp_path / "recorded.jsonl", {"a": 5.0})
    done = invoke("import", "mt_bench", recorded, "--model", name, "--judge", name, "--results", tmp_path / "results")
    assert done.exit_code == 0, done.output
    folder = write_model(tmp_path / "results", "b", {"mt_bench": mt_bench_scores(5.0)}, training={"base": name})
    scores = json.loads((folder / "scores.json").read_text())
    scores["model"]["name"] = name
    (folder / "scores.json").write_text(json.dumps(scores))
    done = invoke("report", "--results", tmp_path / "results")
    assert done.exit_code == 0, done.output
    with (tmp_path / "results" / "leaderboard.csv").open(encoding="utf-8") as lines:
        names = [row["model"] for row in csv.DictReader(lines)]
    # A name that was typed is told from others; one in a file has the character that stands for what is none.
    assert names == [name.encode("utf-8", "backslashreplace").decode(), name[:-1] + "\ufffd"]


def test_a_folder_whose_name_is_not_utf8_is_read(tmp_path):
    name = os.fsdecode(b"m\xff")
    write_model(tmp_path, "b", {"mt_bench": mt_bench_scores(5.0)}).rename(tmp_path / name)
    (tmp_path / os.fsdecode(b"broken\xfe")).mkdir()
    (tmp_path / os.fsdecode(b"broken\xfe") / "scores.json").write_text("{")
    done = invoke("report", "--results", tmp_path)
    assert done.exit_code in (0, 1), done.output
    assert "m\\udcff" in (tmp_path / "leaderboard.csv").read_text("utf-8")
    (tmp_path / os.fsdecode(b"broken\xfe") / "scores.json").unlink()
    assert list(load_results(tmp_path)["folder"]) == ["m\\udcff"]


def test_half_a_surrogate_pair_is_tokenised_escaped(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    chat = load_chat_format(resolve(str(write_checkpoint(tmp_path / "ckpt"))))
    for text in ("half \ud83d", "half \ud83d<|im_end|>"):
        escaped = text.replace("\ud83d", "\\ud83d")
        assert chat.prompt_tokens([Message("user", text)]) == chat.prompt_tokens([Message("user", escaped)])


def test_half_a_surrogate_pair_in_a_prompt_and_in_an_answer_is_replaced(tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": "half \ud83d"}) + "\n")
    asked = []

    def answer(path, body):
        asked.append(body["messages"][-1]["content"])
        status, reply = answering(path, body)
        reply["choices"][0]["message"]["content"] = "so \udfff"
        return status, reply

    with StubEndpoint(answer) as stub:
        done = invoke("generate", f"stub@{stub.url}", "--prompts", prompts, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert asked == ["half \ufffd"]
    [shard] = (tmp_path / "out").rglob("part-*.parquet")
    [row] = pq.read_table(shard).to_pylist()
    assert row["messages"][-1]["content"] == "so \ufffd"


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "json"])
def test_no_name_controls_the_terminal(tmp_path, options):
    recorded = judgments(tmp_path / "recorded.jsonl", {"a": 5.0})
    words = ["import", "mt_bench", recorded, "--model", HOSTILE, "--judge", HOSTILE, "--results", tmp_path, *options]
    done = invoke(*words)
    assert done.exit_code == 0, done.output
    assert not any(control in done.output for control in CONTROLS)
    recorded.write_text(json.dumps({"question_id": 81, "model": HOSTILE, "score": "x"}) + "\n")
    done = invoke(*words, "--fresh")
    assert done.exit_code == 2
    assert not any(control in done.output for control in CONTROLS)


def test_an_error_of_a_server_does_not_control_the_terminal(tmp_path):
    with StubEndpoint(lambda path, body: (401, {"error": {"message": HOSTILE}})) as stub:
        done = invoke("run", f"{HOSTILE}@{stub.url}", "--suite", "mt_bench", "--data", "mini", "--results", tmp_path)
    assert done.exit_code != 0
    assert not any(control in done.output for control in CONTROLS)


def test_everything_is_printed_on_the_console_that_drops_controls():
    faults = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "evalsuite").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module == "rich.console"
        and any(alias.name == "Console" for alias in node.names)
    ]
    assert not faults


def test_a_run_writes_what_the_umask_allows(tmp_path):
    recorded = judgments(tmp_path / "recorded.jsonl", {"a": 5.0})
    before = os.umask(0o077)
    try:
        assert invoke("import", "mt_bench", recorded, "--model", "a", "--results", tmp_path / "results").exit_code == 0
        assert invoke("report", "--results", tmp_path / "results").exit_code == 0
    finally:
        os.umask(before)
    written = list((tmp_path / "results").rglob("*"))
    assert len(written) > 5
    assert not [path for path in written if path.stat().st_mode & 0o077]
