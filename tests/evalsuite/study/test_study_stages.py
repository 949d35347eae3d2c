"""The whole chain offline: real mixes, runs, analyses, tables, paper and report, without serving and training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from evalsuite.analysis.document import read_analysis
from evalsuite.files import read_json
from evalsuite.progress import NoProgress
from evalsuite.results.reading import read_models
from evalsuite.study.identities import find_identities
from evalsuite.study.plan import plan_study
from evalsuite.study.run import run_study
from evalsuite.study.stages import ADAPTERS
from evalsuite.study.state import Made, State, Task, Workspace
from tests.evalsuite.report_results import mt_bench_scores, write_model
from tests.evalsuite.study_toys import toy_study

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
FAKE = (sys.executable, "-m", "tests.evalsuite.study_fake")


ONE_SUITE = {"suites": ["mt_bench"], "data": "mini", "limit": 2}
SMALL = {
    "dgms": {"B": {"answers": "b.jsonl"}},
    "blends": [],
    "run": ONE_SUITE | {"bases": False},
    "compare": None,
    "analyze": [],
    "paper": False,
    "report": False,
}
ONE_SIZE = {**SMALL, "sizes": [2]}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished study: its folder, results, outcome and the calls that it made."""
    folder = tmp_path_factory.mktemp("whole")
    return (folder, *run_toy(folder))


def run_toy(folder, **changes):
    log = folder / "calls.txt"
    log.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDY_FAKE_LOG", str(log))
        patch.setenv("PYTHONPATH", str(ROOT))
        study = toy_study(folder, **changes)
        outcome = run_study(study, folder / "results", adapters=ADAPTERS, command=FAKE)
    calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return folder / "results", outcome, calls


def test_every_stage_is_done(whole):
    _, _, outcome, _ = whole
    assert [(cell.stage.name, cell.reason) for cell in outcome.cells if cell.status != "done"] == []


def test_each_model_is_served_once_for_its_runs_and_the_judge_once_for_all(whole):
    _, _, _, calls = whole
    assert [call["command"] for call in calls] == ["generate", *["sft"] * 5, "run", "compare"]
    run = next(call for call in calls if call["command"] == "run")
    assert len(run["models"]) == 7


def test_a_variant_has_the_name_in_a_lineage_that_it_has_in_a_comparison(tmp_path):
    """``run: {mixeval_parser: rule}``, as in recipes/demo-study.yaml, makes variants of all models."""
    study, results, made = toy_study(tmp_path), tmp_path / "results", {}
    for run, name in (("run T-A-4", "sft"), ("run A", "dgm")):
        folder = write_model(results, name, {"mt_bench": mt_bench_scores(7.0)})
        scores = read_json(folder / "scores.json") | {"variant": "mixeval_parser-rule"}
        (folder / "scores.json").write_text(json.dumps(scores))
        made[run] = Made({"folder": folder})
    (stage,) = (one for one in plan_study(study, find_identities(study, fetch=False)[0]) if one.kind == "compare")
    workspace = Workspace(study, results, State(results / "studies" / "toy"), NoProgress(), command=("false",))
    ADAPTERS["compare"]([Task(stage, "k" * 64, made)], workspace)
    (file,) = results.rglob("*.lineage.yaml")
    lineage = yaml.safe_load(file.read_text())
    assert lineage == {"sft (mixeval_parser-rule)": "dgm (mixeval_parser-rule)"}
    assert {model.name for model in read_models(results)} == {*lineage, *lineage.values()}


def test_the_tables_of_the_paper_are_there_with_their_layout(whole):
    _, results, _, _ = whole
    study = read_analysis(results / "analyses" / "study-toy")
    tables = {table.id: table for table in study.tables}
    assert {"table1", "table2", "table3", "table4", "table5", "table6", "table7"} <= tables.keys()
    assert {"figure1", "figure2", "figure3", "figure4"} <= tables.keys() | {chart.id for chart in study.charts}
    assert [row["model"] for row in tables["table2"].rows] == ["T : A (4)", "T : B (4)"]
    assert [row["model"] for row in tables["table7"].rows] == ["T : A (4)", "T : B (4)", "T : A + B (4)"]
    assert [(row["dgm"], row["size"]) for row in tables["figure2"].rows] == [("A", 2), ("A", 4), ("B", 2), ("B", 4)]
    assert [row["model"] for row in tables["table4"].rows] == ["T : A (4)", "T : B (4)", "A"]
    assert [row["model"] for row in tables["table6"].rows][-2:] == ["T : None", "A : None"]
    # A flip is counted for a DGM that is compared, here A alone: B is known by its recorded answers.
    flips = {row["model"]: row for row in tables["table4"].rows}
    assert isinstance(flips["A"]["flips"], int)
    assert all(flips[sft]["flips_why"] for sft in ("T : A (4)", "T : B (4)"))


def test_the_figures_are_those_of_the_scores(whole):
    _, results, _, _ = whole
    study = read_analysis(results / "analyses" / "study-toy")
    row = next(table for table in study.tables if table.id == "table2").rows[0]
    name = "T-A-4"
    (folder,) = (path.parent for path in results.glob(f"{name}-*/scores.json"))
    suites = read_json(folder / "scores.json")["suites"]
    assert row["bbh"] == pytest.approx(100 * suites["openllm"]["bbh"]["score"])
    assert row["mt_bench"] == suites["mt_bench"]["score"]
    assert row["alpaca_eval"] == pytest.approx(suites["alpaca_eval"]["win_rate"])
    table = next(table for table in study.tables if table.id == "figure2")
    figure = next(row for row in table.rows if row["dgm"] == "A" and row["size"] == 4)
    shares = [suites["openllm"][part]["score"] for part in ("bbh", "gpqa", "math", "musr", "ifeval", "mmlu_pro")]
    assert figure["avg"] == pytest.approx((sum(shares) + suites["mixeval"]["score"]) / 7)
    low, high = figure["avg_ci95"]
    errors = [0.1] * 6 + [suites["mixeval"]["stderr"]]
    assert (high - low) / 2 == pytest.approx(1.959964 * sum(e**2 for e in errors) ** 0.5 / 7, rel=1e-5)


def test_the_report_shows_the_study(whole):
    _, results, _, _ = whole
    assert (results / "leaderboard.html").stat().st_size > 10_000


def test_a_second_call_asks_nothing(whole):
    folder, *_ = whole
    _, outcome, calls = run_toy(folder)
    assert calls == []
    assert {cell.status for cell in outcome.cells} == {"kept"}


def test_one_broken_model_does_not_stop_the_others(tmp_path):
    toy_study(tmp_path)
    (tmp_path / "models" / "a" / "broken.txt").touch()
    changes = {"dgms": {"B": {"answers": "b.jsonl"}, "A": {"model": "models/a"}}, "blends": [], "sizes": [4]}
    changes |= {"run": ONE_SUITE, "compare": None, "analyze": [], "paper": False}
    _, outcome, _ = run_toy(tmp_path, **changes)
    found = {cell.stage.name: cell for cell in outcome.cells}
    assert found["generate A"].status == "failed"
    assert found["generate A"].reason == "vLLM ended while starting"
    assert found["run A"].status == "failed"
    assert found["run T-B-4"].status == found["run T"].status == found["report toy"].status == "done"
    assert outcome.exit_code == 3


def test_epochs_do_not_make_a_mix_look_short(tmp_path):
    _, outcome, _ = run_toy(tmp_path, **SMALL, sft={"epochs": 2})
    assert [cell.notes for cell in outcome.cells if cell.stage.kind == "sft"] == [[]] * 2


def test_a_judge_that_fails_is_told_apart_from_the_models(tmp_path):
    toy_study(tmp_path)
    (tmp_path / "models" / "judge" / "broken.txt").touch()
    _, outcome, calls = run_toy(tmp_path, **SMALL)
    runs = [cell for cell in outcome.cells if cell.stage.kind == "run"]
    assert {cell.status for cell in runs} == {"failed"}
    assert outcome.exit_code == 3
    judged = ["judge" in call for call in calls if call["command"] == "run"]
    assert judged == [True, *[False] * len(runs), True]  # together, each by itself, those that are sound together

    (tmp_path / "models" / "judge" / "broken.txt").unlink()
    _, outcome, calls = run_toy(tmp_path, **SMALL)
    assert [call["command"] for call in calls] == ["run"]
    assert outcome.exit_code == 0


def test_figures_of_another_dtype_are_set_aside_too(tmp_path):
    run_toy(tmp_path, **ONE_SIZE)
    for path in (tmp_path / "results").glob("*/scores.json"):
        scores = json.loads(path.read_text())
        path.write_text(json.dumps(scores | {"model": scores["model"] | {"dtype": "float16"}}))
    _, outcome, calls = run_toy(tmp_path, **{**ONE_SIZE, "serve": {"dtype": "float32"}})
    assert next(call for call in calls if call["command"] == "run")["fresh"]
    assert outcome.exit_code == 0


def test_figures_of_other_settings_are_set_aside_when_they_are_the_studys_own(tmp_path):
    run_toy(tmp_path, **ONE_SIZE)
    _, outcome, calls = run_toy(tmp_path, **{**ONE_SIZE, "run": ONE_SIZE["run"] | {"limit": 1}})
    assert [(call["command"], call["fresh"]) for call in calls] == [("run", True)]
    assert outcome.exit_code == 0


def test_the_judges_own_settings_reach_what_judges(tmp_path):
    _, _, calls = run_toy(tmp_path, **{**ONE_SIZE, "judge_serve": {"max_model_len": 4096}})
    lengths = {call["command"]: call.get("judge_max_model_len") for call in calls if call["command"] != "sft"}
    assert lengths.pop("run") == 4096
    assert lengths.pop("compare", 4096) == 4096
    assert set(lengths.values()) <= {None}
