"""`evalsuite export`: every form holds the report's figures, no path of the machine, and passes its own schema."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from msgspec.structs import replace
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.documents import JudgeEntry
from evalsuite.exports import hub
from evalsuite.exports.tables import tables_text
from evalsuite.exports.write import write_export
from evalsuite.report.build import build_report, read_contents
from tests.evalsuite.report_results import (
    JUDGE,
    free_form_row,
    mixeval_scores,
    mt_bench_scores,
    write_model,
    write_rows,
)

runner = CliRunner()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two models whose difference is clear on 40 items, one with an odd name, figures and reasons with paths."""
    folder = tmp_path / "results"
    openllm = {"mmlu_pro": {"score": 0.4, "stderr": 0.05, "n": 96, "unscored": {}}, "bbh": None}
    openllm |= {"unscored": {"bbh": f"not in {tmp_path}/hub/x"}}
    for name, mark in (("a_model|50% & more", 1.0), ("weak", 0.0)):
        suites = {"mixeval": mixeval_scores(mark, 0.05, n=40), "mt_bench": mt_bench_scores(7.0), "openllm": openllm}
        written = write_model(folder, name, suites)
        write_rows(written, "mixeval", [free_form_row(str(place), f"says {place}", mark) for place in range(39)])
    return folder


def everything(path: Path) -> str:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return "\n".join(one.read_bytes().decode("utf-8", "replace") for one in files)


@pytest.mark.parametrize("to", ["markdown", "latex", "csv", "parquet", "hub", "every-eval-ever"])
def test_no_export_holds_a_path_of_the_machine(results: Path, tmp_path: Path, to: str) -> None:
    out = tmp_path / f"out-{to}"
    done = runner.invoke(app, ["export", "--results", str(results), "--to", to, "--out", str(out)])
    assert done.exit_code == 0, done.output
    text = everything(out)
    assert text
    for private in (str(tmp_path), "/home/somebody"):
        assert private not in text


def test_tables_have_intervals_stars_and_escaped_names(results: Path) -> None:
    contents, _ = read_contents(results)
    markdown = tables_text(contents, "markdown")
    assert "a\\_model\\|50% & more" in markdown
    assert "1.000 ± 0.044 ★" in markdown
    assert "| # " in markdown.splitlines()[2]
    # Each model has 40 items of MixEval, 2 ratings of MT-Bench and 96 items of MMLU-Pro.
    assert markdown.splitlines()[2].endswith("| n   |")
    assert all(line.endswith("| 138 |") for line in markdown.splitlines()[4:6])
    latex = tables_text(contents, "latex")
    assert r"a\_model|50\% \& more" in latex
    assert r"1.000 $\pm$ 0.044$^\star$" in latex
    assert latex.count(r"\begin{tabular}") == 1


def test_csv_is_the_reports(results: Path) -> None:
    done = runner.invoke(app, ["export", "--results", str(results), "--to", "csv"])
    report = build_report(results)
    assert done.stdout == report.csv.read_text(encoding="utf-8")
    assert len(list(csv.DictReader(done.stdout.splitlines()))) == 2


def test_parquet_has_a_row_for_each_item_and_model(results: Path, tmp_path: Path) -> None:
    path = tmp_path / "items.parquet"
    write_export(results, "parquet", path)
    rows = pq.read_table(path).to_pylist()
    assert len(rows) == 78
    first = next(row for row in rows if row["item_id"] == "free_form/3" and row["mark"] == 1.0)
    assert first["suite"] == "mixeval"
    assert first["answer"] == ["says 3"]
    assert first["prompt"] == ["Question 3?"]
    assert first["judge"] == JUDGE["name"]


def test_no_protected_text_is_exported(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "r", "m", {"mixeval": mixeval_scores(0.5, n=1)})
    row = replace(free_form_row("1", "CANARY", 1.0, echo=True), prompt=None)
    write_rows(folder, "mixeval", [row])
    write_export(tmp_path / "r", "parquet", tmp_path / "x.parquet")
    [written] = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert written["mark"] == 1.0
    assert "CANARY" not in json.dumps(written)


def test_every_eval_ever_passes_the_schema(results: Path, tmp_path: Path, shared: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((shared / "reference/formats/every_eval_ever_eval.schema.json").read_text("utf-8"))
    written = write_export(results, "every-eval-ever", tmp_path / "eee")
    assert len(written.paths) == 2
    for path in written.paths:
        document = json.loads(path.read_text("utf-8"))
        jsonschema.validate(document, schema)
        by_name = {one["evaluation_name"]: one for one in document["evaluation_results"]}
        assert by_name["mmlu_pro"]["source_data"]["hf_repo"] == "TIGER-Lab/MMLU-Pro"
        scales = {
            name: (one["metric_config"]["min_score"], one["metric_config"]["max_score"])
            for name, one in by_name.items()
        }
        assert (scales["mt_bench"], scales["mixeval"]) == ((1, 10), (0, 1))
        interval = by_name["mmlu_pro"]["score_details"]["uncertainty"]["confidence_interval"]
        assert interval["method"] == "Wilson"
        assert "limit" not in by_name["mmlu_pro"]["score_details"]["details"]
        assert by_name["mixeval"]["metric_config"]["llm_scoring"]["judges"][0]["model_info"]["name"] == JUDGE["name"]


def test_each_figure_of_an_import_names_its_own_judge() -> None:
    methods = {"mt_bench": "recorded by gpt-4", "alpaca_eval": "recorded by other", "mixeval": "mixeval_extraction"}
    both = JudgeEntry(name="gpt-4, other", fingerprint="recorded:both", methods=methods)
    names = {key: (both.of_suite(key).name, both.of_suite(key).fingerprint) for key in (*methods, "new")}
    whole = ("gpt-4, other", "recorded:both")
    assert names == {
        "mt_bench": ("gpt-4", "recorded:gpt-4"),
        "alpaca_eval": ("other", "recorded:other"),
        "mixeval": whole,
        "new": whole,
    }


def test_the_hubs_files_name_its_data_sets(results: Path, tmp_path: Path) -> None:
    written = write_export(results, "hub", tmp_path / "hub")
    assert len(written.paths) == 2
    [*entries] = yaml.safe_load((written.paths[0] / ".eval_results" / "evalsuite.yaml").read_text("utf-8"))
    entry = next(one for one in entries if one["dataset"]["task_id"] == "mmlu_pro")
    assert entry["dataset"]["id"] == "TIGER-Lab/MMLU-Pro"
    assert entry["value"] == 0.4
    card = (written.paths[0] / "README.md").read_text("utf-8")
    front = yaml.safe_load(card.split("---")[1])
    assert front["model-index"][0]["name"] in ("a_model|50% & more", "weak")


def test_mini_data_are_not_for_the_hub(tmp_path: Path) -> None:
    write_model(tmp_path / "r", "m", {"mt_bench": mt_bench_scores(7.0)}, data="mini")
    written = write_export(tmp_path / "r", "hub", tmp_path / "hub")
    assert written.paths == []
    [left_out] = written.faults
    assert left_out.endswith(": mini data; run all items to get figures comparable with published ones")


def test_a_rank_is_a_range_and_equal_ratings_have_no_spread(tmp_path: Path) -> None:
    alike = {"mt_bench": {**mt_bench_scores(4.0), "stderr": 0.0, "ci95": None}}
    for name in "ab":
        write_model(tmp_path / "r", name, alike)
    contents, _ = read_contents(tmp_path / "r")
    lines = tables_text(contents, "markdown").splitlines()[4:6]
    assert all(line.startswith("| 1–2 ") for line in lines)
    assert all("±" not in line for line in lines)
    text = write_export(tmp_path / "r", "csv").text
    assert text is not None
    assert [row["mt_bench_stderr"] for row in csv.DictReader(text.splitlines())] == ["", ""]


def test_nothing_is_pushed_without_a_word(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pushed: list[str] = []
    monkeypatch.setattr(
        hub, "push", lambda folder, repo: pushed.append(f"{folder.name} {repo}") or "https://hub.example/1"
    )
    write_export(results, "hub", tmp_path / "hub")
    assert pushed == []
    done = runner.invoke(
        app, ["export", "--results", str(results), "--to", "hub", "--push", "me/m", "--out", str(tmp_path / "h")]
    )
    assert done.exit_code == 2  # two models, one name
    assert "one model" in done.stderr.replace("\n", " ")
    done = runner.invoke(app, ["export", "--results", str(results), "--to", "csv", "--push", "me/m"])
    assert done.exit_code == 2
    assert "--to hub" in done.stderr
