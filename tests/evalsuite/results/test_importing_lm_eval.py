"""Importing what lm-eval writes: dated files, parts, groups, limits and samples."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.errors import DataError, UsageError
from evalsuite.files import read_json, write_json, write_jsonl
from evalsuite.records.files import RecordsFile
from evalsuite.report.tabs import tabs_of
from evalsuite.results.importing import import_results
from evalsuite.results.reading import read_results_folder
from evalsuite.suites.harness.peer import results_files
from tests.evalsuite.results.test_importing import runner

STAMP = "2024-09-0{day}T10-00-00.000000"


def lm_eval_results(folder: Path, day: int = 1, **more: Any) -> Path:
    """Write one model's lm-eval results on IFEval, dated the ``day`` of a month, and return the file."""
    row = {"prompt_level_strict_acc,none": 0.3, "prompt_level_strict_acc_stderr,none": 0.02}
    document = {"results": {"leaderboard_ifeval": row}, "config": {"limit": None}, "model_name": "org/A", **more}
    path = folder / f"results_{STAMP.format(day=day)}.json"
    write_json(path, document)
    return path


def ifeval_samples(folder: Path, day: int, doc_hash: str) -> Path:
    path = folder / f"samples_leaderboard_ifeval_{STAMP.format(day=day)}.jsonl"
    row = {"doc_id": 0, "doc": {}, "target": "", "doc_hash": doc_hash, "prompt_level_strict_acc": 1.0}
    write_jsonl(path, [row])
    return path


def bbh_results(folder: Path, day: int, score: float = 0.5, **more: Any) -> Path:
    """Write results on BBH's group of two tasks, each with one sample."""
    tasks = ["leaderboard_bbh_a", "leaderboard_bbh_b"]
    rows = {task: {"acc_norm,none": score} for task in ["leaderboard_bbh", *tasks]}
    counts = {task: {"effective": 1, "original": 1} for task in tasks}
    path = lm_eval_results(
        folder, day, results=rows, group_subtasks={"leaderboard_bbh": tasks}, **{"n-samples": counts}, **more
    )
    for task in tasks:
        row = {"doc_id": 0, "doc": {"q": task}, "target": "", "doc_hash": f"{day}", "acc_norm": score}
        write_jsonl(folder / f"samples_{task}_{STAMP.format(day=day)}.jsonl", [row])
    return path


def test_dated_files_with_other_tasks_are_read_as_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "lm/org__A"
    bbh_results(folder, 1, 0.9), lm_eval_results(folder, 2), bbh_results(folder, 3)
    ifeval_samples(folder, 2, "i")
    target, scores = import_results("openllm", tmp_path / "lm", "A", tmp_path / "results")
    openllm = scores.suites["openllm"]
    assert (openllm["bbh"]["score"], openllm["ifeval"]["score"]) == (0.5, 0.3)
    assert openllm["bbh"]["n"] == 2
    assert sorted(path.name for path in (target / "openllm").glob("samples*")) == [
        "samples_leaderboard_bbh_a.jsonl",
        "samples_leaderboard_bbh_b.jsonl",
        "samples_leaderboard_ifeval.jsonl",
    ]
    assert json.loads((target / "openllm/samples_leaderboard_bbh_a.jsonl").read_text())["doc_hash"] == "3"
    assert "contains 3 results files; read: results_2024-09-03" in caplog.text
    assert "leaderboard_ifeval from results_2024-09-02" in caplog.text
    assert "nothing from results_2024-09-01" in caplog.text


def test_a_file_of_another_setting_is_left_out_with_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lm_eval_results(tmp_path / "lm", 1, config={"limit": 10})
    bbh_results(tmp_path / "lm", 2)
    _, scores = import_results("openllm", tmp_path / "lm", "A", tmp_path / "results")
    assert scores.suites["openllm"]["ifeval"] is None
    assert "is left out: it has limit 10 instead of None" in caplog.text


def test_a_group_whose_task_was_run_again_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bbh_results(tmp_path / "lm", 1)
    lm_eval_results(tmp_path / "lm", 2, results={"leaderboard_bbh_a": {"acc_norm,none": 0.1}})

    done = runner.invoke(app, ["score", "lm_eval", "--from", str(tmp_path / "lm"), "--json"])
    tasks = json.loads(done.stdout)["tasks"]
    assert {name: row["acc_norm,none"] for name, row in tasks.items()} == {
        "leaderboard_bbh_a": 0.1,
        "leaderboard_bbh_b": 0.5,
    }
    assert "without leaderboard_bbh (run again in part)" in caplog.text


def test_a_second_import_adds_its_parts(tmp_path: Path) -> None:
    results = tmp_path / "results"
    ifeval = lm_eval_results(tmp_path / "one", 1)
    ifeval_samples(tmp_path / "one", 1, "i")
    import_results("openllm", ifeval, "A", results)
    for _ in range(2):
        folder, scores = import_results("openllm", bbh_results(tmp_path / "two", 2), "A", results)
        openllm = scores.suites["openllm"]
        assert (openllm["bbh"]["score"], openllm["ifeval"]["score"]) == (0.5, 0.3)
        assert len(list((folder / "openllm").glob("samples*"))) == 3
    recorded = read_json(folder / "manifest.json")["suites"]["openllm"]["recorded"]["file"]
    assert recorded == f"results_{STAMP.format(day=1)}.json, results_{STAMP.format(day=2)}.json"
    again, parts = CliRunner().invoke(app, ["score", "openllm", "--from", str(folder / "openllm"), "--json"]), openllm
    assert json.loads(again.stdout) == parts
    assert len(RecordsFile(folder / "records/openllm.jsonl").rows()) == 3
    other = bbh_results(tmp_path / "three", 3, 0.6)
    with pytest.raises(UsageError, match="contains a different import of openllm; pass --fresh"):
        import_results("openllm", other, "A", results)
    limited = lm_eval_results(tmp_path / "four", 4, config={"limit": 5}, results={"leaderboard_musr": {}})
    with pytest.raises(UsageError, match="these results have limit 5 instead of None"):
        import_results("openllm", limited, "A", results)


def test_a_folder_of_two_models_is_refused(tmp_path: Path) -> None:
    lm_eval_results(tmp_path / "lm/org__A", 1)
    lm_eval_results(tmp_path / "lm/org__B", 2, model_name="org/B")
    with pytest.raises(DataError, match=r"2 models \(org/A, org/B\); give the folder or the file of one"):
        import_results("openllm", tmp_path / "lm", "A", tmp_path / "results")
    _, scores = import_results("openllm", tmp_path / "lm/org__A", "A", tmp_path / "results")
    assert scores.suites["openllm"]["ifeval"]["score"] == 0.3


def test_samples_are_those_of_the_results_own_folder_and_date(tmp_path: Path) -> None:
    lm_eval_results(tmp_path / "lm/org__A", 2)
    for day in (1, 2, 3):
        ifeval_samples(tmp_path / "lm/org__A", day, f"A{day}")
    ifeval_samples(tmp_path / "lm/org__B", 2, "B2")
    folder, _ = import_results("openllm", tmp_path / "lm", "A", tmp_path / "results")
    kept = (folder / "openllm/samples_leaderboard_ifeval.jsonl").read_text(encoding="utf-8")
    assert json.loads(kept)["doc_hash"] == "A2"
    ifeval_samples(tmp_path / "other/deeper", 2, "deeper")
    folder, _ = import_results("openllm", lm_eval_results(tmp_path / "other"), "B", tmp_path / "results")
    assert [path.name for path in (folder / "openllm").iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("name", "days", "kept"),
    [
        # lm-eval 0.4.13 writes llama_<date>.json for --output_path llama.json.
        (f"llama_{STAMP}.json", (1, 2), "1"),
        (f"results_v2_{STAMP}.json", (1, 2), "1"),
        ("results.json", (2,), "2"),
        ("results.json", (None, 1, 2), "None"),
        ("results.json", (1, 2), None),
        (f"results_{STAMP}.json", (2,), None),
        ("results.json", (), None),
    ],
)
def test_samples_come_along_whatever_the_results_file_is_called(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, days: Sequence[int | None], kept: str | None
) -> None:
    source = lm_eval_results(tmp_path / "lm").rename(tmp_path / "lm" / name.format(day=1))
    assert results_files(source.parent) == [source]
    for day in days:
        path = ifeval_samples(tmp_path / "lm", day or 9, str(day))
        if day is None:
            path.rename(tmp_path / "lm/samples_leaderboard_ifeval.jsonl")
    folder, _ = import_results("openllm", source, "m", tmp_path / "results")
    samples = folder / "openllm/samples_leaderboard_ifeval.jsonl"
    assert (json.loads(samples.read_text(encoding="utf-8"))["doc_hash"] if samples.exists() else None) == kept
    lost = [record.getMessage() for record in caplog.records if "so no items are read" in record.getMessage()]
    assert len(lost) == (bool(days) and kept is None)


@pytest.mark.parametrize(
    ("limit", "sizes", "expected", "share"),
    [
        # lm-eval rounds a share of a task up: 0.1 of 541 documents are 55.
        (0.1, [(55, 541)], 55, 0),
        (0.1, [(55, 541), (120, 1200)], 120, 0.1),
        (0.5, [(5, 10), (5, 9)], 5, 0),
        (7, [(7, 541), (7, 1200)], 7, 0),
        (None, [(541, 541)], None, 0),
    ],
)
def test_a_share_as_limit_is_no_limit_of_one(
    tmp_path: Path, limit: float | None, sizes: list[tuple[int, int]], expected: int | None, share: float
) -> None:
    counts = {f"task_{n}": {"effective": own, "original": whole} for n, (own, whole) in enumerate(sizes)}
    source = lm_eval_results(tmp_path, config={"limit": limit}, **{"n-samples": counts})
    folder, scores = import_results("openllm", source, "m", tmp_path / "results")
    assert scores.limit == expected
    assert read_json(folder / "manifest.json")["suites"]["openllm"]["options"]["limit_fraction"] == share


def test_a_share_and_a_whole_number_as_limit_are_told_apart_in_words(tmp_path: Path) -> None:
    sizes = {"n-samples": {"a": {"effective": 5, "original": 50}, "b": {"effective": 3, "original": 30}}}
    for name, limit in (("share", 0.1), ("number", 5)):
        source = lm_eval_results(tmp_path / name, config={"limit": limit}, **sizes)
        import_results("openllm", source, name, tmp_path / "results")
    tabs = tabs_of(read_results_folder(tmp_path / "results").models)
    assert sorted(tab.title for tab in tabs) == [
        "full data, limit 5 · no judge · openllm a whole number of each task",
        "full data, limit 5 · no judge · openllm share of each task 0.1",
    ]


def test_a_share_as_limit_without_counts_is_refused(tmp_path: Path) -> None:
    source = lm_eval_results(tmp_path, config={"limit": 0.1})
    with pytest.raises(DataError, match="whole number as limit"):
        import_results("openllm", source, "m", tmp_path / "results")


def test_the_chat_template_of_lm_eval_keeps_figures_apart(tmp_path: Path) -> None:
    templates: dict[str, dict[str, Any]] = {
        "with": {"chat_template": "x"},
        "without": {"chat_template": None},
        "old": {},
    }
    for name, more in templates.items():
        source = lm_eval_results(tmp_path / name, fewshot_as_multiturn=False, **more)
        import_results("openllm", source, name, tmp_path / "results")
    models = read_results_folder(tmp_path / "results").models
    members = [{models[place].name for place in tab.members} for tab in tabs_of(models)]
    assert sorted(members, key=sorted) == [{"old", "with"}, {"old", "without"}]
