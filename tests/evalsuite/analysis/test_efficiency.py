"""The efficiency table: figures from their definitions, and reasons where there is none."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

from evalsuite.analysis.document import read_analysis
from evalsuite.analysis.efficiency import efficiency_analysis, efficiency_row
from evalsuite.analysis.settings import EfficiencyConfig
from evalsuite.cli import app
from evalsuite.errors import DataError
from evalsuite.generation.measured import Measured
from evalsuite.generation.run import generate
from tests.evalsuite.generation_endpoint import config, slow, write_chats
from tests.evalsuite.stub_endpoint import StubEndpoint


def manifest(**changes):
    """200 conversations in 100 s of generation, 50 tokens each, on two GPUs, after two starts of 30 s."""
    document = {
        "schema": 1,
        "kind": "generate",
        "complete": True,
        "shard": "1/1",
        "served_on": "cuda",
        "model": {"name": "m", "fingerprint": "f" * 64},
        "hardware": {"cpu_count": 8, "gpus": ["NVIDIA H100", "NVIDIA H100"]},
        "arguments": {"tensor_parallel_size": 2, "data_parallel_size": 1},
        "counts": {"conversations": 200, "answers": 300, "unscored": {}},
        "tokens": {"prompt": 40_000, "completion": 10_000, "cached": 0},
        "seconds": {"serve": 60.0, "generate": 100.0},
        "peak_memory": {"gib": 71.5, "what": "memory used on the GPUs"},
        "costs": {
            "usage": {"prompt_tokens": 40_000, "completion_tokens": 10_000, "cached_tokens": 10_000},
            "starts": 2,
        },
        "settings": {},
        "shards": [],
    }
    return document | changes


def measured(**changes):
    return Measured.model_validate(manifest(**changes))


def test_a_row_follows_from_the_manifest_by_definition():
    row = efficiency_row(measured(), 1_000_000, 2.5)
    assert row["tokens_in_per_s"] == pytest.approx(400)
    assert row["tokens_out_per_s"] == pytest.approx(100)
    assert row["cached_share"] == pytest.approx(0.25)
    assert row["conversations_per_hour"] == pytest.approx(200 * 36)
    assert row["start_s"] == pytest.approx(30)
    assert (row["peak_gib"], row["device"], row["devices"]) == (71.5, "NVIDIA H100", 2)
    # a million conversations at 7,200 an hour on two GPUs
    assert row["device_hours"] == pytest.approx(2 * 1_000_000 / 7200)
    assert row["dollars"] == pytest.approx(2 * 1_000_000 / 7200 * 2.5)


def test_answers_from_the_store_do_not_count_as_work():
    usage = {"prompt_tokens": 4_000, "completion_tokens": 1_000, "cached_tokens": 0}
    row = efficiency_row(
        measured(costs={"usage": usage, "starts": 1}, seconds={"serve": 30.0, "generate": 10.0}), 1000, None
    )
    assert row["conversations_per_hour"] == pytest.approx(200 * 36)
    nothing = efficiency_row(
        measured(costs={"usage": {}, "starts": 0}, seconds={"serve": 0.0, "generate": 0.0}), 1000, 1.0
    )
    for key in ("tokens_out_per_s", "conversations_per_hour", "device_hours", "dollars"):
        assert nothing[key] is None
        assert nothing[f"{key}_why"] == "all answers came from the store: nothing was measured"


def test_a_recorded_run_of_benchmarks_has_speed_but_no_conversations(tmp_path):
    folder = tmp_path / "demo-1"
    folder.mkdir()
    document = {
        "schema": 1,
        "model": {"name": "demo", "fingerprint": "f"},
        "hardware": {"cpu_count": 2, "gpus": []},
        "seconds": {"serve": 80.0, "generate": 200.0, "judge": 0.0, "score": 1.0},
        "usage": {"candidate": {"prompt_tokens": 9000, "cached_tokens": 4500, "completion_tokens": 2000}},
        "server_restarts": 1,
        "arguments": {"base_url": None},
    }
    (folder / "manifest.json").write_text(json.dumps(document))
    (row,) = efficiency_analysis(EfficiencyConfig(folders=["demo-1"], results=tmp_path)).tables[0].rows
    assert (row["tokens_out_per_s"], row["tokens_in_per_s"], row["cached_share"]) == (10, 45, 0.5)
    assert (row["start_s"], row["device"], row["devices"]) == (40, "CPU, 2 cores", 1)
    assert row["conversations"] is None
    assert row["device_hours_why"] == "a run of benchmarks counts items, not conversations"
    assert row["peak_gib_why"] == "not recorded"


def test_the_command_writes_the_analysis_of_generated_folders(tmp_path):
    chats = write_chats(tmp_path / "chats.jsonl", 6)
    with StubEndpoint(slow) as stub, StubEndpoint(slow, model="other") as other:
        models = [f"stub@{stub.url}", f"other@{other.url}"]
        (first, _) = generate(config(stub, chats, tmp_path / "out", models=models)).manifests
    words = ["analyze", "efficiency", str(tmp_path / "out"), "--results", str(tmp_path), "-n", "1000"]
    ran = CliRunner().invoke(app, [*words, "--json"])
    assert ran.exit_code == 0, ran.output
    analysis = read_analysis(tmp_path / "analyses" / "efficiency-other-vs-stub")
    by_model = {row["model"]: row for row in analysis.tables[0].rows}
    assert json.loads(ran.stdout)["tables"][0]["rows"] == list(analysis.tables[0].rows)
    assert set(by_model) == {"stub", "other"}
    rate = first["costs"]["usage"]["completion_tokens"] / first["seconds"]["generate"]
    assert by_model["stub"]["tokens_out_per_s"] == pytest.approx(rate)
    assert by_model["stub"]["peak_gib_why"] == "external server"
    assert (tmp_path / "analyses" / "efficiency-other-vs-stub" / "efficiency.csv").is_file()
    shown = CliRunner().invoke(app, words, env={"COLUMNS": "220"})
    assert "conversations/h" in shown.output
    assert "10,000 H100 hours" in shown.output


def test_what_is_no_run_is_told(tmp_path):
    with pytest.raises(DataError, match="nowhere is not a recorded run"):
        efficiency_analysis(EfficiencyConfig(folders=["nowhere"], results=tmp_path))
    (tmp_path / "_manifest.json").write_text("{}")
    with pytest.raises(DataError, match="is not a manifest of schema 1"):
        efficiency_analysis(EfficiencyConfig(folders=[str(tmp_path)], results=tmp_path))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--conversations", "0"),
        ("--conversations", str(10**400)),
        *(("--dollars-per-hour", price) for price in ("nan", "inf", "-1.0", "1e308")),
    ],
)
def test_a_size_or_a_price_out_of_range_is_told(flag, value):
    done = CliRunner().invoke(app, ["analyze", "efficiency", "x", flag, value])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"evalsuite: {flag} must be ")


@pytest.mark.parametrize(("name", "folder"), [("a/b", "efficiency-a-b"), ("..", "efficiency-x")])
def test_a_name_that_is_no_folder_is_made_one(tmp_path, name, folder):
    (tmp_path / "_manifest.json").write_text(json.dumps(manifest()))
    ran = CliRunner().invoke(app, ["analyze", "efficiency", str(tmp_path), "--results", str(tmp_path), "--name", name])
    assert ran.exit_code == 0, ran.output
    assert [path.name for path in (tmp_path / "analyses").iterdir()] == [folder]


@pytest.mark.parametrize(
    "damage",
    [
        {"model": 1},
        {"counts": {}},
        {"hardware": {"gpus": 5}},
        {"seconds": {}},
        {"seconds": {"serve": 1.0, "generate": math.inf}},
        {"seconds": {"serve": 1.0, "generate": -5.0}},
        {"costs": {"usage": {"completion_tokens": "many"}, "starts": 1}},
        {"peak_memory": 3},
        {"peak_memory": {"gib": "much"}},
    ],
)
def test_a_damaged_manifest_is_named_in_one_sentence(tmp_path, damage):
    (tmp_path / "_manifest.json").write_text(json.dumps(manifest(**damage)))
    ran = CliRunner().invoke(app, ["analyze", "efficiency", str(tmp_path), "--results", str(tmp_path)])
    assert ran.exit_code == 2, ran.output
    assert "_manifest.json" in ran.stderr
    assert "run the model again" in ran.stderr


def test_thoughts_are_work_and_counted_apart():
    tokens = {"prompt": 40_000, "completion": 10_000, "thought": 30_000, "cached": 0}
    usage = {"prompt_tokens": 40_000, "completion_tokens": 40_000, "cached_tokens": 10_000}
    row = efficiency_row(measured(tokens=tokens, costs={"usage": usage, "starts": 2}), 1_000_000, None)
    # 400 tokens/s, 200 tokens per conversation.
    assert row["conversations_per_hour"] == 7200
    assert (row["answer_tokens"], row["thought_tokens"]) == (10_000 / 300, 100)
    older = efficiency_row(measured(), 1_000_000, None)
    assert (older["thought_tokens"], older["thought_tokens_why"]) == (None, "not recorded")
