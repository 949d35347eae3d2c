"""The report: comparable sets, clear winners, packing, and what happens to broken folders."""

from __future__ import annotations

import base64
import csv
import errno
import hashlib
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bench.synthetic_results import write_synthetic
from evalsuite.api import score
from evalsuite.cli import app
from evalsuite.commands.console import answering
from evalsuite.errors import DataError
from evalsuite.files import write_json, write_jsonl
from evalsuite.report.build import build_report
from evalsuite.report.columns import COLUMNS, Figure
from evalsuite.report.item_files import mixeval_rows, mt_bench_rows
from evalsuite.report.packing import packed_marks
from evalsuite.report.page import template_folder
from evalsuite.report.reading import lineage_of, read_results_folder
from evalsuite.report.significance import clear_best, paired_difference, t95
from evalsuite.report.tabs import tabs_of
from evalsuite.report.texts import visible, without_folders
from tests.evalsuite.mixeval_rows import choice_row, free_row, write_rows
from tests.evalsuite.report_results import (
    JUDGE,
    index_of,
    mixeval_scores,
    mt_bench_scores,
    unpack,
    write_free_form,
    write_many_pages,
    write_model,
    write_mt_bench,
)

runner = CliRunner()
OTHER_JUDGE = {"name": "judge-y", "fingerprint": "e" * 64, "methods": {}}


def titles(results: Path) -> list[tuple[str, int]]:
    return [(tab.title, len(tab.members)) for tab in tabs_of(read_results_folder(results).models)]


def test_other_data_limit_or_judge_stand_in_other_tabs_with_the_reason(tmp_path: Path) -> None:
    suites = {"mixeval": mixeval_scores(0.5)}
    write_model(tmp_path, "one", suites)
    write_model(tmp_path, "two", suites)
    write_model(tmp_path, "limited", suites, limit=5)
    write_model(tmp_path, "mini", suites, data="mini")
    write_model(tmp_path, "other", suites, judge=OTHER_JUDGE)
    assert titles(tmp_path) == [
        ("full data · judge judge-x", 2),
        ("full data · judge judge-y", 1),
        ("full data, limit 5 · judge judge-x", 1),
        ("mini data · judge judge-x", 1),
    ]
    reasons = [tab.reason for tab in tabs_of(read_results_folder(tmp_path).models)]
    assert all("Not ranked against the other tabs" in reason for reason in reasons)
    assert "another judge" in reasons[0]
    assert "limit" in reasons[2]


def test_another_version_of_the_data_is_another_tab(tmp_path: Path) -> None:
    suites = {"mixeval": mixeval_scores(0.5)}
    write_model(tmp_path, "a", suites, pins={"mixeval/x": "1"})
    write_model(tmp_path, "b", suites, pins={"mixeval/x": "2"})
    write_model(tmp_path, "c", suites, pins={"alpaca_eval/y": "1"})
    tabs = tabs_of(read_results_folder(tmp_path).models)
    # Of the third one nobody knows which MixEval it was asked.
    assert sorted(tab.members for tab in tabs) == [[0, 2], [1, 2]]
    assert "another version of the benchmark data" in tabs[0].reason


MT_BENCH = {"mt_bench": mt_bench_scores(6.0)}
OPENLLM = {"openllm": {"bbh": {"score": 0.4, "stderr": 0.01, "n": 10, "normalized": 40.0, "unscored": {}}}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            {"suites": {"mixeval": mixeval_scores(0.6)}, "pins": {f"mixeval/2024-06-01/mixeval/{n}": n for n in "ab"}},
            {"suites": {"mixeval": mixeval_scores(0.7)}, "pins": {f"mixeval/2024-08-11/mixeval/{n}": n for n in "ab"}},
        ),
        (
            {"suites": {"mixeval": mixeval_scores(0.6, parser="judge")}},
            {"suites": {"mixeval": mixeval_scores(0.5, parser="rule")}, "judge": None},
        ),
        (
            {"suites": MT_BENCH, "pins": {"mt_bench/question": "q", "mt_bench/reference_gpt4_0125": "1"}},
            {"suites": MT_BENCH, "pins": {"mt_bench/question": "q", "mt_bench/reference_gpt4": "2"}},
        ),
        (
            {"suites": MT_BENCH, "options": {"as_published": True}},
            {"suites": MT_BENCH, "options": {"as_published": False}},
        ),
        (
            {"suites": OPENLLM, "judge": None, "options": {"chat_template_on_openllm": True}},
            {"suites": OPENLLM, "judge": None, "options": {"chat_template_on_openllm": False}},
        ),
    ],
    ids=["data version", "parser", "references", "as published", "chat template"],
)
def test_another_protocol_is_another_tab(tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, written in (("a", one), ("b", other), ("c", one)):
        write_model(tmp_path, name, **written)
    tabs = tabs_of(read_results_folder(tmp_path).models)
    assert [tab.members for tab in tabs] == [[0, 2], [1]]
    assert all("another version" in tab.reason or "another protocol" in tab.reason for tab in tabs)


def test_what_does_not_change_a_suites_figures_keeps_no_model_apart(tmp_path: Path) -> None:
    """Seed and parts, options of other suites, and assets that one of two lacks."""
    options = {"seed": 1, "parts": ["ifeval"], "mixeval_parser": "rule", "as_published": False}
    write_model(tmp_path, "a", MT_BENCH | OPENLLM, pins={"openllm/ifeval": "1"}, options=options)
    other = {"seed": 2, "parts": [], "mixeval_parser": "judge", "as_published": False}
    write_model(tmp_path, "b", MT_BENCH | OPENLLM, pins={"openllm/bbh": "2", "mt_bench/question": "q"}, options=other)
    write_model(tmp_path, "nothing recorded", MT_BENCH)
    assert titles(tmp_path) == [("full data · judge judge-x", 3)]


def test_tabs_that_are_else_alike_say_their_protocol(tmp_path: Path) -> None:
    for parser in ("judge", "rule"):
        write_model(tmp_path, parser, {"mixeval": mixeval_scores(0.5, parser=parser)})
    assert titles(tmp_path) == [
        ("full data · judge judge-x · mixeval parser judge", 1),
        ("full data · judge judge-x · mixeval parser rule", 1),
    ]
    reason = tabs_of(read_results_folder(tmp_path).models)[1].reason
    assert "another protocol (here: mixeval parser rule)" in reason


def test_figures_without_a_judge_stand_in_every_tab_that_fits(tmp_path: Path) -> None:
    part = {"score": 0.4, "stderr": 0.01, "n": 10, "normalized": 40.0, "unscored": {}}
    write_model(tmp_path, "judged", {"mixeval": mixeval_scores(0.5)})
    write_model(tmp_path, "other", {"mixeval": mixeval_scores(0.5)}, judge=OTHER_JUDGE)
    write_model(tmp_path, "lm-eval only", {"openllm": {"bbh": part, "unscored": {}}}, judge=None)
    assert [count for _, count in titles(tmp_path)] == [2, 2]


def tabs_by_name(results: Path, order: Sequence[str], written: dict[str, dict[str, Any]]) -> list[tuple[str, set[str]]]:
    for number, name in enumerate(order):
        write_model(results / "_".join(order), name, **written[name]).rename(results / "_".join(order) / f"{number}")
    models = read_results_folder(results / "_".join(order)).models
    return [(tab.title, {models[place].name for place in tab.members}) for tab in tabs_of(models)]


def test_a_judged_model_stands_in_every_tab_that_fits_whatever_the_order_of_folders(tmp_path: Path) -> None:
    both = MT_BENCH | OPENLLM
    written: dict[str, dict[str, Any]] = {
        "with": {"suites": both, "options": {"chat_template_on_openllm": True}},
        "without": {"suites": both, "options": {"chat_template_on_openllm": False}},
        "mt_bench": {"suites": MT_BENCH},
        "by another": {"suites": MT_BENCH, "judge": OTHER_JUDGE},
    }
    found = [tabs_by_name(tmp_path, order, written) for order in permutations(written)]
    assert all(tabs == found[0] for tabs in found)
    members = sorted(sorted(names) for _, names in found[0])
    assert members == [["by another"], ["mt_bench", "with"], ["mt_bench", "without"]]


def test_two_models_of_one_suite_that_contradict_in_nothing_meet_in_a_tab(tmp_path: Path) -> None:
    """Whatever tabs their other suites make: a tab begins with the models of which most is known."""
    mixeval = {"mixeval": mixeval_scores(0.5, parser="judge")}, {"mixeval": mixeval_scores(0.5, parser="rule")}
    written: dict[str, dict[str, Any]] = {
        "with": {"suites": MT_BENCH | OPENLLM, "options": {"chat_template_on_openllm": True}},
        "without": {"suites": MT_BENCH | OPENLLM, "options": {"chat_template_on_openllm": False}},
        "judge": {"suites": MT_BENCH | mixeval[0]},
        "rule": {"suites": MT_BENCH | mixeval[1]},
        "openllm": {"suites": OPENLLM, "judge": None, "options": {"chat_template_on_openllm": True}},
    }
    found = [tabs_by_name(tmp_path, order, written) for order in permutations(written)]
    assert all(tabs == found[0] for tabs in found)
    members = [names for _, names in found[0]]
    for one, other in (("with", "judge"), ("with", "rule"), ("without", "judge"), ("without", "rule")):
        assert sum({one, other} <= names for names in members) == 1
    assert all("openllm" in names for names in members if "without" not in names)
    assert build_report(tmp_path / "_".join(written)).models == 5


def test_paired_difference_is_the_textbook_one() -> None:
    a, b = np.array([1.0, 0.0, 1.0, np.nan]), np.array([0.0, 0.0, 0.0, 1.0])
    difference = paired_difference(a, b)
    assert difference is not None
    # Differences 1, 0, 1: mean 2/3, sample variance 1/3, standard error sqrt(1/9).
    assert difference.value == pytest.approx(2 / 3)
    assert difference.stderr == pytest.approx(1 / 3)
    assert difference.n == 3
    assert not difference.significant  # 0.667 < 4.303 * 0.333, Student's t with 2 degrees of freedom
    swapped = paired_difference(b, a)
    assert swapped is not None
    assert swapped.value == -difference.value


def test_fewer_than_two_common_items_say_nothing() -> None:
    assert paired_difference(np.array([1.0, np.nan]), np.array([0.0, 1.0])) is None


@pytest.mark.parametrize(("n", "clear"), [(2, False), (5, False), (6, True)])
def test_the_same_difference_on_all_items_is_clear_by_the_sign_test(n: int, clear: bool) -> None:
    """n wins of n have the two-sided p-value 2 / 2^n: 0.0625 for five, 0.03125 for six."""
    good, bad = np.full(n, 0.7), np.full(n, 0.6)
    figures = {0: Figure(0.7, 0.0, n=n), 1: Figure(0.6, 0.0, n=n)}
    assert clear_best(figures, {"mt_bench": {0: good, 1: bad}}, "mt_bench") == (0 if clear else None)


def test_a_few_items_need_a_larger_difference() -> None:
    """Mean 1 and standard error 0.333 over 3 items: t is 3, beyond 1.96 but not beyond 4.303."""
    marks = {"mt_bench": {0: np.array([3.0, 4.0, 4.0]), 1: np.array([2.0, 3.0, 3.0])}}
    marks["mt_bench"][0] += np.array([0.57735, -0.57735, 0.0])
    difference = paired_difference(marks["mt_bench"][0], marks["mt_bench"][1])
    assert difference is not None
    assert difference.value / difference.stderr == pytest.approx(3.0, abs=1e-4)
    assert not difference.significant


def test_two_figures_without_spread_claim_nothing() -> None:
    assert clear_best({0: Figure(1.0, 0.0, n=2), 1: Figure(0.0, 0.0, n=2)}, {}, "") is None
    # Two of two right: Wilson's interval is [0.34, 1], which does not tell it from 0.3.
    few = Figure(1.0, 0.0, (0.342, 1.0), n=2)
    assert clear_best({0: few, 1: Figure(0.3, 0.02, n=500)}, {}, "") is None


@pytest.mark.parametrize("more", [{}, {"ci95": [1.0, 1.0]}])
def test_an_interval_without_a_width_is_not_shown(tmp_path: Path, more: dict[str, Any]) -> None:
    write_model(tmp_path, "m", {"mixeval": {**mixeval_scores(1.0, 0.0, n=2), **more}})
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    cell = re.search(r'<td data-column="mixeval"[^>]*>(.*?)</td>', page, re.DOTALL)
    assert cell is not None
    assert cell[1] == '<span title="n = 2">1.000</span>'


def test_the_page_has_the_quantiles_of_students_t() -> None:
    script = (template_folder() / "data.js").read_text(encoding="utf-8")
    found = re.search(r"const T95 = \[([^\]]*)\]", script)
    assert found is not None
    table = [float(number) for number in found[1].split(",")]
    # Published: Fisher and Yates, Statistical Tables, P = 0.05.
    assert [round(table[df - 1], 3) for df in (1, 2, 5, 10, 20)] == [12.706, 4.303, 2.571, 2.228, 2.086]
    assert table == pytest.approx([t95(df) for df in range(1, len(table) + 1)], abs=1e-6)


@pytest.mark.parametrize(("stderr", "winner"), [(0.01, 0), (0.08, None)])
def test_best_is_marked_only_where_it_is_clear(stderr: float, winner: int | None) -> None:
    figures = {0: Figure(0.6, stderr), 1: Figure(0.5, stderr), 2: Figure(0.1, stderr)}
    assert clear_best(figures, {}, "") == winner


def test_items_decide_where_they_are_there() -> None:
    figures = {0: Figure(0.6, 0.3), 1: Figure(0.5, 0.3)}
    marks = {"mixeval/free_form": {0: np.tile([1.0, 1.0, 0.0], 30), 1: np.tile([0.9, 0.9, 0.0], 30)}}
    assert clear_best(figures, marks, "mixeval/") == 0
    assert clear_best(figures, {}, "mixeval/") is None


def test_a_tie_and_a_single_model_have_no_winner() -> None:
    assert clear_best({0: Figure(0.5, 0.0), 1: Figure(0.5, 0.0)}, {}, "") is None
    assert clear_best({0: Figure(0.5, 0.0)}, {}, "") is None


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
    shown = mt_bench_rows(folder / "mt_bench", {})
    assert [row.value for row in shown] == [8.0, None, 3.0]
    assert [row.answer["judge"][0]["mark"] for row in shown] == ["8 of 10", "unscored: no_rating", "3 of 10"]
    scored = score("mt_bench", folder / "mt_bench")
    assert scored["score"] == 5.5  # of 8 and 3
    assert scored["unscored"] == {"no_rating": 1}


def test_a_recorded_verdict_of_mixeval_counts_as_it_does_in_the_figures(tmp_path: Path) -> None:
    """Where a judgment holds no verdict MixEval writes one that it drew at random."""
    free = [("[[1.0]]", 1.0), ("I cannot say.", 0.0), ("[[0.5]]", 0.5), ("[[0.0]]", 7), ("[[1.0]]", None)]
    choices = [("[[B]]", "B"), ("None of them.", "A"), ("[[A]]", "A"), ("[[B]]", "Z")]
    rows = [
        free_row(str(n), response="a", judge_response=words, judge_score=own) for n, (words, own) in enumerate(free)
    ]
    rows += [
        choice_row(str(n), response="a", judge_response=words, judge_option=own)
        for n, (words, own) in enumerate(choices)
    ]
    rows += [free_row("none", response=None, judge_score=None)]
    path = write_rows(tmp_path / "judged.jsonl", rows)
    shown = mixeval_rows(path, None)
    # The right option of a row is B.
    assert [row.value for row in shown] == [1.0, None, 0.5, None, None, 1.0, None, 0.0, None, None]
    reasons = [row.answer["unscored"] for row in shown if row.value is None]
    assert reasons == ["no_rating", "rating_out_of_range", "no_rating", "no_option", "no_option", "no_answer"]
    assert [row.answer["judge"][0]["mark"] for row in shown[:2]] == [1.0, "unscored: no_rating"]
    assert shown[5].answer["judge"][0]["mark"] == "B"
    assert score("mixeval", path)["unscored"] == Counter(reasons)


def test_no_text_of_gpqa_is_in_the_page(tmp_path: Path) -> None:
    part = {"score": 0.4, "stderr": 0.01, "n": 1, "normalized": 40.0, "unscored": {}}
    folder = write_model(tmp_path, "m", {"openllm": {"gpqa": part, "unscored": {}}}, judge=None)
    sample = {"doc_id": 0, "doc": {"Question": "CANARY-1"}, "target": "CANARY-2", "arguments": {"x": "CANARY-3"}}
    sample |= {"resps": [["CANARY-4"]], "filtered_resps": ["CANARY-5"], "acc_norm": 1.0, "metrics": ["acc_norm"]}
    write_jsonl(folder / "openllm" / "samples_leaderboard_gpqa_main.jsonl", [sample])
    report = build_report(tmp_path)
    page = report.html.read_text(encoding="utf-8")
    blocks = re.findall(r'id="(b\d+|index)"', page)
    everything = page.encode() + b"".join(unpack(page, block) for block in blocks)
    assert b"CANARY" not in everything
    assert report.items == 1


def test_texts_beyond_the_limit_go_into_pages_beside(tmp_path: Path) -> None:
    write_synthetic(tmp_path, 3, 300)
    limit = 500_000
    report = build_report(tmp_path, limit_bytes=limit)
    assert report.html_bytes < limit
    assert report.pages
    beside = [
        block for part in index_of(report.html)["parts"] for block in part["blocks"] if block[2].endswith(".html")
    ]
    assert {tmp_path / block[2] for block in beside} == set(report.pages)
    assert "do not fit into this file" in report.html.read_text(encoding="utf-8")
    own = index_of(report.pages[0])
    assert own["home"] == "../leaderboard.html"
    items = json.loads(unpack(report.pages[0].read_text(encoding="utf-8"), own["parts"][0]["blocks"][0][2]))
    assert len(items[0]["a"]) == 3
    smaller = build_report(tmp_path, limit_bytes=50_000_000)
    assert not smaller.pages
    assert not (tmp_path / "leaderboard_items").exists()


def test_every_item_page_knows_where_the_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = write_many_pages(tmp_path, monkeypatch)
    assert len(report.pages) > 2
    for page in report.pages:
        part = index_of(page)["parts"][0]
        ends = [(first, last) for first, last, _ in part["blocks"]]
        assert [item for first, last in ends for item in range(first, last)] == list(range(part["n"]))
        named = {block for *_, block in part["blocks"] if block.endswith(".html")}
        assert named == {other.name for other in report.pages if other != page}


def test_only_pages_of_an_earlier_report_are_removed(tmp_path: Path) -> None:
    results = tmp_path / "results"
    write_synthetic(results, 3, 300)
    folder, foreign = tmp_path / "data_items", {"notes.txt": "mine", "page-1.html": "<title>my page</title>"}
    folder.mkdir()
    for name, text in foreign.items():
        (folder / name).write_text(text, encoding="utf-8")
    assert build_report(results, tmp_path / "data.html", limit_bytes=500_000).pages
    assert not build_report(results, tmp_path / "data.html", limit_bytes=50_000_000).pages
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == foreign


@pytest.mark.parametrize("name", ["data.csv", "data_items/{page}"])
def test_a_file_that_no_report_wrote_is_never_replaced(tmp_path: Path, name: str) -> None:
    results = tmp_path / "results"
    write_synthetic(results, 3, 300)
    page = build_report(results, limit_bytes=500_000).pages[0].name
    foreign = tmp_path / name.format(page=page)
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("years,of,work\n", encoding="utf-8")
    words = ["report", "--results", str(results), "--out", str(tmp_path / "data.html"), "--max-mb", "0.5"]
    done = runner.invoke(app, words)
    assert done.exit_code == 2
    assert str(foreign) in done.stderr.replace("\n", "")
    assert foreign.read_text(encoding="utf-8") == "years,of,work\n"
    assert not (tmp_path / "data.html").exists()


def test_the_policy_allows_the_inlined_scripts_by_hash_and_nothing_else(tmp_path: Path) -> None:
    write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)})
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = policy[1].replace("&#39;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    assert set(re.findall(r"'sha256-([^']*)'", rules.split("style-src")[0])) == hashes
    assert "default-src 'none'" in rules
    assert "unsafe" not in rules
    assert "http" not in rules
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)


def test_vendored_libraries_are_the_pinned_ones() -> None:
    folder = template_folder() / "vendor"
    rows = re.findall(r"\| `([^`]+\.js)` \|.*\| ([0-9a-f]{64}) \|", (folder / "README.md").read_text(encoding="utf-8"))
    assert {name for name, _ in rows} == {path.name for path in folder.glob("*.js")}
    for name, sha256 in rows:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256


def test_names_are_escaped_and_hidden_characters_shown(tmp_path: Path) -> None:
    write_model(tmp_path, "<script>x</script>\u202eevil", {"mt_bench": mt_bench_scores(7.0)})
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    assert "<script>x" not in page
    assert "⟦U+202E⟧evil" in page
    assert "\u202e" not in page.split("<script>")[0]


def test_paths_of_the_machine_stay_at_home(tmp_path: Path) -> None:
    write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)})
    report = build_report(tmp_path)
    assert "somebody" not in json.dumps(index_of(report.html))
    assert without_folders({"a": ["/home/x/ckpt", "http://host/v1", "1/2"]}) == {
        "a": ["…/ckpt", "http://host/v1", "1/2"]
    }


def test_visible_marks_every_direction_character() -> None:
    assert visible("a\u2066b\u200fc\x00d\ne") == "a⟦U+2066⟧b⟦U+200F⟧c⟦U+0000⟧d\ne"


def test_a_missing_part_is_a_dash_with_its_reason(tmp_path: Path) -> None:
    openllm = {"bbh": None, "unscored": {"bbh": "the data could not be had"}}
    write_model(tmp_path, "m", {"openllm": openllm, "mt_bench": mt_bench_scores(7.0)})
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    assert '<abbr title="the data could not be had">–</abbr>' in page
    assert "<b>BBH</b>: the data could not be had" in page
    assert "<b>MixEval</b>: mixeval was not run" in page


def test_nothing_right_is_no_certainty() -> None:
    part = {"score": 0.0, "stderr": 0.0, "n": 10, "unscored": {}}
    ifeval = next(column for column in COLUMNS if column.key == "ifeval")
    assert ifeval.read({"openllm": {"ifeval": part}}).ci95 == pytest.approx((0.0, 0.277533), abs=1e-6)
    some = ifeval.read({"openllm": {"ifeval": {**part, "score": 0.5, "stderr": 0.1}}})
    assert some.ci95 == pytest.approx((0.304, 0.696), abs=1e-3)


def test_the_csv_holds_the_same_figures_unrounded(tmp_path: Path) -> None:
    write_model(tmp_path, "=cmd()", {"mt_bench": mt_bench_scores(7.123456)}, training={"base": "L8B", "dgm": "Q72"})
    report = build_report(tmp_path)
    with report.csv.open(encoding="utf-8", newline="") as lines:
        row = next(csv.DictReader(lines))
    assert row["model"] == "'=cmd()"
    assert float(row["mt_bench"]) == 7.123456
    assert row["mt_bench_n"] == "2"
    assert (row["base"], row["dgm"]) == ("L8B", "Q72")
    assert row["bbh"] == ""
    assert row["bbh_missing"] == "openllm was not run"


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"base_model": "L8B", "dgm": "Q72", "n_conversations": 500}, ("L8B", "Q72", 500)),
        ({"recipe": {"base": "L8B"}, "dgm": ["Q72", "C32"]}, ("L8B", "Q72, C32", None)),
        (None, ("S", "D", None)),
    ],
)
def test_lineage_comes_from_the_manifest_else_from_the_name(training: Any, expected: tuple[Any, ...]) -> None:
    found = lineage_of("S : D", {"model": {"training": training}})
    assert (found.base, found.dgm, found.size) == expected


def test_scaling_lines_need_one_series_with_two_sizes(tmp_path: Path) -> None:
    for size in (50_000, 100_000):
        training = {"base": "L8B", "dgm": "Q72", "n_conversations": size}
        write_model(tmp_path, f"m{size}", {"mt_bench": mt_bench_scores(7.0 + size / 1e6)}, training=training)
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    assert "chart-1-scaling-mt_bench" in page
    assert "chart-1-scaling-bbh" not in page


def test_an_empty_folder_gives_a_page_that_says_what_to_run(tmp_path: Path) -> None:
    done = runner.invoke(app, ["report", "--results", str(tmp_path)])
    assert done.exit_code == 0
    assert "evalsuite run demo" in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")


def test_no_folder_is_one_sentence_and_exit_2(tmp_path: Path) -> None:
    done = runner.invoke(app, ["report", "--results", str(tmp_path / "nothing")])
    assert done.exit_code == 2
    assert "does not exist" in done.stderr
    with pytest.raises(DataError):
        build_report(tmp_path / "nothing")


@pytest.mark.parametrize(
    "content",
    [
        '{"schema": 1, "suites": {"openllm": {"unscored": [1]}}, "data": "full", "model": {"name": "x"}}',
        '{"schema": 1, "suites": {}, "judge": "gpt-4", "data": "full", "model": {"name": "x"}}',
        "{",
        "[]",
        '{"schema": 0, "suites": {}}',
        '{"schema": 1, "suites": {}, "model": {}}',
        '{"schema": 1, "suites": {"mixeval": 3}, "data": "full", "model": {"name": "x"}}',
    ],
)
def test_broken_scores_are_named_skipped_and_exit_1(tmp_path: Path, content: str) -> None:
    write_model(tmp_path, "good", {"mt_bench": mt_bench_scores(7.0)})
    (tmp_path / "bad-00000000").mkdir()
    (tmp_path / "bad-00000000" / "scores.json").write_text(content, encoding="utf-8")
    done = runner.invoke(app, ["report", "--results", str(tmp_path), "--json"])
    assert done.exit_code == 1
    assert "bad-00000000" in done.stderr
    assert json.loads(done.stdout)["models"] == 1
    assert "bad-00000000" in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_looked_into_is_left_out_by_name(tmp_path: Path) -> None:
    """A link to itself fails like a closed folder, for the superuser too."""
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "scores.json").symlink_to("scores.json")
    write_model(tmp_path, "m", {"mixeval": mixeval_scores(0.5)})
    report = build_report(tmp_path)
    assert report.models == 1
    assert [fault for fault in report.faults if str(closed / "scores.json") in fault]
    done = runner.invoke(app, ["report", "--results", str(tmp_path)])
    assert done.exit_code == 1
    assert "left out" in done.stderr
    for other in tmp_path.glob("m-*/scores.json"):
        other.unlink()
    alone = runner.invoke(app, ["report", "--results", str(tmp_path)])
    assert alone.exit_code == 1
    assert "no results yet" not in alone.stderr


def test_a_closed_folder_anywhere_ends_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, answering():
        raise PermissionError(errno.EACCES, "Permission denied", "somewhere/file")
    assert left.value.exit_code == 2
    assert capsys.readouterr().err == (
        "evalsuite: cannot read somewhere/file: Permission denied; change its access rights\n"
    )


def test_a_broken_items_file_leaves_the_figures(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)})
    write_mt_bench(folder, ["a", "b"])
    (folder / "mt_bench" / "model_judgment.jsonl").write_text('{"question_id": 1}\n', encoding="utf-8")
    report = build_report(tmp_path)
    assert report.models == 1
    assert len(report.faults) == 1
    assert "model_judgment.jsonl" in report.faults[0]


def test_half_a_surrogate_pair_is_no_reason_to_lose_a_file(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)})
    write_mt_bench(folder, ["a \ud83d b", "c"])
    report = build_report(tmp_path)
    assert not report.faults
    assert report.items == 1


def test_comparisons_and_judge_cards_are_shown(tmp_path: Path) -> None:
    write_model(tmp_path, "m", {"mt_bench": mt_bench_scores(7.0)})
    pair = {"a": "m", "b": "k", "wins_a": 3, "wins_b": 1, "ties": 0, "unscored": 0, "rate_a": 0.75, "rate_b": 0.25}
    write_json(
        tmp_path / "comparisons" / "first" / "preferences.json",
        {
            "models": ["m", "k"],
            "judge": {"name": "judge-x"},
            "n_prompts": 4,
            "pairs": [pair],
            "flips": [],
            "ranking": [],
        },
    )
    write_json(tmp_path / "judges" / "judge-x-ffffffff" / "card.json", {"judge": {"fingerprint": JUDGE["fingerprint"]}})
    (tmp_path / "comparisons" / "broken").mkdir()
    (tmp_path / "comparisons" / "broken" / "preferences.json").write_text("[]", encoding="utf-8")
    report = build_report(tmp_path)
    assert len(report.faults) == 1
    page = report.html.read_text(encoding="utf-8")
    assert "Preferences: first" in page
    assert "75.0" in page
    index = index_of(report.html)
    assert list(index["cards"]) == ["judge-x-ffffffff"]
    assert index["comparisons"][0]["judge"] == "judge-x"
