"""MixEval's files: what we export, what we read, and what we refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import DataError, UsageError
from evalsuite.suites.base import Loaded, Record, SuiteOptions
from evalsuite.suites.mixeval.prompts import formatted_prompt
from evalsuite.suites.mixeval.suite import MIXEVAL
from judges.types import Choice, Rating, Unscored
from tests.evalsuite.mixeval_rows import (
    MINI,
    RULE,
    choice_row,
    free_row,
    read_rows,
    said,
    write_rows,
)


def judged_mini() -> tuple[Loaded, list[Record]]:
    loaded = MIXEVAL.load(MINI)
    verdicts: dict[str, Any] = {
        "free_form/0": Rating(0.4, "fair [[0.4]]"),
        "free_form/1": Unscored("no_rating", "mumble"),
        "multiple_choice/0": Choice("C", "so [[C]]"),
        # what a judge says before it is held to a verdict may hold an invalid one
        "free_form/2": Rating(1.0, "[[11]]\n\nScore: [[1.0]]"),
    }
    records = []
    for item in loaded.items:
        fallback: Any = Rating(0.0, "[[0.0]]") if item.id.startswith("free") else Choice("A", "[[A]]")
        records.append(Record(item, said(f"answer to {item.id}"), verdicts.get(item.id, fallback)))
    records[5] = replace(records[5], answer=Unscored("context_length", "too long"), verdict=Unscored("no_answer"))
    return loaded, records


def test_the_export_has_mixevals_fields_and_scores_the_same_again(tmp_path: Path) -> None:
    loaded, records = judged_mini()
    MIXEVAL.export(records, loaded, tmp_path, model="m", judge="j")
    free = read_rows(tmp_path / "free_form.jsonl")
    multiple = read_rows(tmp_path / "multiple_choice.jsonl")
    common = ["problem_type", "context", "prompt", "target", "benchmark_name", "formated_input", "id", "response"]
    assert set(free[0]) == {*common, "judge_response", "judge_score", "unscored"}
    assert set(multiple[0]) == {*common, "options", "judge_response", "judge_option", "unscored"}
    assert free[0]["formated_input"] == formatted_prompt(loaded.items[0].data, loaded.context)
    assert (free[0]["judge_score"], free[0]["judge_response"], free[0]["unscored"]) == (0.4, "fair [[0.4]]", None)
    assert (free[1]["judge_score"], free[1]["unscored"]) == (None, {"reason": "no_rating", "detail": "mumble"})
    assert (free[5]["response"], free[5]["unscored"]["reason"]) == (None, "context_length")
    assert multiple[0]["judge_option"] == "C"
    assert MIXEVAL.score_recorded(tmp_path, SuiteOptions()) == MIXEVAL.score(records, loaded, SuiteOptions())


def test_a_rule_export_holds_no_judge_fields_and_scores_the_same_again(tmp_path: Path) -> None:
    loaded, records = judged_mini()
    plain = [replace(record, verdict=None) for record in records]
    MIXEVAL.export(plain, loaded, tmp_path, model="m", judge=None)
    assert not any(name.startswith("judge_") for name in read_rows(tmp_path / "free_form.jsonl")[0])
    assert MIXEVAL.score_recorded(tmp_path, RULE) == MIXEVAL.score(plain, loaded, RULE)


def test_recorded_answers_without_verdicts_name_the_rule_parser(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "any_name.jsonl", [free_row(response="Mercury"), choice_row(response="B")])
    with pytest.raises(UsageError, match=r"2 of 2 rows .* --mixeval-parser rule") as caught:
        MIXEVAL.score_recorded(path, SuiteOptions())
    assert "\n" not in str(caught.value)
    scores = MIXEVAL.score_recorded(path, RULE)
    assert (scores["free_form"], scores["multiple_choice"], scores["score"]) == (1.0, 1.0, 1.0)


def test_one_recorded_split_gives_its_own_figures_only(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "m_close_multichoice.jsonl", [choice_row("0", response="B"), choice_row("1", response="A")]
    )
    scores = MIXEVAL.score_recorded(path, RULE)
    assert (scores["score"], scores["free_form"], scores["multiple_choice"]) == (None, None, 0.5)
    assert scores["missing"] == {"free_form": "no items of this split were given"}
    assert scores["partial"]["score"] == 0.5


def test_verdicts_that_mixeval_drew_at_random_are_unscored_unless_as_published(tmp_path: Path) -> None:
    rows = [
        free_row("0", response="x", judge_response="[[0.5]]", judge_score=0.5),
        free_row("1", response="x", judge_response="I cannot say", judge_score=0.9),
        free_row("2", response="x", judge_response="[[1.5]]", judge_score=0.1),
        choice_row("0", response="x", judge_response="[[B]]", judge_option="B"),
        choice_row("1", response="x", judge_response="none of them", judge_option="B"),
    ]
    path = write_rows(tmp_path / "judged.jsonl", rows)
    scores = MIXEVAL.score_recorded(path, SuiteOptions())
    assert (scores["free_form"], scores["multiple_choice"]) == (0.5, 1.0)
    assert scores["unscored"] == {"no_option": 1, "no_rating": 1, "rating_out_of_range": 1}
    published = MIXEVAL.score_recorded(path, SuiteOptions(as_published=True))
    assert published["free_form"] == pytest.approx(0.5, abs=1e-12)
    assert published["n_scored"] == 5


@pytest.mark.parametrize(
    ("value", "reason"), [(1.2, "rating_out_of_range"), (True, "no_rating"), ("0.5", "no_rating"), (None, "no_rating")]
)
def test_a_recorded_score_that_is_none_is_unscored(tmp_path: Path, value: Any, reason: str) -> None:
    path = write_rows(tmp_path / "judged.jsonl", [free_row(response="x", judge_score=value)])
    assert MIXEVAL.score_recorded(path, SuiteOptions())["unscored"] == {reason: 1}


def test_a_folder_with_responses_and_judged_files_is_read_by_the_parser(tmp_path: Path) -> None:
    write_rows(tmp_path / "m_close_freeform.jsonl", [free_row(response="Mercury")])
    judged = free_row(response="Mercury", judge_response="[[0.2]]", judge_score=0.2)
    write_rows(tmp_path / "judge_results_ff_model_judge_j.jsonl", [judged])
    assert MIXEVAL.score_recorded(tmp_path, RULE)["free_form"] == 1.0
    assert MIXEVAL.score_recorded(tmp_path, SuiteOptions())["free_form"] == 0.2
    write_rows(tmp_path / "n_close_freeform.jsonl", [free_row(response="Venus")])
    with pytest.raises(DataError, match=r"several free_form files \(m_close_freeform.jsonl, n_close_freeform.jsonl\)"):
        MIXEVAL.score_recorded(tmp_path, RULE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"problem_type": "free-form"\n', r"answers.jsonl line 2"),
        ("[1]\n", r"answers.jsonl line 2"),
        ('{"problem_type": "essay"}\n', r"answers.jsonl row 2: problem_type is 'essay'"),
        (json.dumps(free_row("0", response="x")) + "\n", r"id '0' twice"),
        (json.dumps(free_row("1")) + "\n", r"id '1': 'response' is missing"),
        (json.dumps(free_row("1", response=["x"])) + "\n", r"id '1': 'response' is missing or not text"),
    ],
)
def test_a_broken_line_is_named_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(free_row(response="Mercury")) + "\n" + text, encoding="utf-8")
    with pytest.raises(DataError, match=words) as caught:
        MIXEVAL.score_recorded(path, RULE)
    assert "\n" not in str(caught.value)


def test_a_path_without_rows_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        MIXEVAL.score_recorded(tmp_path / "nowhere", RULE)
    with pytest.raises(DataError, match=r"holds no \.jsonl file"):
        MIXEVAL.score_recorded(tmp_path, RULE)
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no rows"):
        MIXEVAL.score_recorded(tmp_path, RULE)
