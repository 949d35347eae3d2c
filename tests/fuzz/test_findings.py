"""What fuzzing and the soak have found, one case each, so that it stays mended."""

from __future__ import annotations

import io
import json
import math
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from evalsuite.analysis.markup import read_page
from evalsuite.cli import app
from evalsuite.comparison.pairs import load_pairs
from evalsuite.comparison.ratings import read_lineage
from evalsuite.config import read_config
from evalsuite.conversations.source import open_source
from evalsuite.errors import DataError, StoreError, UsageError
from evalsuite.files import read_json, read_objects, write_json, write_jsonl
from evalsuite.generation.manifest import verified_shards
from evalsuite.recipes.recipe import read_recipe
from evalsuite.results.folder import stored_manifest, stored_scores
from evalsuite.results.table import load_results
from evalsuite.serving.replies import (
    read_completion,
    read_prompt_logprobs,
    read_safely,
    read_top_logprobs,
    token_counts,
)
from evalsuite.store import Store
from evalsuite.study.file import read_study
from evalsuite.suites.alpaca_eval.suite import AlpacaEval
from evalsuite.suites.harness.rows import sample_row, without_text
from evalsuite.suites.mixeval.suite import MixEval, MixEvalOptions
from evalsuite.suites.mt_bench.suite import MtBench
from evalsuite.suites.openllm.suite import OpenLLM
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.peer_files import finite_number, recorded_reason
from evalsuite.tables import print_suite
from judges.templates import JudgeTemplate
from judges.types import Unscored
from judges.verdicts import NEEDED_VARIABLES, TEMPLATE_VARIABLES
from tests.evalsuite.suites.mixeval.mixeval_rows import choice_row, free_row
from tests.fuzz.readers import _ANNOTATIONS, _JUDGMENTS, _OPENLLM, _scores

DEEP = "[" * 5_000
HUGE = 10**400


def with_top(logprob: float) -> dict[str, Any]:
    top = [{"token": "m", "logprob": logprob}, {"token": "M", "logprob": -0.5}]
    return {"choices": [{"logprobs": {"content": [{"top_logprobs": top}]}}]}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_label_without_a_finite_log_probability_is_not_remembered(bad):
    answer = read_safely(read_top_logprobs, with_top(bad))
    assert isinstance(answer, Unscored)
    assert answer.reason == "non_finite_logprob"


def test_a_label_of_probability_zero_is_as_good_as_absent():
    assert read_top_logprobs(with_top(-math.inf)) == {"top": {"M": -0.5}}


@pytest.mark.parametrize("first", [{}, {"top_logprobs": None}])
def test_a_reply_without_the_top_log_probabilities_has_none(first):
    answer = read_safely(read_top_logprobs, {"choices": [{"logprobs": {"content": [first]}}]})
    assert answer.reason == "no_logprobs"


def test_a_number_too_large_for_a_float_is_a_malformed_reply():
    assert read_safely(read_top_logprobs, with_top(HUGE)).reason == "malformed_reply"
    raw = {"choices": [{"prompt_logprobs": [None, {"6": {"logprob": -HUGE, "rank": 1}}]}]}
    assert read_safely(lambda reply: read_prompt_logprobs(reply, [5, 6]), raw).reason == "malformed_reply"


@pytest.mark.parametrize("usage", [[1], "x", None, {"prompt_tokens": "3", "completion_tokens": -1}])
def test_token_counts_that_are_no_counts_are_zero(usage):
    raw = {"choices": [{"text": "hi", "finish_reason": "stop"}], "usage": usage}
    assert token_counts(raw) == (0, 0, 0)
    assert read_completion(raw)["prompt_tokens"] == 0


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_a_file_nested_too_deeply_is_one_sentence(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    path.write_text(DEEP)
    with pytest.raises(DataError, match="is not JSON"):
        (read_json if suffix == "json" else read_objects)(path)
    with pytest.raises(DataError, match="is not JSON"):
        list(open_source(str(path)))


def test_a_message_is_one_line_whatever_the_names_in_it():
    assert "\n" not in str(DataError("a file of 'two\nlines'\r and more"))


@pytest.mark.parametrize(("value", "expected"), [(2, 2.0), (HUGE, None), (math.nan, None), (True, None), ("2", None)])
def test_only_a_number_is_a_number(value, expected):
    assert finite_number(value) == expected


@pytest.mark.parametrize("reason", [[], {}, 5, "no such reason"])
def test_an_unknown_recorded_reason_is_a_recorded_failure(reason):
    assert recorded_reason(reason) == Unscored("recorded_failure")


def mt_bench_file(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "model_judgment.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (_JUDGMENTS[0], {**_JUDGMENTS[1], **changes})))
    return path


def test_a_judgment_whose_score_is_no_number_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"judgment 2: 'score' must be a finite number"):
        MtBench().score_recorded(mt_bench_file(tmp_path, score=HUGE), SuiteOptions())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"unscored": []}, "recorded_failure"), ({"unscored": None, "score": 11, "judgment": ""}, "rating_out_of_range")],
)
def test_an_odd_judgment_is_unscored(tmp_path, changes, reason):
    scores = MtBench().score_recorded(mt_bench_file(tmp_path, **changes), SuiteOptions())
    assert scores["unscored"] == {reason: 1}
    assert scores["score"] == 7


@pytest.mark.parametrize(
    "changes", [{"category": ["x"]}, {"judgment": {"a": 1}}, {"category": "\ud800"}, {"question_id": "\ud800"}]
)
def test_an_odd_category_or_judgment_text_does_not_matter(tmp_path, changes):
    assert MtBench().score_recorded(mt_bench_file(tmp_path, **changes), SuiteOptions())["score"] == 7


@pytest.mark.parametrize("changes", [{"preference": HUGE}, {"preference": "1.5"}, {"unscored": ["x"]}])
def test_an_odd_preference_is_unscored(tmp_path, changes):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([_ANNOTATIONS[0], {**_ANNOTATIONS[1], **changes}]))
    assert AlpacaEval().score_recorded(path, SuiteOptions())["unscored"] == {"recorded_failure": 1}


@pytest.mark.parametrize(
    "row",
    [{**free_row("0", response="x"), "problem_type": []}, {**choice_row("0", response="x"), "target": [math.inf]}],
)
def test_an_odd_mixeval_row_is_refused(tmp_path, row):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match="row 1"):
        MixEval().score_recorded(path, MixEvalOptions(mixeval_parser="rule"))


def test_a_mixeval_reason_that_is_no_word_is_not_looked_up(tmp_path):
    write_jsonl(tmp_path / "x.jsonl", [free_row("0", response=None, judge_score=None, unscored={"reason": []})])
    assert MixEval().score_recorded(tmp_path / "x.jsonl", MixEvalOptions(mixeval_parser="judge"))["unscored"] == {
        "no_answer": 1
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"configs": []},
        {"configs": {"leaderboard_bbh_a": 5}},
        {"n-samples": {"leaderboard_bbh_a": {"effective": "4"}}},
        {"group_subtasks": {"leaderboard_bbh": [["x"]]}},
        {"group_subtasks": {"leaderboard_bbh": ["leaderboard_bbh"]}},
        {"evalsuite": []},
        {"evalsuite": {"missing": [1]}},
        {"evalsuite": {"unscored": {"leaderboard_bbh_a": 5}}},
    ],
)
def test_a_results_document_that_lm_eval_would_not_write_is_refused(tmp_path, changes):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**_OPENLLM, **changes}))
    with pytest.raises(DataError, match=r"results\.json"):
        OpenLLM().score_recorded(path, OpenLLM.options_type())


def test_nan_in_any_field_of_a_results_document_is_null(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({**_OPENLLM, "results": {"leaderboard_bbh": {"acc_norm,none": 0.5, "alias": math.nan}}}))
    json.dumps(OpenLLM().score_recorded(path, OpenLLM.options_type()), allow_nan=False)


@pytest.mark.parametrize(
    "filtered",
    [["1" * 40 + "x"], ["1" * 100_000 + "x"], ["1" * 100_000, "True"], [["1" * 5_000, "True"]], ["1.", "1e"]],
)
def test_digits_without_end_hold_up_neither_import_nor_report(tmp_path, filtered):
    write_json(tmp_path / "peer" / "results.json", _OPENLLM)
    row = {"doc_id": 0, "acc_norm": 1.0, "resps": [filtered], "filtered_resps": filtered}
    write_jsonl(tmp_path / "peer" / "samples_leaderboard_bbh_a.jsonl", [row])
    results = str(tmp_path / "results")
    commands = (["import", "openllm", str(tmp_path / "peer"), "--model", "m", "--max-unscored", "1"], ["report"])
    start = time.process_time()
    for command in commands:
        ended = CliRunner().invoke(app, [*command, "--results", results])
        assert ended.exit_code == 0, ended.output
    assert time.process_time() - start < 10


@pytest.mark.parametrize("depth", [150, 900])
def test_deeply_nested_responses_are_read(depth):
    nested: Any = "x"
    for _ in range(depth):
        nested = [nested]
    sample = {"doc_id": 0, "acc_norm": 1.0, "resps": nested, "filtered_resps": nested}
    assert sample_row(sample, "", protected=False).facts["filtered"] == ["x"]
    assert "resps" not in without_text(sample)


@pytest.mark.parametrize("mark", ["<![x", "<![x]>", "<!["])
def test_a_page_with_an_odd_declaration_is_read(mark):
    assert read_page(f'<div class="answer"><p>a{mark}</p></div>').blocks["answer"].counts["p"] == 1


def test_an_author_that_is_no_name_is_no_author(tmp_path):
    write_json(tmp_path / "p.json", [{"input": "q", "output_1": "a", "output_2": "b", "label": 1, "model_1": ["x"]}])
    [pair], _, _ = load_pairs(str(tmp_path / "p.json"), None)
    assert pair.author_1 is None


@pytest.mark.parametrize("text", ["a: 2001-99-99\n", DEEP, "a: !!python/none\n", '"\\xzz": b'])
def test_a_lineage_that_yaml_cannot_read_is_one_sentence(tmp_path, text):
    (tmp_path / "l.yaml").write_text(text)
    with pytest.raises(DataError, match="is not YAML"):
        read_lineage(tmp_path / "l.yaml")


@pytest.mark.parametrize("text", ["a: 2001-99-99\n", DEEP])
def test_a_recipe_or_study_that_yaml_cannot_read_is_one_sentence(tmp_path, text):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(DataError, match="is not YAML"):
        read_recipe(tmp_path / "x.yaml")
    with pytest.raises(DataError, match="is not YAML"):
        read_study(tmp_path / "x.yaml")


def test_items_with_odd_ids_are_still_told_apart(tmp_path):
    write_json(tmp_path / "results.json", _OPENLLM)
    rows = [{"doc_id": [n], "acc_norm": 1.0} for n in range(2)]
    write_jsonl(tmp_path / "samples_leaderboard_bbh_a.jsonl", rows)
    recorded = OpenLLM().read_peer(tmp_path, OpenLLM.options_type())
    assert len({row.item_id for row in recorded.rows}) == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [("model", []), ("judge", 5), ("average", None), ("data", "x"), ("limit", "5"), ("suites", {"mt_bench": 1})],
)
def test_a_broken_scores_file_is_one_sentence(tmp_path, key, value):
    scores, manifest = _scores(tmp_path)
    write_json(tmp_path / "m" / "scores.json", {**scores, key: value})
    with pytest.raises(DataError, match=r"scores\.json"):
        stored_scores(tmp_path / "m")
    for suites in ({"any": {"data_pins": [1]}}, []):
        write_json(tmp_path / "m" / "manifest.json", {**manifest, "suites": suites})
        with pytest.raises(DataError, match=r"manifest\.json"):
            stored_manifest(tmp_path / "m")


def test_half_a_surrogate_pair_in_a_name_does_not_break_the_table_of_results(tmp_path):
    scores, _ = _scores(tmp_path)
    scores["suites"]["mixeval"]["\ud800"] = "\ud83d"
    write_json(tmp_path / "m" / "scores.json", scores)
    assert len(load_results(tmp_path)) == 1


def test_brackets_in_a_reason_are_no_markup():
    out = io.StringIO()
    scores = {"score": "7", "n": 1, "n_scored": 0, "unscored": {"[/b] [red": 1}, "ci95": [None]}
    print_suite(Console(file=out, width=200), "mt_bench", scores)
    assert "[/b] [red 1" in out.getvalue()


@pytest.mark.parametrize("value", ["", "{", "[1]", "null", b"\xff", 5, DEEP])
def test_an_answer_that_cannot_be_read_is_never_taken_for_one(tmp_path, value):
    path = tmp_path / "store.sqlite"
    with Store(path) as store:
        store.put("k", {"text": "x"})
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE completions SET value = ?", (value,))
    with Store(path) as store, pytest.raises(StoreError, match="unreadable"):
        store.get("k")


@pytest.mark.parametrize("changes", [{"suites": 5}, {"suites": [5]}, {"vllm_args": [5]}, {"vllm_args": 0.5}])
def test_settings_of_an_odd_kind_are_a_usage_error(changes):
    with pytest.raises(UsageError, match=r"is not (a list|key=value)"):
        read_config({"models": ["x"], **changes})


@pytest.mark.parametrize(
    "expression", ["{{ 1/0 }}", "{{ nonce[3:1].x }}", "{% for i in range(9**9) %}{% endfor %}", "{{ nonce() }}"]
)
def test_a_judge_template_that_cannot_be_rendered_is_refused_before_anybody_is_asked(expression):
    template = JudgeTemplate("{{ answers_a }}{{ answers_b }}{{ nonce }}" + expression)
    with pytest.raises(ValueError, match="cannot be rendered"):
        template.check(TEMPLATE_VARIABLES, NEEDED_VARIABLES)


def test_a_shard_that_the_manifest_does_not_describe_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="--fresh"):
        verified_shards(tmp_path, {"shards": [{"number": 0, "mark": {}}]}, "")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_interrupt_while_the_program_still_loads_is_one_sentence(name):
    script = f"import os, signal, evalsuite.cli as c; c.app = lambda: os.kill(os.getpid(), signal.{name}); c.main()"
    preamble = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    ended = subprocess.run([sys.executable, "-c", preamble + script], capture_output=True, text=True, check=False)
    assert ended.returncode == 130
    assert ended.stderr.splitlines() == [
        "evalsuite: interrupted; finished work is kept, run the same command again to resume"
    ]
