"""The suite lm_eval: any of lm-eval's tasks by name, with columns, lines, items and recorded files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lm_eval.tasks
import pytest

from evalsuite.config import read_config
from evalsuite.errors import DataError, UsageError
from evalsuite.records.rows import Header
from evalsuite.results.variants import variant_settings
from evalsuite.serving.sampler import Sampler
from evalsuite.suites.harness.run import load_tasks
from evalsuite.suites.harness.suite import LmEvalOptions, LmEvalTasks, LmEvalTasksOptions
from evalsuite.suites.openllm import suite as openllm
from evalsuite.suites.registry import options_of, parse_suite
from evalsuite.suites.repeats import scored_draws
from evalsuite.suites.types import WholeRun
from tests.evalsuite.toy_lm import ToyServer, loop_in_a_thread

pytestmark = [
    # swig-built modules that lm-eval's imports pull in
    pytest.mark.filterwarnings("ignore:builtin type .* has no __module__ attribute"),
]

SUITE = LmEvalTasks()
MINI_FOLDER = Path(openllm.__file__).parent / "mini"
HELLASWAG = {
    "alias": "hellaswag", "sample_len": 4,
    "acc,none": 0.5, "acc_stderr,none": 0.25, "acc_norm,none": 1.0, "acc_norm_stderr,none": 0.0,
}  # fmt: skip
GSM8K = {
    "alias": "gsm8k", "sample_len": 2,
    "exact_match,strict-match": 0.0, "exact_match_stderr,strict-match": "N/A",
    "exact_match,flexible-extract": 0.5, "exact_match_stderr,flexible-extract": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def run() -> Iterator[WholeRun]:
    loaded = load_tasks(["mini_bbh", "mini_math"], MINI_FOLDER)
    with loop_in_a_thread() as loop:
        yield SUITE.run_whole(loaded, ToyServer(), loop, LmEvalOptions(limit=2))


def header_of(document: Any) -> Header:
    return Header("lm_eval", 0, document=document)


def scores(**rows: Any) -> dict[str, Any]:
    return SUITE.score(header_of({"results": rows}), ())


def write_recorded(folder: Path, samples: dict[str, list[dict[str, Any]]], **rows: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps({"results": rows}))
    for task, own in samples.items():
        (folder / f"samples_{task}.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in own))
    return folder


def test_tasks_have_to_be_named() -> None:
    with pytest.raises(UsageError, match="lm_eval needs tasks"):
        parse_suite("lm_eval")
    assert parse_suite("lm_eval:hellaswag,gsm8k").parts == ("hellaswag", "gsm8k")


def test_a_run_has_rows_lines_and_columns_for_every_task(run: WholeRun) -> None:
    figures = SUITE.score(header_of(run.document), run.rows)
    assert figures["tasks"].keys() == {"mini_bbh", "mini_bbh_two_statements", "mini_bbh_shelf_order", "mini_math"}
    assert (figures["unscored"], figures["documents"]["n"]) == ({}, 6)
    assert [row.part for row in run.rows[::2]] == ["mini_bbh_two_statements", "mini_bbh_shelf_order", "mini_math"]
    lines = {line.suite: line for line in SUITE.lines("lm_eval", figures)}
    assert lines.keys() == {
        "mini_bbh acc_norm",
        "mini_bbh_two_statements acc_norm",
        "mini_bbh_shelf_order acc_norm",
        "mini_math exact_match",
    }
    assert lines["mini_math exact_match"].n == "2"
    columns = {column.key: column for column in SUITE.columns({"lm_eval": [figures]})}
    assert [column.title for column in columns.values() if column.main] == [
        "mini_math exact_match",
        "mini_bbh acc_norm",
    ]
    assert columns["lm_eval/mini_math"].figure(figures).n == 2


def test_the_items_of_a_task_belong_to_the_column_of_its_main_metric(run: WholeRun) -> None:
    header = header_of(run.document)
    figures = SUITE.score(header, run.rows)
    columns = {column.items: column for column in SUITE.columns({"lm_eval": [figures]}) if column.items}
    for task in ("mini_math", "mini_bbh_shelf_order"):
        facts = SUITE.report_part("lm_eval", task)
        assert columns[f"lm_eval/{task}"].key == facts.column
        marks = [SUITE.mark(row, header).marks[facts.metric][0] for row in run.rows if row.part == task]
        assert sum(mark or 0 for mark in marks) / len(marks) == columns[f"lm_eval/{task}"].figure(figures).value


def test_every_metric_has_a_line_with_its_error_and_count() -> None:
    lines = list(SUITE.lines("lm_eval", scores(hellaswag=HELLASWAG, gsm8k=GSM8K)))
    assert [(*line[:3], line.n) for line in lines] == [
        ("hellaswag acc", "0.5000", "± 0.2500", "4"),
        ("hellaswag acc_norm", "1.0000", "± 0.0000", "4"),
        ("gsm8k exact_match (strict-match)", "0.0000", "", "2"),
        ("gsm8k exact_match (flexible-extract)", "0.5000", "± 0.5000", "2"),
    ]


def test_columns_follow_the_data_of_all_models() -> None:
    models = [scores(hellaswag=HELLASWAG), scores(gsm8k=GSM8K, wikitext={"word_perplexity,none": 12.5})]
    columns = {column.key: column for column in SUITE.columns({"lm_eval": models})}
    assert {key: (column.title, column.items, column.top) for key, column in columns.items()} == {
        "lm_eval/hellaswag": ("hellaswag acc", "lm_eval/hellaswag", 1.0),
        "lm_eval/hellaswag/acc_norm": ("hellaswag acc_norm", "", 1.0),
        # A document's metrics are those of the last filter.
        "lm_eval/gsm8k/exact_match/strict-match": ("gsm8k exact_match (strict-match)", "", 1.0),
        "lm_eval/gsm8k": ("gsm8k exact_match (flexible-extract)", "lm_eval/gsm8k", 1.0),
        "lm_eval/wikitext": ("wikitext word_perplexity", "lm_eval/wikitext", 100.0),
    }
    figure = columns["lm_eval/hellaswag"].figure(models[0])
    assert (figure.value, figure.stderr, figure.n) == (0.5, 0.25, 4)
    # Wilson's lower end for 4 of 4.
    certain = columns["lm_eval/hellaswag/acc_norm"].figure(models[0]).ci95
    assert certain == pytest.approx((4 / (4 + 1.959963984540054**2), 1.0))
    assert columns["lm_eval/hellaswag"].figure(models[1]).reason == "lm_eval:hellaswag was not run"
    assert SUITE.columns({}) == []


def test_recorded_results_are_read_as_far_as_they_are_asked_for(tmp_path: Path) -> None:
    sample = {"doc_id": 0, "doc": {"q": "1?"}, "target": "1", "resps": [["1"]], "filtered_resps": ["1"]}
    samples = {"gsm8k": [{**sample, "filter": "flexible-extract", "metrics": ["exact_match"], "exact_match": 1.0}]}
    folder = write_recorded(tmp_path, samples, hellaswag=HELLASWAG, gsm8k=GSM8K)
    recorded = SUITE.read_peer(folder, LmEvalOptions(parts=("gsm8k",)))
    assert [(row.part, row.item_id, row.marks) for row in recorded.rows] == [("gsm8k", "0", {"exact_match": (1.0,)})]
    assert SUITE.score(recorded.header, recorded.rows)["tasks"].keys() == {"gsm8k"}
    assert SUITE.score_recorded(folder, LmEvalOptions(parts=("gsm8k",)))["tasks"].keys() == {"gsm8k"}
    assert recorded.header.options["chat_template_on_openllm"] is None
    SUITE.copy_peer(folder / "results.json", recorded.header, tmp_path / "copy", "m")
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["results.json", "samples_gsm8k.jsonl"]
    with pytest.raises(DataError, match="did you mean 'gsm8k'"):
        SUITE.read_peer(folder, LmEvalOptions(parts=("gsm8",)))


def test_a_group_brings_its_tasks(tmp_path: Path, run: WholeRun) -> None:
    assert run.export is not None
    run.export(tmp_path)
    recorded = SUITE.read_peer(tmp_path, LmEvalOptions(parts=("mini_bbh",)))
    tasks = SUITE.score(recorded.header, recorded.rows)["tasks"]
    assert tasks.keys() == {"mini_bbh", "mini_bbh_two_statements", "mini_bbh_shelf_order"}
    assert recorded.header.options["limit"] == 2
    assert SUITE.recorded_limit(recorded.header, recorded.rows) == 2


def test_an_unknown_task_is_named_by_the_self_check() -> None:
    wrong = "unknown lm-eval task 'hellaswagg'; did you mean 'hellaswag'?"
    with pytest.raises(UsageError, match=re.escape(wrong)):
        SUITE.scorer_fault(LmEvalTasksOptions(parts=("hellaswag", "hellaswagg")))
    unsafe = LmEvalTasksOptions(parts=("humaneval_instruct",))
    with pytest.raises(UsageError, match="--confirm-run-unsafe-code"):
        SUITE.scorer_fault(unsafe)
    assert SUITE.scorer_fault(unsafe.model_copy(update={"confirm_run_unsafe_code": True})) == ""


# ---------------------------------------------------------------- tasks of one's own


def write_task(folder: Path, name: str = "own_sums", **keys: Any) -> Path:
    """Write a task that reads its documents from a file beside it."""
    folder.mkdir(exist_ok=True)
    # Words: lm-eval 0.5 reads a target of digits as a number, which equals no text.
    (folder / "sums.json").write_text(json.dumps([{"q": "2+2=", "a": "four"}, {"q": "3+3=", "a": "six"}]))
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "sums.json")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match"}],
        **keys,
    }
    (folder / f"{name}.yaml").write_text(json.dumps(task))
    return folder


@pytest.mark.slow
def test_own_tasks_stand_beside_lm_evals(tmp_path):
    """Slow, as lm-eval reads all of its YAMLs."""
    options = LmEvalTasksOptions(parts=("own_sums",), include_path=write_task(tmp_path / "tasks"), limit=2)
    loaded = SUITE.load(options)
    assert loaded.data_pins == SUITE.data_pins(options)
    with loop_in_a_thread() as loop:
        run = SUITE.run_whole(loaded, ToyServer(), loop, options)
    assert [row.part for row in run.rows] == ["own_sums", "own_sums"]
    assert "exact_match,none" in SUITE.score(header_of(run.document), run.rows)["tasks"]["own_sums"]
    both = options.model_copy(update={"parts": ("own_sum", "hellaswag")})
    with pytest.raises(UsageError, match="unknown lm-eval task 'own_sum'; did you mean 'own_sums'"):
        SUITE.scorer_fault(both)


def test_an_edited_task_is_another_task_and_its_place_is_none(tmp_path):
    folder = write_task(tmp_path / "tasks")
    options = LmEvalTasksOptions(parts=("own_sums",), include_path=folder)
    pins = SUITE.data_pins(options)
    folder.rename(tmp_path / "moved")
    moved = options.model_copy(update={"include_path": tmp_path / "moved"})
    assert SUITE.data_pins(moved) == pins
    (tmp_path / "moved" / "own_sums.yaml").write_text("task: own_sums\n")
    assert SUITE.data_pins(moved) != pins
    assert SUITE.data_pins(LmEvalTasksOptions(parts=("hellaswag",))) == {}


def test_a_folder_that_is_none_is_named():
    with pytest.raises(UsageError, match="nowhere is not a folder"):
        options_of(SUITE, {"parts": ("x",)}, {"include_path": "nowhere"}, has_judge=False)


def test_tasks_that_run_the_models_code_need_a_confirmation(tmp_path, monkeypatch):
    """The task's own code is not even imported without it, also through a group."""
    folder = write_task(tmp_path / "tasks", "risky", unsafe_code=True, process_results="!function utils.score")
    text = (folder / "risky.yaml").read_text().replace('"!function utils.score"', "!function utils.score")
    (folder / "risky.yaml").write_text(text)
    code = "import os, pathlib\npathlib.Path(__file__).with_name('imported').touch()\n"
    code += "def score(doc, results):\n    return {'exact_match': float(os.environ['HF_ALLOW_CODE_EVAL'])}\n"
    (folder / "utils.py").write_text(code)
    (folder / "group.yaml").write_text("group: risky_group\ntask: [risky]\n")
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    for part in ("risky", "risky_group"):
        with pytest.raises(UsageError, match=r"risky runs code that the model wrote .*--confirm-run-unsafe-code"):
            load_tasks([part], folder)
    assert not (folder / "imported").exists()
    loaded = load_tasks(["risky"], folder, run_unsafe_code=True)
    with loop_in_a_thread() as loop:
        run = SUITE.run_whole(loaded, ToyServer(), loop, LmEvalOptions(limit=1))
    assert [row.marks["exact_match"] for row in run.rows] == [(1.0,)]
    assert "HF_ALLOW_CODE_EVAL" not in os.environ


@pytest.mark.parametrize("task", ["humaneval", "mbpp", "humaneval_instruct"])
def test_lm_evals_own_code_tasks_are_known_as_unsafe(task):
    folder = Path(lm_eval.tasks.__file__).parent / task.removesuffix("_instruct")
    with pytest.raises(UsageError, match="--confirm-run-unsafe-code"):
        load_tasks([task], folder)


def test_what_lets_a_suite_run_names_no_variant(tmp_path):
    folder = write_task(tmp_path / "tasks")
    own = {"include_path": str(folder), "confirm_run_unsafe_code": True, "trust_suite_code": True}
    config = read_config({"models": ["m@http://localhost:1/v1"], "suites": ["lm_eval:own_sums"], **own})
    assert variant_settings(config) == {}


def test_every_repeat_of_a_sampled_task_is_marked_and_lm_eval_aggregates_the_means(tmp_path):
    sampled = {"until": ["\n"], "max_gen_toks": 8, "do_sample": True, "temperature": 0.8}
    folder = write_task(tmp_path / "tasks", "drawn_sums", generation_kwargs=sampled)
    write_task(folder, "greedy_sums")
    asked = []

    def answer(prompt, sampling):
        asked.append(sampling)
        # Of the answers to one question every other one is right, for 2+2.
        return "four" if len([one for one in asked if one.temperature == sampling.temperature]) % 2 else "five"

    loaded = load_tasks(["drawn_sums", "greedy_sums"], folder)
    assert SUITE.sampled_tasks(loaded, Sampler({})) == [True, False]
    with loop_in_a_thread() as loop:
        run = SUITE.run_whole(loaded, ToyServer(answer=answer), loop, LmEvalOptions(repeats=4))
    drawn = [row for row in run.rows if row.part == "drawn_sums"]
    assert sum(one.temperature > 0 for one in asked) == 8
    assert len({one.seed for one in asked if one.temperature > 0}) == 8
    for row in drawn:
        [target] = row.facts["reference"]
        assert [draw.repeat for draw in row.draws] == [0, 1, 2, 3]
        assert row.marks["exact_match"] == tuple(float(draw.turns[0].text == target) for draw in row.draws)
    assert [len(row.draws) for row in run.rows if row.part == "greedy_sums"] == [1, 1]
    total = sum(sum(row.marks["exact_match"]) for row in drawn)
    assert run.document["results"]["drawn_sums"]["exact_match,none"] == total / 8 == 0.25
    header = header_of(run.document)
    figures = scored_draws(SUITE, header, [SUITE.mark(row, header) for row in run.rows])
    part = figures["repeats"]["parts"]["drawn_sums"]
    assert part["pass_at"]["1"]["value"] == part["maj_at"]["1"]["value"] == 0.25
    assert part["pass_at"]["4"]["value"] == 0.5
