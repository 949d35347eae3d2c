"""Items in the page: from records, from the files of version 0.1, and from what is broken."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from evalsuite.api import score
from evalsuite.files import write_json, write_jsonl
from evalsuite.records.rows import Draw, Reply, Row, Verdict
from evalsuite.report.build import Report, build_report
from evalsuite.report.packing import packed_marks
from judges.types import Message
from tests.evalsuite.report.test_tabs import OTHER_JUDGE, by_two_judges
from tests.evalsuite.report_results import (
    JUDGE,
    JUDGE_KEY,
    free_form_row,
    index_of,
    mixeval_scores,
    mt_bench_row,
    mt_bench_scores,
    unpack,
    write_exports,
    write_free_form,
    write_many_pages,
    write_model,
    write_rows,
)
from tests.evalsuite.suites.mixeval.mixeval_rows import choice_row, free_row

ALPACA_EVAL = {"win_rate": 50.0, "standard_error": 1.0, "lc_win_rate": None, "n_total": 2, "unscored": {}}
PART = {"score": 0.4, "stderr": 0.01, "n": 1, "normalized": 40.0, "unscored": {}}


def items_of(report: Report, part: str) -> list[dict[str, Any]]:
    """Return the items of a part: the question and the answers by model."""
    page = report.html.read_text(encoding="utf-8")
    found = next(one for one in index_of(report.html)["parts"] if one["name"] == part)
    return [item for _, _, block in found["blocks"] for item in json.loads(unpack(page, block))]


def marks_of(report: Report, part: str) -> dict[int, list[float]]:
    """Return the marks of a part by model."""
    found = next(one for one in index_of(report.html)["parts"] if one["name"] == part)
    packed = unpack(report.html.read_text(encoding="utf-8"), found["marks"]["id"])
    shape = (len(found["models"]), found["n"])
    matrix = read_marks(found["marks"], zlib.compress(packed)[2:-4], shape)
    return dict(zip(found["models"], matrix.tolist(), strict=True))


def read_marks(layout: dict[str, Any], packed: bytes, shape: tuple[int, int]) -> np.ndarray[Any, Any]:
    raw = zlib.decompress(packed, wbits=-15)
    if layout["bits"] == 8:
        levels = np.array([*layout["levels"], *[np.nan] * (256 - len(layout["levels"]))])
        values = levels[np.frombuffer(raw, dtype=np.uint8)]
    else:
        codes = np.frombuffer(raw, dtype="<u2")
        step = (layout["high"] - layout["low"]) / 65534
        values = np.where(codes == 65535, np.nan, layout["low"] + codes * step)
    return values.reshape(shape)


@given(st.lists(st.one_of(st.floats(0, 100), st.none()), min_size=1, max_size=600))
def test_marks_survive_packing(values: list[float | None]) -> None:
    row = np.array([math.nan if value is None else value for value in values])
    layout, packed = packed_marks([row, row[::-1]])
    back = read_marks(layout, packed, (2, len(values)))
    tolerance = 0 if layout["bits"] == 8 else 100 / 65534
    np.testing.assert_allclose(back[0], row, atol=tolerance, rtol=0)
    np.testing.assert_allclose(back[1], row[::-1], atol=tolerance, rtol=0)


def test_an_item_stands_in_the_page_with_every_answer(tmp_path: Path) -> None:
    for name, answer in (("one", "right"), ("two", "wrong")):
        folder = write_model(tmp_path, name, {"mixeval": mixeval_scores(0.5, parser="judge")})
        write_free_form(folder, [("7", answer, 1.0 if answer == "right" else None), ("8", "x", 0.5)])
    report = build_report(tmp_path)
    assert report.items == 4
    page = report.html.read_text(encoding="utf-8")
    part = index_of(report.html)["parts"][0]
    assert (part["name"], part["labels"], part["titles"]) == (
        "mixeval/free_form",
        ["7", "8"],
        ["Question 7?", "Question 8?"],
    )
    items = json.loads(unpack(page, part["blocks"][0][2]))
    assert items[0]["a"]["0"]["turns"] == ["right"]
    assert items[0]["a"]["1"]["unscored"] == "no_rating"
    marks = read_marks(part["marks"], zlib.compress(unpack(page, part["marks"]["id"]))[2:-4], (2, 2))
    np.testing.assert_array_equal(marks, [[1.0, 0.5], [math.nan, 0.5]])


def test_a_recorded_judgment_is_rated_as_the_figures_are(tmp_path: Path) -> None:
    """Published judgments write -1 beside a rating that their own pattern missed; ours reads it again."""
    judgments = [("[[8/10]]", -1), ("no verdict", -1), ("Rating: [[3]]", 3)]
    rows = [
        {"question_id": 81 + number, "turn": 1, "judgment": text, "score": score, "model": "m", "judge": ["j", "p"]}
        for number, (text, score) in enumerate(judgments)
    ]
    folder = write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(5.5)})
    write_jsonl(folder / "mt_bench" / "model_judgment.jsonl", rows)
    report = build_report(tmp_path)
    np.testing.assert_array_equal(marks_of(report, "mt_bench")[0], [8.0, math.nan, 3.0])
    answers = [item["a"]["0"] for item in items_of(report, "mt_bench")]
    assert [answer["judge"][0]["mark"] for answer in answers] == ["8 of 10", "unscored: no_rating", "3 of 10"]
    scored = score("mt_bench", folder / "mt_bench")
    assert scored["score"] == 5.5  # of 8 and 3
    assert scored["unscored"] == {"no_rating": 1}


def test_a_recorded_verdict_of_mixeval_counts_as_it_does_in_the_figures(tmp_path: Path) -> None:
    """Where a judgment holds no verdict MixEval writes one that it drew at random."""
    free = [("[[1.0]]", 1.0), ("I cannot say.", 0.0), ("[[0.5]]", 0.5), ("[[0.0]]", 7), ("[[1.0]]", None)]
    choices = [("[[B]]", "B"), ("None of them.", "A"), ("[[A]]", "A"), ("[[B]]", "Z")]
    rows = [
        free_row(str(number), response="a", judge_response=text, judge_score=verdict)
        for number, (text, verdict) in enumerate(free)
    ]
    rows.append(free_row("none", response=None, judge_score=None))
    rows += [
        choice_row(str(number), response="a", judge_response=text, judge_option=verdict)
        for number, (text, verdict) in enumerate(choices)
    ]
    folder = write_model(tmp_path, "m", {"mixeval": mixeval_scores(0.5, parser="judge")})
    for split, kind in (("free_form", "free-form"), ("multiple_choice", "multiple-choice")):
        write_jsonl(folder / "mixeval" / f"{split}.jsonl", [row for row in rows if row["problem_type"] == kind])
    report = build_report(tmp_path)
    nan = math.nan
    np.testing.assert_array_equal(marks_of(report, "mixeval/free_form")[0], [1.0, nan, 0.5, nan, nan, nan])
    # The right option of a row is B.
    np.testing.assert_array_equal(marks_of(report, "mixeval/multiple_choice")[0], [1.0, nan, 0.0, nan])
    answers = [
        item["a"]["0"] for split in ("free_form", "multiple_choice") for item in items_of(report, f"mixeval/{split}")
    ]
    reasons = [answer["unscored"] for answer in answers if "unscored" in answer]
    assert reasons == ["no_rating", "rating_out_of_range", "no_rating", "no_answer", "no_option", "no_option"]
    assert [answer["judge"][0]["mark"] for answer in answers[:2]] == [1.0, "unscored: no_rating"]
    assert answers[6]["judge"][0]["mark"] == "B"
    assert score("mixeval", folder / "mixeval")["unscored"] == Counter(reasons)


def test_no_text_of_gpqa_is_in_the_page(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", {"openllm": {"gpqa": PART, "unscored": {}}}, judge=None)
    sample = {"doc_id": 0, "doc": {"Question": "CANARY-1"}, "target": "CANARY-2", "arguments": {"x": "CANARY-3"}}
    sample |= {"resps": [["CANARY-4"]], "filtered_resps": ["CANARY-5"], "acc_norm": 1.0, "metrics": ["acc_norm"]}
    write_samples(folder, "leaderboard_gpqa_main", [sample])
    assert_no_canary(build_report(tmp_path))


def test_no_protected_text_of_a_row_is_in_the_page(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)})
    row = mt_bench_row(["CANARY-1"], judgment="CANARY-2")
    write_rows(folder, "mt_bench", [replace(row, prompt=None, facts={"reference": ["CANARY-3"]})])
    assert_no_canary(build_report(tmp_path))


def assert_no_canary(report: Report) -> None:
    page = report.html.read_text(encoding="utf-8")
    blocks = re.findall(r'id="(b\d+|index)"', page)
    everything = page.encode() + b"".join(unpack(page, block) for block in blocks)
    assert b"CANARY" not in everything
    assert report.items == 1


def write_samples(folder: Path, task: str, samples: list[dict[str, Any]]) -> None:
    """Write lm-eval's files of one task and its group, as version 0.1 did."""
    metric, group = samples[0]["metrics"][0], "_".join(task.split("_")[:2])
    results = {name: {"alias": name, f"{metric},none": 0.5} for name in (group, task)}
    write_json(folder / "openllm" / "results.json", {"results": results, "group_subtasks": {group: [task]}})
    write_jsonl(folder / "openllm" / f"samples_{task}.jsonl", samples)


def test_every_item_page_knows_where_the_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = write_many_pages(tmp_path, monkeypatch)
    assert len(report.pages) > 2
    for page in report.pages:
        part = index_of(page)["parts"][0]
        ends = [(first, last) for first, last, _ in part["blocks"]]
        assert [item for first, last in ends for item in range(first, last)] == list(range(part["n"]))
        named = {block for *_, block in part["blocks"] if block.endswith(".html")}
        assert named == {other.name for other in report.pages if other != page}


@pytest.mark.parametrize("exports", [False, True])
def test_half_a_surrogate_pair_does_not_lose_a_file(tmp_path: Path, exports: bool) -> None:
    folder = write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)}, data="mini")
    (write_exports if exports else write_rows)(folder, "mt_bench", [mt_bench_row(["a \ud83d b", "c"])])
    report = build_report(tmp_path)
    assert not report.faults
    assert report.items == 1


def test_a_folder_of_version_0_1_shows_the_same_items(tmp_path: Path) -> None:
    preference = Verdict(JUDGE_KEY, 1.75, label_logprobs={"m": -1.5, "M": -0.25})
    rows = {
        "mt_bench": [mt_bench_row(["a", "b"])],
        "alpaca_eval": [alpaca_row("0", "Why?", "Because.", preference)],
        "mixeval": [free_form_row("1", "right", 1.0), free_form_row("2", "wrong", None)],
    }
    openllm = {"bbh": PART, "tasks": {}, "unscored": {}}
    figures = {"mt_bench": mt_bench_scores(7.0), "alpaca_eval": ALPACA_EVAL, "mixeval": mixeval_scores(0.5)}
    reports = []
    for name, write in (("new", write_rows), ("old", write_exports)):
        folder = write_model(tmp_path / name, "m", figures | {"openllm": openllm}, data="mini")
        for key, suite_rows in rows.items():
            write(folder, key, suite_rows)
        sample = {"doc_id": 3, "doc": {"input": "1 + 1 = 2?"}, "target": "True", "doc_hash": "h", "acc_norm": 1.0}
        sample |= {"resps": [[["-0.5", "True"]], [["-1.5", "False"]]], "metrics": ["acc_norm"]}
        sample["filtered_resps"] = [pair[0] for pair in sample["resps"]]
        write_samples(folder, "mini_bbh_shelf_order", [sample])
        reports.append(build_report(tmp_path / name))
    new, old = reports
    assert new.items == old.items == 5
    assert not new.faults + old.faults
    for part in ("mt_bench", "alpaca_eval", "mixeval/free_form", "openllm/bbh/mini_bbh_shelf_order"):
        np.testing.assert_array_equal(marks_of(new, part)[0], marks_of(old, part)[0])
        assert [item["a"] for item in items_of(new, part)] == [item["a"] for item in items_of(old, part)]
    assert marks_of(old, "alpaca_eval")[0] == [75.0]
    assert new.csv.read_text("utf-8") == old.csv.read_text("utf-8")


def alpaca_row(item: str, instruction: str, answer: str, *verdicts: Verdict) -> Row:
    facts = {"category": "helpful_base", "reference": ["The baseline."], "baseline": "b"}
    draws = (Draw((Reply(answer),)),)
    content = f"hash of {instruction}"
    return Row(item, "", content, (Message("user", instruction),), facts, draws, verdicts)


def test_the_same_content_is_the_same_item_whatever_its_id(tmp_path: Path) -> None:
    """Files of different origin number the instructions differently, and some stand in a set twice."""
    asked = [["Why?", "How?", "How?"], ["How?", "Who?", "How?", "Why?"]]
    for name, instructions in zip("mn", asked, strict=True):
        folder = write_model(tmp_path, name, {"alpaca_eval": ALPACA_EVAL})
        rows = [
            alpaca_row(str(number), instruction, f"{name}{number}", Verdict(JUDGE_KEY, 1.5))
            for number, instruction in enumerate(instructions)
        ]
        write_rows(folder, "alpaca_eval", rows)
    items = items_of(build_report(tmp_path), "alpaca_eval")
    shown = [(item["q"]["messages"], [answer["turns"] for answer in item["a"].values()]) for item in items]
    assert sorted(shown) == [
        (["How?"], [["m1"], ["n0"]]),
        (["How?"], [["m2"], ["n2"]]),
        (["Who?"], [["n1"]]),
        (["Why?"], [["m0"], ["n3"]]),
    ]


def test_the_same_id_with_other_content_is_another_item(tmp_path: Path) -> None:
    for name in "mn":
        folder = write_model(tmp_path, name, {"mixeval": mixeval_scores(0.5, n=1)})
        write_rows(folder, "mixeval", [replace(free_form_row("1", name, 1.0), content=name)])
    report = build_report(tmp_path)
    np.testing.assert_array_equal(marks_of(report, "mixeval/free_form")[0], [1.0, math.nan])
    np.testing.assert_array_equal(marks_of(report, "mixeval/free_form")[1], [math.nan, 1.0])


def test_each_judge_of_a_folder_has_marks_of_its_own(tmp_path: Path) -> None:
    folder = by_two_judges(tmp_path)
    row = mt_bench_row(["a", "b"])
    others = tuple(Verdict("judge-y-eeeeeeee", 3.0, turn, text="Rating: [[3]]") for turn in (1, 2))
    keys = {JUDGE_KEY: JUDGE, "judge-y-eeeeeeee": OTHER_JUDGE}
    described = {key: {"name": judge["name"], "fingerprint": judge["fingerprint"]} for key, judge in keys.items()}
    write_rows(folder, "mt_bench", [replace(row, verdicts=(*row.verdicts, *others))], judges=described)
    write_rows(folder, "openllm", [Row("0", "bbh/leaderboard_bbh_x", marks={"acc_norm": (1.0,)})])
    report = build_report(tmp_path)
    assert marks_of(report, "mt_bench") == {0: [7.0], 1: [3.0]}
    answers = items_of(report, "mt_bench")[0]["a"]
    assert [verdict["mark"] for verdict in answers["1"]["judge"]] == ["3 of 10", "3 of 10"]
    assert marks_of(report, "openllm/bbh/leaderboard_bbh_x") == {0: [1.0], 1: [1.0]}
    assert [model["slug"] for model in index_of(report.html)["models"]] == [folder.name, f"{folder.name}@eeeeeeee"]


def test_items_of_an_lm_eval_task_belong_to_its_column(tmp_path: Path) -> None:
    tasks = {"tasks": {"arc_easy": {"alias": "arc_easy", "acc,none": 0.5, "acc_stderr,none": 0.05}}}
    folder = write_model(tmp_path, "m", {"lm_eval": tasks}, judge=None)
    rows = [
        Row(
            str(number),
            "arc_easy",
            facts={"fields": [["question", f"Question {number}"]], "reference": ["x"]},
            draws=(Draw((Reply(choices=((-0.5, True), (-1.5, False))),)),),
            marks={"score": (float(number),), "acc": (float(number),)},
        )
        for number in range(2)
    ]
    write_rows(folder, "lm_eval", rows)
    report = build_report(tmp_path)
    [part] = index_of(report.html)["parts"]
    assert (part["name"], part["column"]) == ("lm_eval/arc_easy", "lm_eval/arc_easy")
    column = next(one for one in index_of(report.html)["columns"] if one["key"] == part["column"])
    assert column["items"] == part["name"]
    assert marks_of(report, "lm_eval/arc_easy") == {0: [0.0, 1.0]}
    assert len(items_of(report, "lm_eval/arc_easy")[0]["a"]["0"]["choices"]) == 2


def damaged(path: Path, damage: str) -> None:
    lines = path.read_text("utf-8").splitlines(keepends=True)
    if damage == "cut":
        lines[-1] = lines[-1][:-20]
    elif damage == "twice":
        lines.append(lines[-1])
    elif damage == "not a row":
        lines[1] = '{"item_id": 7}\n'
    else:
        lines[0] = json.dumps({**json.loads(lines[0]), "schema": 9}) + "\n"
    path.write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize("damage", ["cut", "twice", "not a row", "newer"])
@pytest.mark.parametrize("exports", [True, False])
def test_a_damaged_records_file_is_named_and_its_exports_are_read(tmp_path: Path, damage: str, exports: bool) -> None:
    folder = write_model(tmp_path, "m", {"mixeval": mixeval_scores(0.75, n=2)})
    rows = [free_form_row("1", "right", 1.0), free_form_row("2", "half", 0.5)]
    path = write_rows(folder, "mixeval", rows)
    if exports:
        write_exports(folder, "mixeval", rows)
    damaged(path, damage)
    report = build_report(tmp_path)
    [fault] = report.faults
    assert str(path) in fault
    assert ("exports instead" in fault) == exports
    assert report.items == (2 if exports else 0)
    if exports:
        assert marks_of(report, "mixeval/free_form") == {0: [1.0, 0.5]}


def test_a_broken_export_leaves_the_figures(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)}, data="mini")
    write_exports(folder, "mt_bench", [mt_bench_row(["a", "b"])])
    (folder / "mt_bench" / "model_judgment.jsonl").write_text('{"question_id": 1}\n', encoding="utf-8")
    report = build_report(tmp_path)
    assert report.models == 1
    assert len(report.faults) == 1
    assert "model_judgment.jsonl" in report.faults[0]
