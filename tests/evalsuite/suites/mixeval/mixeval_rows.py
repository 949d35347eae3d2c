"""Items and rows in MixEval's schema, shared by its tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalsuite.records.rows import Draw, Header, Reply, Row, Verdict, replaced
from evalsuite.suites.mixeval.prompts import item_row
from evalsuite.suites.mixeval.suite import MixEval, MixEvalOptions
from evalsuite.suites.types import Scores
from judges.types import Unscored

MIXEVAL = MixEval()
MINI = MixEvalOptions(data="mini")
JUDGE = MixEvalOptions(mixeval_parser="judge")
RULE = MixEvalOptions(mixeval_parser="rule")
PUBLISHED = MixEvalOptions(mixeval_parser="rule", as_published=True)


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


def reply(answer: str | Unscored) -> Reply:
    return Reply(unscored=answer) if isinstance(answer, Unscored) else Reply(answer)


def verdict(value: float | str | Unscored, text: str = "") -> Verdict:
    return (
        Verdict(unscored=value, text=value.detail) if isinstance(value, Unscored) else Verdict(value=value, text=text)
    )


def answered(row: Row | dict, answer: str | Unscored, judged: Verdict | None = None) -> Row:
    """Return a row with its answer and, where there is one, its verdict."""
    unanswered = item_row(row, row["prompt"]) if isinstance(row, dict) else row
    return replaced(unanswered, draws=(Draw((reply(answer),)),), verdicts=() if judged is None else (judged,))


def header(options: MixEvalOptions, n_items: int = 0) -> Header:
    return Header("mixeval", n_items, options=options.model_dump())


def scored(rows: Sequence[Row], options: MixEvalOptions) -> Scores:
    of = header(options, len(rows))
    return MIXEVAL.score(of, [MIXEVAL.mark(row, of) for row in rows])


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
