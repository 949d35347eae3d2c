"""lm-eval's samples as rows: what is kept, and what a broken file is answered with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalsuite.errors import DataError
from evalsuite.records.rows import Draw, Reply
from evalsuite.suites.harness.peer import read_rows
from judges.types import Unscored

SAMPLE = {
    "doc_id": 3, "doc": {"question": "1 + 1?", "options": ["1", "2"], "empty": ""}, "target": 1,
    "arguments": {"gen_args_0": {"arg_0": "few-shot examples", "arg_1": "2"}},
    "resps": [[["-1.5", "False"]], [["-0.25", "True"]]], "filtered_resps": [["-1.5", "False"], ["-0.25", "True"]],
    "filter": "none", "metrics": ["acc", "acc_norm"], "doc_hash": "d", "acc": 1.0, "acc_norm": 0.0,
}  # fmt: skip


def rows_of(path: Path, *lines: Any, protected: bool = False) -> list[Any]:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return read_rows(path, "part", protected=protected)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "samples_t.jsonl"


def test_a_multiple_choice_keeps_its_choices_and_every_metric(path: Path) -> None:
    [row] = rows_of(path, SAMPLE)
    assert (row.item_id, row.part, row.content, row.prompt) == ("3", "part", "d", ())
    assert row.facts == {"fields": [["question", "1 + 1?"], ["options", "A. 1\nB. 2"]], "reference": ["1"]}
    assert row.draws == (Draw((Reply(choices=((-1.5, False), (-0.25, True))),)),)
    assert row.marks == {"acc": (1.0,), "acc_norm": (0.0,)}
    assert "few-shot" not in repr(row)


def test_a_generation_keeps_each_repeat_and_what_was_filtered(path: Path) -> None:
    generated = {**SAMPLE, "resps": [["it is 2", "2"]], "filtered_resps": ["2"], "acc": True, "acc_norm": [True, False]}
    [row] = rows_of(path, generated)
    assert [draw.turns[0].text for draw in row.draws] == ["it is 2", "2"]
    assert [draw.repeat for draw in row.draws] == [0, 1]
    assert row.facts["filtered"] == ["2"]
    assert row.marks == {"acc": (1.0,), "acc_norm": (0.5,)}
    [row] = rows_of(path, {**generated, "resps": [["2"]], "f1": [0, 1], "perplexity": [-1.0, 3]})
    assert "filtered" not in row.facts, "the answer itself"
    assert row.marks.keys() == {"acc", "acc_norm"}, "a pair of numbers is not a metric of a document"


def test_the_last_filter_of_a_document_counts(path: Path) -> None:
    rows = rows_of(
        path, {**SAMPLE, "filter": "strict"}, {**SAMPLE, "doc_id": 4}, {**SAMPLE, "filter": "last", "acc": 0.0}
    )
    assert [(row.item_id, row.marks["acc"]) for row in rows] == [("3", (0.0,)), ("4", (1.0,))]


def test_an_unscored_document_has_no_marks_but_a_reason(path: Path) -> None:
    failed = {**SAMPLE, "doc_id": 5, "metrics": [], "unscored": "timeout", "filtered_resps": []}
    _, row = rows_of(path, SAMPLE, {key: value for key, value in failed.items() if key not in ("acc", "acc_norm")})
    assert row.unscored == (Unscored("timeout"),)
    assert row.draws == (Draw((Reply(unscored=Unscored("timeout")),)),)
    assert row.marks == {"acc": (None,), "acc_norm": (None,)}


def test_no_text_of_protected_samples_is_kept(path: Path) -> None:
    rows = rows_of(
        path, SAMPLE, {**SAMPLE, "doc_id": 4, "resps": [["1 + 1?"]], "filtered_resps": ["1 + 1?"]}, protected=True
    )
    assert [(row.prompt, row.facts) for row in rows] == [(None, {}), (None, {})]
    assert [len(row.draws) for row in rows] == [1, 0]
    assert "1 + 1?" not in repr(rows)


def test_what_python_writes_and_json_does_not_know_is_read(path: Path) -> None:
    nan = json.dumps({**SAMPLE, "acc": float("nan")})
    [row] = rows_of(path, nan)
    assert row.marks == {"acc": (None,), "acc_norm": (0.0,)}
    [row] = rows_of(path, {**SAMPLE, "resps": [["half \ud800 pair"]], "filtered_resps": ["x"]})
    assert row.replies[0].text == "half \ufffd pair"
    [row] = rows_of(path, {**SAMPLE, "filtered_resps": [["-inf", "False"], ["-1", "True"]]})
    assert (row.draws, row.marks["acc"]) == ((), (1.0,)), "JSON has no infinity"


@pytest.mark.parametrize("line", ["[1]", "{", '{"doc": {}}', '"text"'])
def test_a_broken_line_is_named(path: Path, line: str) -> None:
    with pytest.raises(DataError, match=r"samples_t\.jsonl line 2 is not a sample of lm-eval"):
        rows_of(path, SAMPLE, line)
