"""Comparable sets: which models stand in a tab together, and why others do not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from evalsuite.report.build import build_report
from evalsuite.report.tabs import labels_of, slugs_of, tabs_of
from evalsuite.results.reading import read_results_folder
from tests.evalsuite.report_results import mixeval_scores, mt_bench_scores, write_model

OTHER_JUDGE = {"name": "judge-y", "fingerprint": "e" * 64, "methods": {"mt_bench": "single_answer_rating_1_to_10"}}


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
    # Which MixEval the third one answered is unknown.
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


def test_tabs_that_are_otherwise_alike_name_their_protocol(tmp_path: Path) -> None:
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


def by_two_judges(results: Path) -> Path:
    """Write a model whose answers to MT-Bench two judges rated 7 and 3."""
    judged = {"judge": OTHER_JUDGE, "suites": {"mt_bench": mt_bench_scores(3.0)}, "average": {}}
    return write_model(results, "m", {"mt_bench": mt_bench_scores(7.0)} | OPENLLM, judged=[judged])


def test_a_folder_that_two_judges_judged_stands_in_a_tab_of_each(tmp_path: Path) -> None:
    folder = by_two_judges(tmp_path)
    models = read_results_folder(tmp_path).models
    assert sorted(titles(tmp_path)) == [("full data · judge judge-x", 1), ("full data · judge judge-y", 1)]
    assert [(model.judge.name, model.suites["mt_bench"]["score"]) for model in models if model.judge] == [
        ("judge-x", 7.0),
        ("judge-y", 3.0),
    ]
    assert all(model.suites["openllm"]["bbh"]["score"] == 0.4 for model in models)
    assert slugs_of(models) == [folder.name, f"{folder.name}@eeeeeeee"]
    assert labels_of(models) == ["m (judge judge-x)", "m (judge judge-y)"]


def test_two_variants_of_a_model_are_two_rows_of_a_tab(tmp_path: Path) -> None:
    write_model(tmp_path, "m", MT_BENCH)
    write_model(tmp_path, "m", MT_BENCH, variant="seed-3")
    models = read_results_folder(tmp_path).models
    assert [tab.members for tab in tabs_of(models)] == [[0, 1]]
    assert labels_of(models) == ["m", "m (seed-3)"]


def test_models_of_one_name_are_listed_with_their_folders(tmp_path: Path) -> None:
    for _ in range(2):
        write_model(tmp_path, "m", MT_BENCH)
    models = read_results_folder(tmp_path).models
    assert labels_of(models) == ["m (00000000)", "m (00000001)"]
