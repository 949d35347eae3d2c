"""Fuzz targets that read files: a damaged file gives figures that JSON can hold, or one sentence."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

from evalsuite.comparison.pairs import load_pairs
from evalsuite.comparison.prompts import PromptSet, Question, read_questions
from evalsuite.comparison.ratings import read_lineage, score_preferences
from evalsuite.comparison.recorded import find_recorded
from evalsuite.records.files import RecordsFile, write_records
from evalsuite.records.rows import Header, Row
from evalsuite.report.protocol import protocol_of
from evalsuite.report.tabs import tabs_of
from evalsuite.results.folder import (
    differences,
    refuse_mixing,
    reusable,
    stored_manifest,
    stored_scores,
    unscored_share,
)
from evalsuite.results.reading import read_results_folder
from evalsuite.results.table import load_results
from evalsuite.store import Store
from evalsuite.suites.alpaca_eval.suite import AlpacaEval
from evalsuite.suites.mixeval.suite import MixEval, MixEvalOptions
from evalsuite.suites.mt_bench.suite import MtBench
from evalsuite.suites.openllm.suite import OpenLLM
from evalsuite.suites.options import SuiteOptions
from evalsuite.tables import print_models, print_suite
from judges.verdicts import Request
from tests.evalsuite.report_results import mixeval_scores, mt_bench_scores, write_model
from tests.evalsuite.suites.mixeval.mixeval_rows import choice_row, free_row
from tests.fuzz import mutation
from tests.fuzz.parsers import survives

Target = Callable[[Random, Path], None]

_JUDGMENTS = [
    {"question_id": 9001 + n // 2, "model": "m", "judge": ["gpt-4", "single-v1"], "turn": 1 + n % 2, "tstamp": 1.0}
    | {"user_prompt": "p", "judgment": "so [[7]]", "score": 7, "category": "writing"}
    | ({"unscored": None} if n > 1 else {})
    for n in range(4)
]
_ANSWERS = [
    {"question_id": n, "model_id": "m", "choices": [{"index": 0, "turns": ["a", "b"]}], "unscored": [None, None]}
    for n in (9001, 9002)
]
_ANNOTATIONS = [
    {"instruction": f"i{n}", "output_1": "x", "generator_1": "base", "output_2": "yy", "generator_2": "m"}
    | {"preference": 1.5, "annotator": "j", "logprobs": {"m": -0.1, "M": -2.0}, "unscored": None, "dataset": "d"}
    for n in range(3)
]
_MIXEVAL = [
    free_row("0", response="Mercury", judge_score=1.0, judge_response="[[1]]", unscored=None),
    free_row("1", response=None, judge_score=None, unscored={"reason": "context_length", "detail": "x"}),
    choice_row("0", response="B", judge_option="B", judge_response="[[B]]"),
]
_ROW = {"acc_norm,none": 0.5, "acc_norm_stderr,none": 0.05, "alias": "x", "sample_len": 4}
_OPENLLM = {
    "results": {"leaderboard_bbh": dict(_ROW), "leaderboard_bbh_a": dict(_ROW), "leaderboard_musr": dict(_ROW)},
    "group_subtasks": {"leaderboard_bbh": ["leaderboard_bbh_a"]},
    "configs": {"leaderboard_bbh_a": {"doc_to_choice": ["A", "B"], "metadata": {"choices": 2}}},
    "n-samples": {"leaderboard_bbh_a": {"original": 4, "effective": 4}},
    "evalsuite": {"missing": {"gpqa": "gated"}, "unscored": {"leaderboard_bbh_a": {"request_failed": 1}}},
    "config": {"limit": None},
}
_SAMPLES = [
    {"doc_id": 0, "doc": {"input": "Is it?", "options": ["a", 1]}, "target": "yes", "metrics": ["acc_norm"]}
    | {"resps": [[["-1.5", "True"]]], "filtered_resps": [["-1.5", "True"]], "acc_norm": 1.0, "doc_hash": "h"}
]
_QUESTIONS = [{"id": "1", "prompt": "Why?", "category": "x"}, {"question_id": 2, "turns": ["a", "b"]}]
_PAIRS = [{"input": "q", "output_1": "a", "output_2": "b", "label": 1, "model_1": "m"}]
_RATINGS = "question_id,a,b\n1,7,8\n2,,3.5\n3,-1,9\n"
_LINEAGE = "a: b\n"


def _scores(folder: Path) -> tuple[Any, Any]:
    suites = {"mt_bench": mt_bench_scores(7.0), "mixeval": mixeval_scores(0.5, unscored={"no_rating": 1})}
    bbh = {"score": 0.5, "stderr": 0.1, "n": 4, "normalized": 30.0, "unscored": {"request_failed": 1}}
    suites["openllm"] = {"bbh": bbh, "tasks": {"x": {"acc,none": 0.5}}, "unscored": {"gpqa": "gated"}}
    suites["alpaca_eval"] = {"win_rate": 50.0, "standard_error": 1.0, "lc_win_rate": None, "n_total": 3} | {
        "lc": {"reason": "x"},
        "unscored": {},
    }
    place = write_model(folder, "m : d", suites, training={"base": "b", "n_conversations": 5}, pins={"a": "0" * 64})
    found = tuple(json.loads((place / name).read_text()) for name in ("scores.json", "manifest.json"))
    shutil.rmtree(place)
    return found[0], found[1]


def _figures(scores: Any, suite: str) -> None:
    """Figures go into scores.json and into the table."""
    if scores is None:
        return
    json.dumps(scores, allow_nan=False)
    print_suite(Console(file=io.StringIO(), width=100), suite, scores)


def _put(draw: Random, path: Path, seed: Any, *, lines: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mutation.as_bytes(draw, mutation.document(draw, seed), lines=lines))
    return path


def mt_bench_files(draw: Random, place: Path) -> None:
    path = _put(draw, place / "model_judgment.jsonl", _JUDGMENTS, lines=True)
    _figures(survives(lambda: MtBench().score_recorded(path, SuiteOptions()), dict), "mt_bench")


def alpaca_files(draw: Random, place: Path) -> None:
    path = _put(draw, place / "annotations.json", _ANNOTATIONS, lines=False)
    _figures(survives(lambda: AlpacaEval().score_recorded(path, SuiteOptions()), dict), "alpaca_eval")


def mixeval_files(draw: Random, place: Path) -> None:
    path = _put(draw, place / "x.jsonl", _MIXEVAL, lines=True)
    for parser in ("judge", "rule"):
        options = MixEvalOptions(mixeval_parser=parser)
        _figures(survives(lambda o=options: MixEval().score_recorded(path, o), dict), "mixeval")


def openllm_files(draw: Random, place: Path) -> None:
    path = _put(draw, place / "results.json", _OPENLLM, lines=False)
    _figures(survives(lambda: OpenLLM().score_recorded(path, OpenLLM.options_type()), dict), "openllm")


def item_rows(draw: Random, place: Path) -> None:
    """Every row of a recorded file can be marked and shown."""
    _put(draw, place / "mt_bench/model_answer.jsonl", _ANSWERS, lines=True)
    _put(draw, place / "mt_bench/model_judgment.jsonl", _JUDGMENTS, lines=True)
    _put(draw, place / "openllm/results.json", _OPENLLM, lines=False)
    _put(draw, place / "openllm/samples_leaderboard_bbh_a.jsonl", _SAMPLES, lines=True)
    for path, suite in (
        (place / "mt_bench", MtBench()),
        (_put(draw, place / "annotations.json", _ANNOTATIONS, lines=False), AlpacaEval()),
        (_put(draw, place / "mixeval/free_form.jsonl", _MIXEVAL, lines=True), MixEval()),
        (place / "openllm", OpenLLM()),
    ):
        recorded = survives(lambda s=suite, p=path: s.read_peer(p, s.options_type()), object)
        for row in recorded.rows if recorded is not None else ():
            marked = suite.mark(row, recorded.header)
            assert all(value is None or isinstance(value, float) for own in marked.marks.values() for value in own)
            json.dumps([suite.question_page(marked, recorded.header), suite.answer_page(marked, recorded.header)])


def records_files(draw: Random, place: Path) -> None:
    """A damaged records file is one sentence, or rows."""
    path = place / "records" / "toy.jsonl"
    rows = [Row(str(number), part, facts={"reference": ["4"]}) for part in ("a", "b") for number in range(3)]
    write_records(path, Header("toy", len(rows)), rows)
    path.write_bytes(mutation.damaged(draw, path.read_bytes()))
    file = RecordsFile(path)
    survives(lambda: (file.header, [file.rows(part) for part in file.parts]), tuple)


def scores_files(draw: Random, place: Path) -> None:
    scores, manifest = _scores(place)
    folder = place / "m-00000000"
    _put(draw, folder / "scores.json", scores, lines=False)
    if draw.random() < 0.5:
        _put(draw, folder / "manifest.json", manifest, lines=False)
    found = survives(lambda: read_results_folder(place), object)
    for model in found.models:
        assert model.name
        protocol = protocol_of(model)
        assert protocol.fits(protocol)
    tabs_of(found.models)
    survives(lambda: load_results(place), object)
    survives(lambda: _resume(folder), object, type(None))


def _resume(folder: Path) -> Any:
    """Do with a folder what a run does before it starts, and what it prints when everything is there."""
    stored, manifest = stored_scores(folder), stored_manifest(folder)
    if stored is None:
        return None
    model, pins = {"dtype": "float32", "chat_template_sha256": "0" * 64}, {"mt_bench": {"a": {}}}
    refuse_mixing(folder, differences(stored, manifest, data="full", limit=None, settings={}, pins=pins, model=model))
    if all(reusable(stored, manifest, suite, "") for suite in ("mt_bench", "mixeval")):
        unscored_share(stored.suites)
    print_models(Console(file=io.StringIO(), width=100), [stored])
    return stored


def comparison_files(draw: Random, place: Path) -> None:
    questions = _put(draw, place / "questions.jsonl", _QUESTIONS, lines=True)
    survives(lambda: read_questions(questions), list)
    pairs = _put(draw, place / "pairs.json", _PAIRS, lines=False)
    survives(lambda: load_pairs(str(pairs), None), tuple)
    asked = PromptSet(
        "mt_bench", (Question("9001", Request(("q",))), Question("9002", Request(("r", "s")))), {}, _nobody
    )
    answers = _put(draw, place / "answers.jsonl", _ANSWERS, lines=True)
    survives(lambda: find_recorded(str(answers), asked), object)


async def _nobody(*_: Any) -> Any:
    raise AssertionError("recorded answers are asked for")


def rating_files(draw: Random, place: Path) -> None:
    path = place / "ratings.csv"
    path.write_bytes(_table(draw, _RATINGS))
    scored = survives(lambda: score_preferences(path).as_json(), dict)
    if scored is not None:
        json.dumps(scored, allow_nan=False)
    lineage = place / "lineage.yaml"
    lineage.write_bytes(_table(draw, _LINEAGE))
    survives(lambda: read_lineage(lineage), dict)


def _table(draw: Random, seed: str) -> bytes:
    words = mutation.text(draw, (seed,)) if draw.random() < 0.5 else seed
    for _ in range(draw.randrange(3)):
        at = draw.randrange(len(words) + 1)
        words = (
            words[:at]
            + draw.choice(('"', ",", "\n", "\r", "\x00", ": ", "nan", "1e999", "!!python/none", "&a *a", "{"))
            + words[at:]
        )
    data = words.encode("utf-8", "surrogatepass")
    return mutation.damaged(draw, data) if draw.random() < 0.1 else data


def stores(draw: Random, place: Path) -> None:
    path = place / "store.sqlite"
    for old in place.glob("*store.sqlite*"):
        old.unlink()
    with Store(path) as store:
        store.put("k", {"text": "x"})
    if draw.random() < 0.5:
        with sqlite3.connect(path) as db:
            db.execute(
                "UPDATE completions SET value = ?",
                (draw.choice(("", "{", "[1]", "null", b"\xff", b"{}", 5, "[" * 5_000)),),
            )
        db.close()
    else:
        path.write_bytes(mutation.damaged(draw, path.read_bytes()))

    def use() -> object:
        with Store(path) as store:
            store.check()
            store.put("l", {"text": "y"})
            found = store.get("k")
            assert found is None or isinstance(found, dict)
            return len(store)

    survives(use, int)


READERS: Mapping[str, Target] = {
    "mt_bench_files": mt_bench_files,
    "alpaca_files": alpaca_files,
    "mixeval_files": mixeval_files,
    "openllm_files": openllm_files,
    "item_rows": item_rows,
    "records_files": records_files,
    "scores_files": scores_files,
    "comparison_files": comparison_files,
    "rating_files": rating_files,
    "stores": stores,
}
