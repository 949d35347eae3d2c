"""Recorded answers of a benchmark in a file: JSON lines with id (or prompt) and answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite.errors import DataError
from evalsuite.files import read_objects, write_jsonl
from evalsuite.records.rows import Draw, Reply, Row, replaced
from evalsuite.suites import peer_files
from evalsuite.suites.file.baseline import recorded_answers
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.types import Recorded
from judges.types import Unscored

ANSWER_FILE = "answers.jsonl"


def read_recorded(
    path: Path, options: SuiteOptions, suite: str, rows: Mapping[str, Row], items: Mapping[str, Mapping[str, Any]]
) -> Recorded:
    """Read answers by id or prompt; an item that the file lacks is ``no_answer``.

    Raises DataError for a file without any answer to these prompts.
    """
    file = peer_files.file_of(path, ANSWER_FILE)
    answers = recorded_answers(read_objects(file), list(items.values()))
    if not answers.keys() & rows.keys():
        raise DataError(f"{file} answers none of the {len(rows)} prompts of {suite}; give rows with id and answer")
    lost = Reply(unscored=Unscored("no_answer"))
    answered = [
        replaced(row, draws=(Draw((Reply(answers[item_id]) if item_id in answers else lost,)),))
        for item_id, row in rows.items()
    ]
    return peer_files.recorded_by(None, suite, answered, options)


def write_answers(rows: Sequence[Row], folder: Path, model: str) -> None:
    """Write one line per item: id, model, answer, score; prompts and references stay in the records."""
    lines = [
        {
            "id": row.item_id,
            "model": model,
            "answer": row.replies[-1].text if row.replies else None,
            "score": next(iter(row.marks.get("score", ())), None),
        }
        for row in rows
    ]
    write_jsonl(folder / ANSWER_FILE, [line for line in lines if line["answer"] is not None])
