"""Recorded answers and verdicts of a benchmark in a file: JSON lines with id (or prompt), answer, and a verdict.

    {"id": "1", "model": "m", "answer": "Yes.", "judge": "j", "rating": 4, "judgment": "Good. Rating: [[4]]"}
    {"id": "1", "model": "m", "answer": "Yes.", "judge": "j", "games": [{"score": "A>B", "judgment": "…"}, null]}

``games`` are in the published order: first the baseline is A, then the model. An export has the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite.errors import DataError
from evalsuite.files import read_objects, write_jsonl
from evalsuite.records.rows import Draw, Reply, Row, Verdict, replaced
from evalsuite.suites import peer_files
from evalsuite.suites.file.baseline import answers_by_item
from evalsuite.suites.file.definition import Benchmark
from evalsuite.suites.games import ORDERS, game_verdicts
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.types import Recorded
from judges.types import Unscored

ANSWER_FILE = "answers.jsonl"
_VERDICTS = {"rating": "rating", "pairwise": "games"}
"""The field that holds a verdict, by the way of scoring."""


def read_recorded(
    path: Path,
    options: SuiteOptions,
    benchmark: Benchmark,
    rows: Mapping[str, Row],
    items: Mapping[str, Mapping[str, Any]],
) -> Recorded:
    """Read answers by id or prompt, and what one judge said of them; an item that the file lacks is ``no_answer``.

    Raises DataError for a file without any answer to these prompts, or with verdicts of several judges and none chosen.
    """
    file = peer_files.file_of(path, ANSWER_FILE)
    recorded: peer_files.Rows = read_objects(file)
    field = _VERDICTS.get(benchmark.method, "")
    judged = [row for row in recorded if field in row]
    judge, chosen = None, recorded
    if judged:
        names = [str(row.get("judge") or "") for row in judged]
        chosen = peer_files.rows_of_judge(judged, names, options.annotator, file)
        judge = str(chosen[0].get("judge") or "")
    others = [row for row in recorded if field not in row] if judged else []
    models = (row["model"] for row in (*others, *chosen) if row.get("model") is not None)
    peer_files.single("model", models, file, "keep the rows of one model")
    # An answer may have a row of its own beside the one with its verdict.
    asked = list(items.values())
    answers = answers_by_item(others, asked, file) | answers_by_item(chosen, asked, file)
    if not answers.keys() & rows.keys():
        known = f"the {len(rows)} prompts of {benchmark.name}"
        raise DataError(f"{file} answers none of {known}; give rows with id and answer")
    lost = Reply(unscored=Unscored("no_answer"))
    answered = []
    for item_id, row in rows.items():
        found = answers.get(item_id)
        reply = lost if found is None or found["text"] is None else Reply(found["text"])
        verdicts = _verdicts(benchmark, found["row"], judge) if found is not None and judge is not None else ()
        answered.append(replaced(row, draws=(Draw((reply,)),), verdicts=verdicts))
    return peer_files.recorded_by(judge, benchmark.name, answered, options)


def _verdicts(benchmark: Benchmark, row: Mapping[str, Any], judge: str) -> tuple[Verdict, ...]:
    """Read a row's rating, or both of its games; what is missing or not valid is a failure of the recorded file."""
    if benchmark.score.pairwise is not None:
        return game_verdicts(row.get("games"), judge)
    rating, text = peer_files.finite_number(row.get("rating")), row.get("judgment")
    said = text if isinstance(text, str) else ""
    spec = benchmark.score.rating
    if rating is None or spec is None:
        failed = Unscored("recorded_failure", f"rating {row.get('rating')!r}")
        return (Verdict(judge, text=said, recorded=row.get("rating"), unscored=failed),)
    low, high = spec.scale
    if not low <= rating <= high:
        outside = Unscored("rating_out_of_range", f"{rating:g} is not in {low} to {high}")
        return (Verdict(judge, text=said, recorded=rating, unscored=outside),)
    return (Verdict(judge, rating, text=said, recorded=rating),)


def write_answers(rows: Sequence[Row], folder: Path, model: str, judge: str | None) -> None:
    """Write one line per answered item; prompts and references stay in the records."""
    lines = [
        {
            "id": row.item_id,
            "model": model,
            "answer": row.replies[-1].text,
            "score": next(iter(row.marks.get("score", ())), None),
        }
        | (_written(row.verdicts, judge) if judge is not None and row.verdicts else {})
        for row in rows
        if row.replies and row.replies[-1].text is not None
    ]
    write_jsonl(folder / ANSWER_FILE, lines)


def _written(verdicts: Sequence[Verdict], judge: str) -> dict[str, Any]:
    by_order = {verdict.order: verdict for verdict in verdicts}
    if "" in by_order:
        return {"judge": judge, "rating": by_order[""].value, "judgment": by_order[""].text}
    games = [by_order.get(order, Verdict()) for order in ORDERS]
    return {"judge": judge, "games": [{"score": game.value, "judgment": game.text} for game in games]}
