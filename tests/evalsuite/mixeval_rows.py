"""Rows and records in MixEval's schema, shared by its tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evalsuite.serving.requests import Completion
from evalsuite.suites.base import Item, Loaded, Record, SuiteOptions

MINI = SuiteOptions(data="mini")
RULE = SuiteOptions(mixeval_parser="rule")
PUBLISHED = SuiteOptions(mixeval_parser="rule", as_published=True)


def said(text: str) -> Completion:
    return Completion(text, "stop", 10, 5)


def free_row(
    item_id: str = "0", benchmark: str = "TriviaQA", target: tuple[str, ...] = ("Mercury",), **more: Any
) -> dict:
    row = {"problem_type": "free-form", "context": None, "prompt": "Which planet?", "target": list(target)}
    return {**row, "benchmark_name": benchmark, "id": item_id, **more}


def choice_row(item_id: str = "0", benchmark: str = "MMLU", right: int = 1, **more: Any) -> dict:
    row = {
        "problem_type": "multiple-choice",
        "context": None,
        "prompt": "Which gas?",
        "options": ["neon", "argon", "tin"],
    }
    return {**row, "target": [right], "benchmark_name": benchmark, "id": item_id, **more}


def record(row: dict, answer: Any, verdict: Any = None) -> Record:
    split = row["problem_type"].replace("-", "_")
    return Record(Item(f"{split}/{row['id']}", row), answer, verdict)


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


EMPTY = Loaded(items=(), data_pins={}, context=None)


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
