"""A benchmark in a file outside of ``run``: compared, searched for in training data, imported, and in a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.comparison.compare import compare
from evalsuite.comparison.settings import CompareConfig
from evalsuite.config import read_as
from evalsuite.errors import DataError, UsageError
from evalsuite.records.files import RecordsFile, records_path
from evalsuite.results.importing import import_results
from evalsuite.study.file import read_study
from evalsuite.study.identities import find_identities
from evalsuite.study.plan import plan_study
from evalsuite.suites.file.suite import suite_in
from evalsuite.suites.registry import parse_suite
from tests.evalsuite.comparison_judges import judge, prefers, serving, speaker, word
from tests.evalsuite.study_toys import write_models, write_study
from tests.evalsuite.suites.file.test_file import ROWS, SUMS, pairwise

LONG = "Which of the lakes that lie higher than three thousand metres is the one with most islands in it?"
RATING: dict[str, Any] = {"rating": {"criteria": "Be right.", "scale": [1, 5]}}


def exported(yaml_file: Path, folder: Path, to: Path) -> Path:
    """Write the export of imported rows, as a run does."""
    records = RecordsFile(records_path(folder, "mine"))
    suite_in(yaml_file).write_peer(records.header, records.rows(), to, model="m", judge="j")
    return to


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# ---------------------------------------------------------------- compare


def test_its_prompts_are_compared_and_its_scorers_code_is_not_run(write, tmp_path):
    (tmp_path / "scorer.py").write_text("raise SystemExit('it ran')\n")
    path = write({"function": "./scorer.py:words"}, ROWS)
    speakers = {name: speaker(lambda question, name=name: f"{name} answer to {question}") for name in ("good", "plain")}
    with serving(**speakers, umpire=judge(prefers("good"))) as stubs:
        values = {"models": [word(stubs, "good"), word(stubs, "plain")], "judge": [word(stubs, "umpire")]}
        given = {**values, "prompts": str(path), "results": tmp_path / "r"}
        [pair] = compare(read_as(CompareConfig, given)).document.as_json()["pairs"]
    assert (pair["wins_a"], pair["wins_b"], pair["unscored"]) == (2, 0, 0)


def test_protected_prompts_are_not_compared(write, tmp_path):
    path = write("numeric", SUMS, protected=True)
    config = read_as(
        CompareConfig, {"models": ["demo", "x"], "judge": ["demo"], "prompts": str(path), "results": tmp_path / "r"}
    )
    with pytest.raises(DataError, match="mine has items without a prompt to show"):
        compare(config)


# ---------------------------------------------------------------- contamination


def test_its_items_are_found_in_training_data_though_they_are_protected(write, tmp_path):
    path = write("numeric", [{"id": "lake", "prompt": LONG, "reference": 4}, *SUMS], protected=True)
    chats = [{"messages": [{"role": "user", "content": f"Tell me: {LONG}"}, {"role": "assistant", "content": "4"}]}]
    data = write_rows(tmp_path / "chats.jsonl", chats)
    words = ["analyze", "contamination", str(data), "--suite", str(path), "--results", str(tmp_path / "r"), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)["suites"]
    assert list(figures) == ["mine"]
    assert (figures["mine"]["n_items"], figures["mine"]["n_overlapped"]) == (3, 1)
    assert [one["item"] for one in figures["mine"]["examples"]] == ["lake"]
    assert "lakes that lie" not in "".join(file.read_text() for file in (tmp_path / "r").rglob("*.json"))
    unknown = CliRunner().invoke(app, [*words[:4], "nonesuch", *words[5:]])
    assert unknown.exit_code == 2


# ---------------------------------------------------------------- import


def test_recorded_ratings_are_imported_and_an_export_gives_the_same_figures(write, tmp_path):
    path = write(RATING, ROWS)
    rows = [
        {"id": "a", "answer": "4", "judge": "j", "rating": 5, "judgment": "Right. Rating: [[5]]"},
        {"prompt": "3+3?", "answer": "7", "judge": "j", "rating": 2},
    ]
    folder, scores = import_results(str(path), write_rows(tmp_path / "judged.jsonl", rows), "m", tmp_path / "r")
    assert scores.suites["mine"]["score"] == 3.5
    assert scores.judge is not None
    assert scores.judge.name == "j"
    _, again = import_results(str(path), exported(path, folder, tmp_path / "e"), "m2", tmp_path / "r")
    assert again.suites["mine"] == scores.suites["mine"]


def test_a_rating_outside_of_the_scale_or_missing_is_unscored(write, tmp_path):
    path = write(RATING, ROWS)
    rows = [{"id": "a", "answer": "4", "rating": 9}, {"id": "b", "answer": "7", "rating": None}]
    _, scores = import_results(str(path), write_rows(tmp_path / "judged.jsonl", rows), "m", tmp_path / "r")
    assert scores.suites["mine"]["score"] is None
    assert scores.suites["mine"]["unscored"] == {"rating_out_of_range": 1, "recorded_failure": 1}


def test_recorded_answers_as_tables_have_them(write, tmp_path):
    path = write("numeric", [*SUMS, {"id": "3", "prompt": "4+4?", "reference": 8}])
    rows = [{"id": "a", "answer": 4.0}, {"id": "b", "answer": None}, {"id": 3.0, "answer": 8}]
    _, scores = import_results(str(path), write_rows(tmp_path / "answers.jsonl", rows), "m", tmp_path / "r")
    assert (scores.suites["mine"]["score"], scores.suites["mine"]["unscored"]) == (1.0, {"no_answer": 1})


def test_a_whole_number_is_the_text_that_a_table_had(write, tmp_path):
    path = write("exact_match", [*SUMS, {"id": "3", "prompt": "4+4?", "reference": 8.0}])
    rows = [{"id": "a", "answer": 4.0}, {"id": "b", "answer": None}, {"id": "3", "answer": "8"}]
    _, scores = import_results(str(path), write_rows(tmp_path / "answers.jsonl", rows), "m", tmp_path / "r")
    assert (scores.suites["mine"]["score"], scores.suites["mine"]["n_scored"]) == (1.0, 2)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [({"id": "a"}, {"id": "a"}), ({"prompt": "2+2?"}, {"prompt": "2+2?"}), ({"id": "a"}, {"prompt": "2+2?"})],
)
def test_an_answer_may_stand_beside_its_verdict(write, tmp_path, answer, verdict):
    path = write(RATING, ROWS)
    rows = [
        {**answer, "answer": "4"},
        {**verdict, "answer": "4", "judge": "j", "rating": 5},
        {"id": None, "prompt": "3+3?", "answer": "7", "judge": "j", "rating": 2},
    ]
    _, scores = import_results(str(path), write_rows(tmp_path / "judged.jsonl", rows), "m", tmp_path / "r")
    assert scores.suites["mine"]["score"] == 3.5


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ([{"id": "a", "answer": "5"}], "row 2: duplicate answer to 'a'"),
        ([{"prompt": "2+2?", "answer": "5"}], "row 2: duplicate answer to 'a'"),
        ([{"id": "b", "model": "m", "answer": "6"}, {"id": "c", "model": "n", "answer": "6"}], "mixes 2 models"),
        ([{"id": "b", "answer": ["6"]}], "row 2: 'answer' is not a text"),
        ([{"id": "b"}], "row 2 has no answer or response or output"),
    ],
)
def test_recorded_answers_that_are_ambiguous_are_refused(write, tmp_path, more, fault):
    path = write("numeric", SUMS)
    file = write_rows(tmp_path / "answers.jsonl", [{"id": "a", "answer": "4"}, *more])
    with pytest.raises(DataError, match=f"answers.jsonl {fault}"):
        import_results(str(path), file, "m", tmp_path / "r")


def test_recorded_games_are_imported(write, tmp_path):
    path = pairwise(write, tmp_path)
    rows = [
        {"id": "a", "answer": "4", "judge": "j", "games": [{"score": "B>A"}, {"score": "A=B", "judgment": "Even."}]},
        {"id": "b", "answer": "7", "judge": "j", "games": [{"score": "A>>B"}, None]},
    ]
    folder, scores = import_results(str(path), write_rows(tmp_path / "judged.jsonl", rows), "m", tmp_path / "r")
    # Of the first item's two games the model won one and tied one; the second has a game without a label.
    assert scores.suites["mine"]["score"] == 75.0
    assert scores.suites["mine"]["unscored"] == {"recorded_failure": 1}
    assert (
        import_results(str(path), exported(path, folder, tmp_path / "e"), "m2", tmp_path / "r")[1].suites["mine"]
        == scores.suites["mine"]
    )


def test_of_two_judges_one_is_named(write, tmp_path):
    path = write(RATING, ROWS)
    rows = [{"id": "a", "answer": "4", "judge": name, "rating": rating} for name, rating in (("j", 5), ("k", 1))]
    file = write_rows(tmp_path / "judged.jsonl", rows)
    with pytest.raises(DataError, match="name one with --annotator"):
        import_results(str(path), file, "m", tmp_path / "r")
    _, scores = import_results(str(path), file, "m", tmp_path / "r", annotator="k")
    assert scores.suites["mine"]["score"] == 1.0


# ---------------------------------------------------------------- study


def test_a_study_runs_and_compares_on_it_and_an_edit_changes_the_keys(write, tmp_path):
    def stages(rows: list[dict[str, Any]]) -> dict[str, Any]:
        write("numeric", rows)
        path = write_study(tmp_path, run={"suites": ["mine.yaml"], "data": "full"}, compare={"prompts": "mine.yaml"})
        study = read_study(path)
        identities, _ = find_identities(study, fetch=False)
        return {stage.name: stage for stage in plan_study(study, identities)}

    write_models(tmp_path)
    first, edited = stages(SUMS), stages([*SUMS, {"id": "c", "prompt": "4+4?", "reference": 8}])
    run = next(stage for name, stage in first.items() if name.startswith("run "))
    assert run.arguments["suites"] == [str(tmp_path / "mine.yaml")]
    assert run.settings["suites"][0].startswith("mine:")
    assert edited[run.name].settings["suites"] != run.settings["suites"]
    compared = next(stage for name, stage in first.items() if name.startswith("compare "))
    assert compared.arguments["prompts"] == str(tmp_path / "mine.yaml")
    assert str(tmp_path) not in json.dumps(compared.settings["prompts"])
    text = yaml.safe_load((tmp_path / "toy.yaml").read_text())
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump({**text, "compare": {"prompts": "nowhere.yaml"}}))
    with pytest.raises(UsageError, match=r"nowhere\.yaml"):
        read_study(tmp_path / "toy.yaml")


# ---------------------------------------------------------------- groups of lm-eval's tasks


def test_a_group_of_evalsuite_suites_stands_for_its_tasks():
    spec = parse_suite("lm_eval:multilingual,ifeval")
    assert spec.parts[0] == "mgsm_native_cot_de"
    assert spec.parts[-1] == "ifeval"
    assert len(spec.parts) == 6
    assert parse_suite("lm_eval:mgsm_native_cot_de,multilingual").parts.count("mgsm_native_cot_de") == 1
