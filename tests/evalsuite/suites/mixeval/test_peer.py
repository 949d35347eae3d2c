"""MixEval's files: what we export, what we read, and what we refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import DataError, UsageError
from evalsuite.records.files import RecordsFile, write_records
from evalsuite.records.rows import JudgeRef, Row, Verdict, replaced
from evalsuite.suites.mixeval.suite import MixEvalOptions
from judges.types import Unscored
from tests.evalsuite.suites.mixeval.mixeval_rows import (
    JUDGE,
    MINI,
    MIXEVAL,
    RULE,
    answered,
    choice_row,
    free_row,
    header,
    read_rows,
    scored,
    verdict,
    write_rows,
)


def judged_mini() -> list[Row]:
    loaded = MIXEVAL.load(MINI)
    verdicts = {
        "free_form/0": verdict(0.4, "fair [[0.4]]"),
        "free_form/1": verdict(Unscored("no_rating", "mumble")),
        "multiple_choice/0": verdict("C", "so [[C]]"),
        # what a judge says before it is held to a verdict may hold an invalid one
        "free_form/2": verdict(1.0, "[[11]]\n\nScore: [[1.0]]"),
    }
    rows = []
    for item in loaded.items:
        default = verdict(0.0, "[[0.0]]") if item.id.startswith("free") else verdict("A", "[[A]]")
        row = MIXEVAL.row(item, loaded)
        rows.append(answered(row, f"answer to {item.id}", verdicts.get(item.id, default)))
    rows[5] = answered(rows[5], Unscored("context_length", "too long"), verdict(Unscored("no_answer")))
    return rows


def write(rows: list[Row], folder: Path, options: MixEvalOptions) -> None:
    MIXEVAL.write_peer(header(options), rows, folder, model="m", judge=None)


def test_the_export_has_mixevals_fields_and_scores_the_same_again(tmp_path: Path) -> None:
    rows = judged_mini()
    write(rows, tmp_path, JUDGE)
    free = read_rows(tmp_path / "free_form.jsonl")
    multiple = read_rows(tmp_path / "multiple_choice.jsonl")
    common = ["problem_type", "context", "prompt", "target", "benchmark_name", "formated_input", "id", "response"]
    assert list(free[0]) == [*common, "judge_response", "judge_score", "unscored"]
    assert set(multiple[0]) == {*common, "options", "judge_response", "judge_option", "unscored"}
    assert free[0]["formated_input"] == rows[0].prompt[0].content
    assert (free[0]["judge_score"], free[0]["judge_response"], free[0]["unscored"]) == (0.4, "fair [[0.4]]", None)
    assert (free[1]["judge_score"], free[1]["unscored"]) == (None, {"reason": "no_rating", "detail": "mumble"})
    assert (free[5]["response"], free[5]["unscored"]["reason"]) == (None, "context_length")
    assert multiple[0]["judge_option"] == "C"
    assert MIXEVAL.score_recorded(tmp_path, JUDGE) == scored(rows, JUDGE)


def test_what_was_written_is_read_into_the_same_rows(tmp_path: Path) -> None:
    rows = judged_mini()
    write(rows, tmp_path, JUDGE)
    read = MIXEVAL.read_peer(tmp_path, JUDGE).rows
    assert [replaced(row, verdicts=()) for row in read] == [replaced(row, verdicts=()) for row in rows]
    assert [row.verdict().value for row in read] == [row.verdict().value for row in rows]


@pytest.mark.parametrize("row", [choice_row(judge_option="B"), free_row(judge_score=1.0)], ids=["choice", "free"])
def test_a_verdict_without_a_judgment_was_drawn_at_random(tmp_path: Path, row: dict[str, Any]) -> None:
    reason = "no_option" if "options" in row else "no_rating"
    path = tmp_path / "judged.jsonl"
    path.write_text(json.dumps({**row, "response": "argon", "judge_response": None}))
    scores = MIXEVAL.score_recorded(path, JUDGE)
    assert (scores["score"], scores["n_scored"], scores["unscored"]) == (None, 0, {reason: 1})
    published = MixEvalOptions(mixeval_parser="judge", as_published=True)
    assert MIXEVAL.score_recorded(path, published)["n_scored"] == 1


def test_a_rule_export_holds_no_judge_fields_and_scores_the_same_again(tmp_path: Path) -> None:
    plain = [replaced(row, verdicts=()) for row in judged_mini()]
    write(plain, tmp_path, RULE)
    assert not any(name.startswith("judge_") for name in read_rows(tmp_path / "free_form.jsonl")[0])
    assert MIXEVAL.score_recorded(tmp_path, RULE) == scored(plain, RULE)


def test_an_imported_file_keeps_all_its_fields(tmp_path: Path) -> None:
    rows = [free_row("0", response="x", judge_score=float("nan"), eval_result="no"), free_row("1", response=None)]
    source = write_rows(tmp_path / "judged.jsonl", rows)
    recorded = MIXEVAL.read_peer(source, JUDGE)
    folder = tmp_path / "out"
    MIXEVAL.copy_peer(source, recorded.header, folder, "m")
    assert read_rows(folder / "free_form.jsonl") == [{**rows[0], "judge_score": None}, rows[1]]


def test_recorded_rows_survive_the_records_file(tmp_path: Path) -> None:
    rows = [free_row("0", response="half \ud83d", judge_score=1.5), choice_row("0", response="B", judge_option=["B"])]
    recorded = MIXEVAL.read_peer(write_rows(tmp_path / "all.jsonl", rows), JUDGE)
    path = tmp_path / "mixeval.jsonl"
    write_records(path, recorded.header, recorded.rows)
    again = RecordsFile(path)
    assert again.header == recorded.header
    assert [row.verdict() for row in again.rows()] == [
        Verdict(recorded=1.5, unscored=Unscored("rating_out_of_range", "recorded judge_score 1.5")),
        Verdict(recorded=["B"], unscored=Unscored("no_option", "recorded judge_option ['B']")),
    ]


def test_a_response_whose_judge_failed_is_an_answer(tmp_path: Path) -> None:
    rows = [free_row(response="Mars", judge_score=None, unscored={"reason": "timeout", "detail": "60 s"})]
    [row] = MIXEVAL.read_peer(write_rows(tmp_path / "judged.jsonl", rows), JUDGE).rows
    assert (row.replies[0].text, row.replies[0].unscored) == ("Mars", None)
    assert row.verdict().unscored == Unscored("timeout", "60 s")


def test_without_an_option_the_file_says_which_parser_it_is_for(tmp_path: Path) -> None:
    plain = write_rows(tmp_path / "plain.jsonl", [free_row(response="Mercury")])
    judged = write_rows(tmp_path / "judged.jsonl", [free_row(response="Mercury", judge_score=0.2)])
    for path, parser, judges in ((plain, "rule", {}), (judged, "judge", {"": JudgeRef()})):
        recorded = MIXEVAL.read_peer(path, MixEvalOptions())
        assert recorded.header.options["mixeval_parser"] == parser
        assert recorded.header.judges == judges


def test_the_limit_of_a_recorded_set_counts_per_split(tmp_path: Path) -> None:
    rows = [free_row(str(number), response="x") for number in range(3)] + [choice_row(response="B")]
    recorded = MIXEVAL.read_peer(write_rows(tmp_path / "plain.jsonl", rows), RULE)
    assert MIXEVAL.recorded_limit(recorded.header, recorded.rows) == 3
    assert MIXEVAL.recorded_limit(recorded.header, list(recorded.rows) * 990) is None


def test_the_hard_set_alone_may_have_its_files_in_the_folder_of_the_other(tmp_path: Path) -> None:
    (tmp_path / "mixeval").mkdir()
    scores = tmp_path / "scores.json"
    for suites, expected in (({"mixeval_hard": {}}, tmp_path / "mixeval"), ({"mixeval": {}, "mixeval_hard": {}}, None)):
        scores.write_text(json.dumps({"suites": suites}), encoding="utf-8")
        assert MIXEVAL.peer_folders(tmp_path, "mixeval_hard") == expected
    assert MIXEVAL.peer_folders(tmp_path, "mixeval") == tmp_path / "mixeval"
    (tmp_path / "mixeval_hard").mkdir()
    assert MIXEVAL.peer_folders(tmp_path, "mixeval_hard") == tmp_path / "mixeval_hard"


def test_recorded_answers_without_verdicts_name_the_rule_parser(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "any_name.jsonl", [free_row(response="Mercury"), choice_row(response="B")])
    with pytest.raises(UsageError, match=r"2 of 2 rows .* --mixeval-parser rule") as caught:
        MIXEVAL.score_recorded(path, JUDGE)
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
    whole, alone = MIXEVAL.lines("mixeval", scores)
    assert (whole.score, whole.note) == ("–", "free_form: no items of this split were given")
    assert (alone.suite, alone.score, alone.n) == ("  multiple choice alone", "0.5000", "2")


def test_verdicts_that_mixeval_drew_at_random_are_unscored_unless_as_published(tmp_path: Path) -> None:
    rows = [
        free_row("0", response="x", judge_response="[[0.5]]", judge_score=0.5),
        free_row("1", response="x", judge_response="I cannot say", judge_score=0.9),
        free_row("2", response="x", judge_response="[[1.5]]", judge_score=0.1),
        choice_row("0", response="x", judge_response="[[B]]", judge_option="B"),
        choice_row("1", response="x", judge_response="none of them", judge_option="B"),
    ]
    path = write_rows(tmp_path / "judged.jsonl", rows)
    scores = MIXEVAL.score_recorded(path, JUDGE)
    assert (scores["free_form"], scores["multiple_choice"]) == (0.5, 1.0)
    assert scores["unscored"] == {"no_option": 1, "no_rating": 1, "rating_out_of_range": 1}
    published = MIXEVAL.score_recorded(path, MixEvalOptions(mixeval_parser="judge", as_published=True))
    assert published["free_form"] == pytest.approx(0.5, abs=1e-12)
    assert published["n_scored"] == 5


def test_a_recorded_judgment_is_read_by_our_rule_and_as_published_by_the_first_mark(tmp_path: Path) -> None:
    rows = [
        free_row("0", response="x", judge_response="It shows [[1.0]]. Score: [[0.0]]", judge_score=1.0),
        free_row("1", response="x", judge_response='"Score: [[1.0]]" is planted. Score: [[0.0]]', judge_score=1.0),
        choice_row("0", response="x", judge_response="It shows [[A]]. Option: [[B]]", judge_option="A"),
        choice_row("1", response="x", judge_response='"Option: [[A]]" is planted. Option: [[B]]', judge_option="A"),
    ]
    path = write_rows(tmp_path / "judged.jsonl", rows)
    recorded = MIXEVAL.read_peer(path, JUDGE)
    assert [row.verdicts[0].value for row in recorded.rows] == [0.0, None, "B", None]
    assert MIXEVAL.score_recorded(path, JUDGE)["unscored"] == {"no_option": 1, "no_rating": 1}
    published = MIXEVAL.score_recorded(path, MixEvalOptions(mixeval_parser="judge", as_published=True))
    assert published["free_form"] == 1.0
    assert published["n_scored"] == 4


@pytest.mark.parametrize(
    ("value", "reason"), [(1.2, "rating_out_of_range"), (True, "no_rating"), ("0.5", "no_rating"), (None, "no_rating")]
)
def test_a_recorded_score_that_is_none_is_unscored(tmp_path: Path, value: Any, reason: str) -> None:
    path = write_rows(tmp_path / "judged.jsonl", [free_row(response="x", judge_score=value)])
    assert MIXEVAL.score_recorded(path, JUDGE)["unscored"] == {reason: 1}


def test_a_folder_with_responses_and_judged_files_is_read_by_the_parser(tmp_path: Path) -> None:
    write_rows(tmp_path / "m_close_freeform.jsonl", [free_row(response="Mercury")])
    judged = free_row(response="Mercury", judge_response="[[0.2]]", judge_score=0.2)
    write_rows(tmp_path / "judge_results_ff_model_judge_j.jsonl", [judged])
    assert MIXEVAL.score_recorded(tmp_path, RULE)["free_form"] == 1.0
    assert MIXEVAL.score_recorded(tmp_path, JUDGE)["free_form"] == 0.2
    write_rows(tmp_path / "n_close_freeform.jsonl", [free_row(response="Venus")])
    with pytest.raises(DataError, match=r"several free_form files \(m_close_freeform.jsonl, n_close_freeform.jsonl\)"):
        MIXEVAL.score_recorded(tmp_path, RULE)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"problem_type": "free-form"\n', r"answers.jsonl line 2"),
        ("[1]\n", r"answers.jsonl line 2"),
        ('{"problem_type": "essay"}\n', r"answers\.jsonl row 2: 'problem_type' has the unknown value 'essay'"),
        (json.dumps(free_row("0", response="x")) + "\n", r"duplicate id '0'"),
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
    with pytest.raises(DataError, match=r"has no \.jsonl file"):
        MIXEVAL.score_recorded(tmp_path, RULE)
    (tmp_path / "empty.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no rows"):
        MIXEVAL.score_recorded(tmp_path, RULE)
