"""FastChat's files of the pairwise mode: a baseline's answers are read, judgments of pairs are written."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite.errors import DataError
from evalsuite.files import write_jsonl
from evalsuite.records.rows import Header, Row, Verdict
from evalsuite.suites.mt_bench.peer import ANSWER_FILE, FASTCHAT_FAILED_TEXT, read_files
from evalsuite.suites.mt_bench.scores import TURNS, Turn
from judges.fastchat_pair import pair_prompt_name
from judges.pointwise import needs_reference
from judges.verdicts import winner_of

PAIR_FILE = "model_pair.jsonl"


def read_answers(path: Path) -> tuple[str, dict[str, Sequence[str]]]:
    """Read a model's name and its answers by question id, one text per turn; failed answers are left out.

    Raises DataError for a file that is not FastChat's, or that holds no answers.
    """
    _, rows = read_files(path, None)
    if not rows:
        raise DataError(f"{path} has no answers; give FastChat's {ANSWER_FILE}, or a model's folder in results/")
    answers = {str(row["question_id"]): row["choices"][0]["turns"] for row in rows}
    known: dict[str, Sequence[str]] = {
        question: tuple(turns)
        for question, turns in answers.items()
        if len(turns) >= len(TURNS) and all(isinstance(one, str) and one != FASTCHAT_FAILED_TEXT for one in turns)
    }
    return str(rows[0].get("model_id") or path.stem), known


def write_pairs(header: Header, rows: Sequence[Row], folder: Path, *, model: str, judge: str | None) -> None:  # noqa: ARG001
    """Write FastChat's file of judged pairs; without a judge there is none.

    The fields are those of gen_judgment.py (play_a_match_pair), and ``unscored``. A game without a verdict is "error",
    which its ``show_result`` leaves out.
    """
    if judge is None:
        return
    now = time.time()
    write_jsonl(folder / PAIR_FILE, (_line(row, turn, model, judge, now) for row in rows for turn in TURNS))


def _line(row: Row, turn: Turn, model: str, judge: str, now: float) -> dict[str, Any]:
    games: dict[str, Verdict] = {
        verdict.order: verdict for verdict in row.verdicts if (verdict.turn, verdict.repeat) == (turn, 0)
    }
    question = row.item_id.removeprefix(f"{row.part}/")
    with_reference = needs_reference(str(row.facts.get("category")))
    return {
        "question_id": int(question) if question.isdecimal() else question,
        "model_1": model,
        "model_2": row.part,
        "g1_winner": _winner(games.get("ab"), "model_1", "model_2"),
        "g2_winner": _winner(games.get("ba"), "model_2", "model_1"),
        "judge": [judge, pair_prompt_name(turn=turn, with_reference=with_reference)],
        **_texts(games),
        "turn": turn,
        "tstamp": now,
    }


def _winner(verdict: Verdict | None, first: str, second: str) -> str:
    if verdict is None or not isinstance(verdict.value, int | float):
        return "error"
    return {"a": first, "b": second, "tie": "tie"}[winner_of(float(verdict.value))]


def _texts(games: Mapping[str, Verdict]) -> dict[str, Any]:
    shown = {f"g{number}": games.get(order) for number, order in ((1, "ab"), (2, "ba"))}
    texts = {f"{name}_judgment": "" if one is None else one.text for name, one in shown.items()}
    reasons = {name: one.unscored.reason for name, one in shown.items() if one is not None and one.unscored is not None}
    return {**texts, "unscored": reasons or None}
