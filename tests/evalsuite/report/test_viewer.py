"""What the page shows of a results folder: order, ranks, hidden columns, intervals, no path of the machine."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalsuite.files import write_json, write_jsonl
from evalsuite.records.rows import Draw, Reply, Row
from evalsuite.report.build import Report, build_report
from evalsuite.report.chart import round_ticks
from evalsuite.report.lines import line_chart
from evalsuite.report.packing import packed_json
from evalsuite.report.ranks import average_parts, ranks_of
from evalsuite.report.significance import column_tests
from evalsuite.report.svg import COLOURS
from evalsuite.report.texts import shorten, without_paths
from evalsuite.suites.figures import Column, Figure, scored_figure
from evalsuite.suites.harness.pages import answer_of, question_of, right_option
from tests.evalsuite.report_results import (
    free_form_row,
    index_of,
    mixeval_scores,
    mt_bench_scores,
    unpack,
    write_free_form,
    write_model,
    write_rows,
)

ALPACA = {"win_rate": 40.0, "standard_error": 1.0, "lc_win_rate": None, "n_total": 100, "unscored": {}}


def everything_in(report: Report) -> str:
    """Return all that a report's file holds: its HTML, its embedded blocks and its CSV."""
    page = report.html.read_text(encoding="utf-8")
    blocks = [unpack(page, block).decode("utf-8", "replace") for block in re.findall(r'id="(b\d+|index)"', page)]
    return "\n".join([page, *blocks, report.csv.read_text(encoding="utf-8")])


def test_no_absolute_path_of_the_machine_leaves_the_folder(tmp_path: Path) -> None:
    results = tmp_path / "home of ada" / "results"
    cache = tmp_path / "home of ada" / "hub"
    reason = (
        f"data not found. Looked in: {cache}/models--x/snapshots, /mnt/private/a.json (see https://host.example/v1/x)"
    )
    openllm = {"bbh": None, "unscored": {"bbh": reason}}
    write_model(
        results, "m", {"openllm": openllm, "mt_bench": mt_bench_scores(7.0)}, options={"cache": f"--x={cache}/y"}
    )
    (results / "bad").mkdir()
    (results / "bad" / "scores.json").write_text("{", encoding="utf-8")
    (results / "comparisons" / "c").mkdir(parents=True)
    pair = {"a": "m", "b": "n", "wins_a": 1, "wins_b": 0, "ties": 0, "unscored": 0, "rate_a": 1.0, "rate_b": 0.0}
    notes = [f"answers were read from {cache}/answers.jsonl"]
    write_json(
        results / "comparisons" / "c" / "preferences.json", {"models": ["m", "n"], "pairs": [pair], "notes": notes}
    )
    verdict = {"prompt_id": "1", "prompt": "P", "a": "m", "b": "n", "winner": None, "answer_a": "see /usr/bin/python"}
    failed = {"unscored": "server_error", "detail": f"see {cache}/vllm.log"}
    verdict |= {"unscored": {"reason": "server_error", "detail": f"log in {cache}/vllm.log"}, "a_first": failed}
    write_jsonl(results / "comparisons" / "c" / "verdicts.jsonl", [verdict])
    report = build_report(results)
    assert str(results) in report.faults[0]  # at the terminal the whole path helps
    text = everything_in(report)
    assert "snapshots" in text
    assert "answers.jsonl" in text
    assert "hub/vllm.log" in text
    assert "/usr/bin/python" in text  # what a model wrote stays as it is
    assert "https://host.example/v1/x" in text
    for private in (str(tmp_path), "/mnt/private", "/home/somebody", str(Path.home()) + "/"):
        assert private not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file:///home/ada/x.json is broken", "…/x.json is broken"),
        ("nas:/srv/data/x", "nas:…/x"),
        (r"C:\Users\ada\x.json", "…/x.json"),
        ("rated 7/10, and/or http://127.0.0.1:8000/v1/chat", "rated 7/10, and/or http://127.0.0.1:8000/v1/chat"),
    ],
)
def test_paths_are_cut_in_the_middle_of_sentences(text: str, expected: str) -> None:
    assert without_paths(text) == expected


def test_a_board_with_one_suite_shows_that_suite_first(tmp_path: Path) -> None:
    write_model(tmp_path, "a", {"alpaca_eval": ALPACA})
    write_model(tmp_path, "b", {"alpaca_eval": {**ALPACA, "win_rate": 60.0}})
    page = build_report(tmp_path).html.read_text(encoding="utf-8")
    heads = re.findall(r'<th scope="col" data-column="([^"]+)"[^>]*>', page)
    shown = [
        key
        for key, tag in zip(heads, re.findall(r'<th scope="col" data-column=[^>]*>', page), strict=True)
        if '"off"' not in tag
    ]
    assert shown == ["model", "rank", "alpaca_win_rate", "n"]
    assert re.search(r'data-column="alpaca_win_rate"[^>]* aria-sort="descending"', page)
    assert re.findall(r'class="name"[^>]*><bdi>(\w)</bdi>', page) == ["b", "a"]


COLUMN = Column("c", "C", "", "s", lambda _: Figure(), items="p")


def test_models_that_the_paired_test_cannot_tell_apart_share_a_rank() -> None:
    rng = np.random.default_rng(0)
    shared = rng.integers(0, 2, 400).astype(float)
    best, alike = np.ones(400), shared.copy()
    alike[0] = 1 - alike[0]
    figures = [{"c": Figure(float(one.mean()), 0.02, n=400)} for one in (shared, best, alike)]
    averages = {f"average.{name}": Figure() for name in ("paper", "nine", "leaderboard_v2")}
    cells = {number: one["c"] for number, one in enumerate(figures)}
    tests = {"c": column_tests(cells, {"p": {0: shared, 1: best, 2: alike}}, {}, "p")}
    ranks = ranks_of([0, 1, 2], [one | averages for one in figures], [COLUMN], tests)
    assert ranks["c"] == {0: (2, 3), 1: (1, 1), 2: (2, 3)}


def test_the_averages_are_tested_on_the_columns_that_they_are_made_of() -> None:
    assert set(average_parts()["nine"]) - set(average_parts()["paper"]) == {"mt_bench", "alpaca_eval"}
    assert "leaderboard_v2" not in average_parts()


def test_intervals_of_shares_are_wilsons_and_stay_on_the_scale() -> None:
    """Wilson 1927 for 1 of 6: 0.0301 to 0.5635; the normal interval reaches below 0."""
    share = 1 / 6
    figure = scored_figure({"x": share, "e": math.sqrt(share * (1 - share) / 5), "n": 6}, "x", "e", "n")
    assert figure.method == "Wilson"
    assert figure.ci95 == pytest.approx((0.0301, 0.5635), abs=1e-4)
    percent = scored_figure(
        {"x": 100 * share, "e": 100 * math.sqrt(share * (1 - share) / 5), "n": 6}, "x", "e", "n", top=100
    )
    assert percent.ci95 == pytest.approx((3.01, 56.35), abs=1e-2)
    assert scored_figure({"x": 7.0, "e": 0.5}, "x", "e", top=None).method == "normal"


BBH = {
    "fields": [["name", "two_statements"], ["input", "Is it so?\nOptions:\n(A) yes\n(B) no"], ["target", "(B)"]],
    "reference": ["(B)"],
}


def test_a_question_of_lm_eval_is_the_question_and_its_right_choice_is_known() -> None:
    page = question_of(BBH)
    assert page["messages"] == ["Is it so?\nOptions:\n(A) yes\n(B) no"]
    assert (page["options"], page["right"]) == (["(A) yes", "(B) no"], 1)
    assert page["more"] == [["name", "two_statements"], ["target", "(B)"]]
    fixed = question_of({"fields": [["input", "not True is"]], "reference": ["False"]}, ["False", "True"])
    assert (fixed["options"], fixed["right"]) == (["False", "True"], 0)
    listed = question_of(
        {"fields": [["narrative", "N"], ["question", "Who?"], ["choices", "['Ann', 'Bo']"]], "reference": ["1"]}
    )
    assert (listed["fields"], listed["options"], listed["right"]) == ([["narrative", "N"]], ["Ann", "Bo"], 1)


@pytest.mark.parametrize(
    ("target", "place"), [("(B)", 1), ("B", 1), ("1", 1), ("two", 1), ("Z", None), ("7", None), ("", None)]
)
def test_a_target_names_its_option_by_text_place_or_letter(target: str, place: int | None) -> None:
    assert right_option([target], ["one", "two"]) == place


def test_what_was_read_from_an_answer_is_shown() -> None:
    row = Row("1", facts={"filtered": ["42"]}, draws=(Draw((Reply("It is 42."),)),))
    assert answer_of(row)["extracted"] == "42"
    assert answer_of(Row("1", draws=(Draw((Reply(choices=((-2.0, False), (-1.0, True))),)),)))["extracted"] == "B"


def test_thoughts_tokens_and_reasons_are_there_to_filter_by(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", {"mixeval": mixeval_scores(0.5, n=3)})
    thinking = Reply("8", thought="hm", thought_tokens=30, answer_tokens=2, thought_closed=True, finish="length")
    row = free_form_row("1", "8", 1.0)
    rows = [Row(**{**{f: getattr(row, f) for f in row.__struct_fields__}, "draws": (Draw((thinking,)),)})]
    write_rows(folder, "mixeval", [*rows, free_form_row("2", "x", None), free_form_row("3", "y", 0.0)])
    report = build_report(tmp_path)
    [part] = index_of(report.html)["parts"]
    assert part["tokens"] == {"0": [1, 30, 2]}
    page = report.html.read_text(encoding="utf-8")
    codes = {name: [*unpack(page, layout["id"])] for name, layout in part["facts"].items()}
    assert part["facts"]["flags"]["levels"] == [7]
    assert codes["flags"] == [0, 255, 255]
    assert part["facts"]["unscored"]["levels"] == ["no_rating"]
    assert codes["unscored"] == [255, 0, 255]
    item = json.loads(unpack(page, part["blocks"][0][2]))[0]
    expected: dict[str, Any] = {"thought": "hm", "thought_tokens": 30, "tokens": 2, "closed": True, "finish": "length"}
    assert item["a"]["0"]["replies"] == [expected]


def test_names_keep_their_ends_and_ticks_are_round() -> None:
    assert shorten("llama-3.1-8b-instruct-rewild-250k", 20) == "llama-3.1…rewild-250k"[:9] + "…" + "ewild-250k"
    assert round_ticks(0.21, 0.902) == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert round_ticks(3.21, 8.03) == [2.0, 4.0, 6.0, 8.0, 10.0]


def test_many_lines_are_drawn_apart_with_their_names_and_colours() -> None:
    series = {f"B{base} : G{dgm}": [(50_000.0, 0.1 * dgm), (100_000.0, 0.2)] for base in range(2) for dgm in range(6)}
    groups = {name: name.partition(" : ")[0] for name in series}
    chart = line_chart("k", "T", "", ("a", "b", "c"), series, 3, groups=groups)
    drawings = str(chart.drawing).split("<svg")[1:]
    assert len(drawings) == 2
    for drawing in drawings:
        assert len(set(re.findall(r'<polyline[^>]* stroke="(#\w+)"', drawing))) == 6
        assert all(f">G{dgm}<" in drawing for dgm in range(6))
        assert ">b</text>" in drawing, "the axis has its name"


def test_colours_of_lines_are_seen_on_light_and_dark_paper() -> None:
    """Contrast of at least 3:1 (WCAG 2.2, 1.4.11) on both papers."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for paper in ("#ffffff", "#1b1f24"):
        for colour in COLOURS:
            light, dark = sorted((luminance(paper), luminance(colour)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, (paper, colour)


def test_packed_facts_of_too_many_texts_are_left_out(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "m", {"mixeval": mixeval_scores(0.5, n=3)})
    write_free_form(folder, [(str(number), "x" * number, 1.0) for number in range(3)])
    assert index_of(build_report(tmp_path).html)["parts"][0]["facts"] == {}
    assert packed_json([])
