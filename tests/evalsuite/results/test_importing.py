"""`evalsuite import`: recorded results of the peers join the table, marked, with their judge and limit."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evalsuite.api import score
from evalsuite.assets import hub_datasets, wheels
from evalsuite.cli import app
from evalsuite.errors import DataError, UsageError
from evalsuite.files import read_json, write_json, write_jsonl
from evalsuite.report.build import build_report
from evalsuite.report.tabs import tabs_of
from evalsuite.results.importing import import_results
from evalsuite.results.reading import read_results_folder
from tests.evalsuite.assets_env import empty_machine

runner = CliRunner()


def judgments(path: Path, models: dict[str, float], questions: int = 80) -> Path:
    """Write FastChat's gpt-4_single.jsonl with one constant score a model."""
    write_jsonl(
        path,
        [
            {"question_id": 81 + number, "model": model, "judge": ["gpt-4", "single-v1"], "turn": turn, "tstamp": 1.0}
            | {"user_prompt": "p", "judgment": f"Rating: [[{score:g}]]", "score": score, "category": "writing"}
            for model, score in models.items()
            for number in range(questions)
            for turn in (1, 2)
        ],
    )
    return path


def lm_eval_folder(folder: Path) -> Path:
    """Write lm-eval's results and samples of BBH's and GPQA's parts, as `lm_eval --output_path` does."""
    stamp = "2025-01-02T03-04-05.678901"
    results: dict[str, Any] = {
        "leaderboard_bbh": {"acc_norm,none": 0.5, "acc_norm_stderr,none": 0.05, "alias": "bbh"},
        "leaderboard_gpqa": {"acc_norm,none": 0.3, "acc_norm_stderr,none": 0.04, "alias": "gpqa"},
    }
    write_json(folder / f"results_{stamp}.json", {"results": results, "config": {"limit": None}, "n-samples": {}})
    sample = {"doc_id": 0, "doc": {"input": "Is it?"}, "target": "yes", "filter": "none", "metrics": ["acc_norm"]}
    sample |= {
        "resps": [[["-1.5", "True"]], [["-2.5", "False"]]],
        "filtered_resps": [["-1.5", "True"], ["-2.5", "False"]],
    }
    sample |= {"acc_norm": 1.0, "doc_hash": "h", "arguments": {"gen_args_0": {"arg_0": "CANARY"}}}
    write_jsonl(folder / f"samples_leaderboard_bbh_x_{stamp}.jsonl", [sample])
    write_jsonl(
        folder / f"samples_leaderboard_gpqa_main_{stamp}.jsonl",
        [{**sample, "doc": {"Question": "CANARY"}, "target": "CANARY", "filtered_resps": ["CANARY"]}],
    )
    return folder


def annotations(path: Path, model: str, count: int = 805) -> Path:
    write_json(
        path,
        [
            {"instruction": f"i{number}", "output_1": "base", "generator_1": "gpt4_1106_preview", "output_2": "own"}
            | {"generator_2": model, "annotator": "gpt4_turbo", "preference": 2.0 if number % 4 else 1.0}
            for number in range(count)
        ],
    )
    return path


def test_one_model_is_taken_out_of_a_file_with_many(tmp_path: Path) -> None:
    source = judgments(tmp_path / "gpt-4_single.jsonl", {"a": 4.0, "b": 9.0})
    folder, scores = import_results("mt_bench", source, "b", tmp_path / "results")
    assert scores.suites["mt_bench"]["score"] == 9.0
    assert scores.imported is True
    assert scores.judge.name == "gpt-4"
    assert (scores.data, scores.limit) == ("full", None)
    assert folder.name == f"b-{scores.model.fingerprint[:8]}"
    with pytest.raises(UsageError, match="unknown model 'c'"):
        import_results("mt_bench", source, "c", tmp_path / "results")


def test_suites_of_one_name_share_a_row_and_judges_are_named_together(tmp_path: Path) -> None:
    results = tmp_path / "results"
    first, _ = import_results("openllm", lm_eval_folder(tmp_path / "lm"), "m", results)
    second, scores = import_results("mt_bench", judgments(tmp_path / "j.jsonl", {"x": 7.0}), "m", results)
    third, scores = import_results("alpaca_eval", annotations(tmp_path / "annotations.json", "m"), "m", results)
    assert first == second == third
    assert set(scores.suites) == {"openllm", "mt_bench", "alpaca_eval"}
    assert scores.judge.name == "gpt-4, gpt4_turbo"
    # 603 of the 805 instructions (those whose number is not a multiple of 4) are won.
    assert scores.suites["alpaca_eval"]["win_rate"] == pytest.approx(100 * 603 / 805)
    report = build_report(results)
    assert report.models == 1
    assert ">imported<" in report.html.read_text(encoding="utf-8")


def test_lm_eval_samples_come_along_without_any_text_of_gpqa(tmp_path: Path) -> None:
    results = tmp_path / "results"
    folder, scores = import_results("openllm", lm_eval_folder(tmp_path / "lm"), "m", results)
    assert scores.judge is None
    assert scores.suites["openllm"]["bbh"]["score"] == 0.5
    kept = {path.name: path.read_text(encoding="utf-8") for path in (folder / "openllm").iterdir()}
    assert "Is it?" in kept["samples_leaderboard_bbh_x.jsonl"]
    gpqa = json.loads(kept["samples_leaderboard_gpqa_main.jsonl"])
    assert gpqa["acc_norm"] == 1.0
    assert "CANARY" not in kept["samples_leaderboard_gpqa_main.jsonl"]
    assert build_report(results).items == 2


def test_a_nan_in_a_recorded_file_is_a_missing_figure(tmp_path: Path) -> None:
    row = {"prompt_level_strict_acc,none": 0.3, "weird": [float("nan")], "alias": "x"}
    path = tmp_path / "lm/results.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"results": {"leaderboard_ifeval": row}}), encoding="utf-8")
    (tmp_path / "lm/samples_leaderboard_ifeval.jsonl").write_text(
        '{"doc_id": 0, "doc": {}, "prompt_level_strict_acc": NaN}\n', encoding="utf-8"
    )
    done = runner.invoke(app, ["score", "openllm", "--from", str(path.parent), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout)["tasks"]["leaderboard_ifeval"]["weird"] == [None]
    folder, _ = import_results("openllm", path.parent, "m", tmp_path / "results")
    sample = json.loads((folder / "openllm/samples_leaderboard_ifeval.jsonl").read_text(encoding="utf-8"))
    assert sample["prompt_level_strict_acc"] is None
    rows = read_json(annotations(tmp_path / "annotations.json", "m", count=805))
    rows[0]["preference"] = float("nan")
    (tmp_path / "annotations.json").write_text(json.dumps(rows), encoding="utf-8")
    _, scores = import_results("alpaca_eval", tmp_path / "annotations.json", "n", tmp_path / "results")
    assert scores.suites["alpaca_eval"]["unscored"] == {"recorded_failure": 1}


def test_a_part_of_a_set_gets_a_limit_and_so_its_own_tab(tmp_path: Path) -> None:
    results = tmp_path / "results"
    whole = judgments(tmp_path / "whole.jsonl", {"x": 7.0})
    part = judgments(tmp_path / "part.jsonl", {"x": 7.0}, questions=10)
    assert import_results("mt_bench", whole, "whole", results)[1].limit is None
    assert import_results("mt_bench", part, "part", results)[1].limit == 10
    assert build_report(results).html.read_text(encoding="utf-8").count('<section class="tab"') == 2


def test_mixeval_needs_its_judge_named_and_the_rule_parser_needs_none(tmp_path: Path) -> None:
    row = {"problem_type": "multiple-choice", "prompt": "Pick", "target": [0], "options": ["one", "two"], "id": "1"}
    row |= {"benchmark_name": "X", "context": None, "response": "A", "judge_option": "A"}
    free = {"problem_type": "free-form", "prompt": "Say", "target": ["one"], "benchmark_name": "X", "id": "2"}
    free |= {"context": None, "response": "one", "judge_score": 1.0}
    write_jsonl(tmp_path / "m" / "all.jsonl", [row, free])
    _, judged = import_results("mixeval", tmp_path / "m", "judged", tmp_path / "results", judge="gpt-3.5-turbo")
    assert judged.judge.name == "gpt-3.5-turbo"
    assert judged.suites["mixeval"]["score"] == 1.0
    folder, ruled = import_results(
        "mixeval", tmp_path / "m", "ruled", tmp_path / "results", suite_options={"mixeval_parser": "rule"}
    )
    assert ruled.judge is None
    assert ruled.limit == 1
    assert {path.name for path in (folder / "mixeval").iterdir()} == {"free_form.jsonl", "multiple_choice.jsonl"}
    report = build_report(tmp_path / "results")
    assert not report.faults
    assert report.items == 4


def test_another_import_of_the_same_suite_needs_fresh(tmp_path: Path) -> None:
    results = tmp_path / "results"
    import_results("mt_bench", judgments(tmp_path / "a.jsonl", {"x": 7.0}), "m", results)
    import_results("mt_bench", judgments(tmp_path / "a.jsonl", {"x": 7.0}), "m", results)
    other = judgments(tmp_path / "b.jsonl", {"x": 3.0})
    with pytest.raises(UsageError, match="--fresh"):
        import_results("mt_bench", other, "m", results)
    folder, scores = import_results("mt_bench", other, "m", results, fresh=True)
    assert scores.suites["mt_bench"]["score"] == 3.0
    assert read_json(folder / "manifest.json")["suites"]["mt_bench"]["recorded"]["file"] == "b.jsonl"


def test_bad_files_are_one_sentence_and_leave_nothing_behind(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (tmp_path / "bad.json").write_text('{"no": "list"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"bad\.json"):
        import_results("alpaca_eval", tmp_path / "bad.json", "m", results)
    with pytest.raises(DataError, match="does not exist"):
        import_results("mt_bench", tmp_path / "nothing", "m", results)
    with pytest.raises(UsageError, match="did you mean 'mt_bench'"):
        import_results("mtbench", tmp_path / "bad.json", "m", results)
    with pytest.raises(UsageError, match="--model"):
        import_results("mt_bench", tmp_path / "bad.json", " ", results)
    assert not results.exists() or not list(results.iterdir())


def test_what_cannot_be_looked_at_or_written_is_one_sentence(tmp_path: Path) -> None:
    source = str(judgments(tmp_path / "j.jsonl", {"x": 7.0}))
    (tmp_path / "file").write_text("", encoding="utf-8")
    # A name that no file system takes fails like a closed folder, for the superuser too.
    unreadable = str(tmp_path / ("x" * 300) / "model_judgment.jsonl")
    commands = [
        ["import", "mt_bench", source, "--model", "m", "--results", str(tmp_path / "file")],
        ["import", "mt_bench", source, "--model", "m", "--results", str(tmp_path / "file" / "below")],
        ["import", "mt_bench", unreadable, "--model", "m", "--results", str(tmp_path / "r")],
        *(["score", suite, "--from", unreadable] for suite in ("mt_bench", "alpaca_eval", "openllm", "mixeval")),
        ["score", "preferences", "--from", unreadable],
    ]
    for words in commands:
        done = runner.invoke(app, words)
        assert done.exit_code == 2, words
        assert len(done.stderr.strip().splitlines()) == 1
        assert "cannot" in done.stderr


def test_the_order_of_imports_makes_no_other_judge(tmp_path: Path) -> None:
    rated, annotated = judgments(tmp_path / "j.jsonl", {"x": 7.0}), annotations(tmp_path / "annotations.json", "m")
    for model, order in (("a", (0, 1)), ("b", (1, 0))):
        for place in order:
            suite, source = (("mt_bench", rated), ("alpaca_eval", annotated))[place]
            import_results(suite, source, model, tmp_path / "results")
    judges = [model.judge for model in read_results_folder(tmp_path / "results").models]
    assert judges[0] == judges[1]
    assert [len(tab.members) for tab in tabs_of(read_results_folder(tmp_path / "results").models)] == [2]


def test_unnamed_judges_are_not_the_same(tmp_path: Path) -> None:
    for name, count in (("a", 805), ("b", 804)):
        source = annotations(tmp_path / f"{name}.json", name, count)
        rows = [{key: value for key, value in row.items() if key != "annotator"} for row in read_json(source)]
        write_json(source, rows)
        import_results("alpaca_eval", source, name, tmp_path / "results")
        import_results("alpaca_eval", source, f"{name} named", tmp_path / "results", judge="gpt-4")
    tabs = tabs_of(read_results_folder(tmp_path / "results").models)
    assert sorted((tab.title, len(tab.members)) for tab in tabs) == [
        ("full data · judge gpt-4", 2),
        ("full data · judge not recorded", 1),
        ("full data · judge not recorded", 1),
    ]


@pytest.mark.parametrize("command", ["score", "import"])
@pytest.mark.parametrize(("allowed", "code"), [("0.01", 1), ("0.05", 0)])
def test_too_many_unscored_items_are_exit_code_1(tmp_path: Path, command: str, allowed: str, code: int) -> None:
    """4 of 100 judgments failed: more than 1 %, less than 5 %."""
    source = judgments(tmp_path / "j.jsonl", {"x": 7.0}, questions=50)
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    write_jsonl(source, [{**row, "judgment": "", "score": -1} if n < 4 else row for n, row in enumerate(rows)])
    words = {"score": ["score", "mt_bench", "--from", str(source)], "import": ["import", "mt_bench", str(source)]}
    more = ["--results", str(tmp_path / "results"), "--max-unscored", allowed, "--json"]
    more += ["--model", "m"] if command == "import" else []
    done = runner.invoke(app, [*words[command], *more])
    assert done.exit_code == code
    assert json.loads(done.stdout)
    assert ("4 of 100 items are unscored" in done.stderr) == bool(code)
    assert (tmp_path / "results").exists() == (command == "import")


def test_scoring_recorded_files_never_asks_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_machine(monkeypatch, tmp_path / "machine")
    monkeypatch.delenv("EVALSUITE_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE")

    def asked(*words: object) -> None:
        raise AssertionError(f"the network was asked for {words}")

    for module, name in ((hub_datasets, "fetch_snapshot"), (wheels, "fetched_path")):
        monkeypatch.setattr(module, name, asked)
    judged = judgments(tmp_path / "j.jsonl", {"x": 7.0})
    rows = [json.loads(line) for line in judged.read_text(encoding="utf-8").splitlines()]
    write_jsonl(judged, [{key: value for key, value in row.items() if key != "category"} for row in rows])
    assert score("mt_bench", judged)["score"] == 7.0
    whole = score("alpaca_eval", annotations(tmp_path / "annotations.json", "m"))
    assert whole["win_rate"] == pytest.approx(100 * 603 / 805)
    assert "evalsuite data pull alpaca_eval/df_gamed" in whole["lc"]["reason"]
    part = score("alpaca_eval", annotations(tmp_path / "annotations.json", "m", 10))
    assert "evalsuite data pull alpaca_eval/baseline" in part["lc"]["reason"]


def test_the_command_prints_the_document(tmp_path: Path) -> None:
    source = judgments(tmp_path / "j.jsonl", {"x": 7.0})
    words = ["import", "mt_bench", str(source), "--model", "M", "--results", str(tmp_path / "r"), "--json"]
    done = runner.invoke(app, words)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["model"]["name"] == "M"
    again = runner.invoke(app, [*words[:2], str(tmp_path / "no"), *words[3:]])
    assert again.exit_code == 2


def test_published_alpaca_annotations_import(shared: Path, tmp_path: Path) -> None:
    """The published win rate of phi-2 stands in the reference beside the recorded annotations."""
    source = shared / "reference/alpaca_eval/annotations/phi-2.jsonl"
    # The reference holds lengths in place of texts.
    rows = [
        {"instruction": f"number {row['index']}", "output_1": "x" * row["len_1"], "output_2": "x" * row["len_2"]}
        | {"generator_1": row["generator_1"], "generator_2": row["generator_2"], "preference": row["preference"]}
        for row in map(json.loads, source.read_text(encoding="utf-8").splitlines())
    ]
    write_json(tmp_path / "annotations.json", rows)
    folder, scores = import_results("alpaca_eval", tmp_path / "annotations.json", "phi-2", tmp_path / "results")
    with (shared / "reference/alpaca_eval/expected.csv").open(encoding="utf-8", newline="") as lines:
        published = next(float(row["win_rate"]) for row in csv.DictReader(lines) if row["model"] == "phi-2")
    assert scores.suites["alpaca_eval"]["win_rate"] == pytest.approx(published, abs=1e-4)
    # Two of the 805 are missing in the published file; it still counts as the whole set.
    assert scores.limit is None
    assert len(read_json(folder / "alpaca_eval/annotations.json")) == 803


def test_names_that_a_folders_name_cannot_tell_apart_are_rows_of_their_own(tmp_path):
    path, results = judgments(tmp_path / "gpt-4_single.jsonl", {"m": 7.0}), tmp_path / "results"
    names = ("a/b", "a-b", "a b")
    # The identity is the recorded rows', which are the same.
    folders = {name: import_results("mt_bench", path, name, results)[0] for name in names}
    assert len(set(folders.values())) == len(names)
    found = {read_json(folder / "scores.json")["model"]["name"] for folder in folders.values()}
    assert found == set(names)
    assert import_results("mt_bench", path, "a-b", results, fresh=True)[0] == folders["a-b"]
