"""The baseline of a pairwise benchmark: recorded answers, or those of a model that ran the same suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite.assets.asset import Pin
from evalsuite.assets.rows import rows_sha256
from evalsuite.errors import DataError
from evalsuite.files import read_objects, without_nan
from evalsuite.records.files import RecordsFile, records_path
from evalsuite.suites.file.definition import Benchmark
from evalsuite.suites.peer_files import id_text

ANSWER_FIELDS = ("answer", "response", "output")
_SHOWN_CHARS = 60


def baseline_answers(
    benchmark: Benchmark, items: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, str], dict[str, Pin], list[str]]:
    """Return the baseline's answer by item id, its pin, and what is wrong with it; nothing if there is none."""
    spec = benchmark.score.pairwise
    if spec is None:
        return {}, {}, []
    path = (benchmark.folder / spec.baseline).expanduser()
    try:
        if path.is_dir():
            found = _of_run(path, benchmark.name)
        else:
            given = answers_by_item(read_objects(path), items, path)
            found = {item_id: one["text"] for item_id, one in given.items() if one["text"] is not None}
    except DataError as error:
        return {}, {}, [f"the baseline: {error}"]
    missing = [item for item in items if item["id"] not in found]
    kept = {item["id"]: found[item["id"]] for item in items if item["id"] in found}
    faults = []
    if missing:
        first = f"id {missing[0]['id']!r}"
        if missing[0]["id"] == missing[0]["content"]:
            first = repr(missing[0]["prompt"][-1].content[:_SHOWN_CHARS])
        faults.append(f"the baseline {path.name} lacks {len(missing)} of {len(items)} prompts, the first: {first}")
    sha256 = rows_sha256([{"id": item_id, "answer": answer} for item_id, answer in kept.items()])
    return kept, {f"{benchmark.name}/baseline": Pin(sha256, "file", pinned=True)}, faults


def _of_run(folder: Path, suite: str) -> dict[str, str]:
    path = records_path(folder, suite)
    if not path.is_file():
        raise DataError(f"{folder} has no records of {suite}; run that model on this file first, with any baseline")
    answers = ((row.item_id, row.replies[-1].text if row.replies else None) for row in RecordsFile(path).rows())
    return {item_id: text for item_id, text in answers if text is not None}


def answers_by_item(
    rows: Iterable[Mapping[str, Any]], items: Sequence[Mapping[str, Any]], path: Path
) -> dict[str, dict[str, Any]]:
    """Return {"text", "row"} of recorded answers by item id: rows name the item by id or by its last turn.

    The text of a null answer is None, and a number is its text. Raises DataError for a row without an answer, and for
    a second answer to an item.
    """
    by_prompt = {item["prompt"][-1].content: item["id"] for item in items}
    answers: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        where, fields = f"{path} row {number}", [field for field in ANSWER_FIELDS if field in row]
        if not fields:
            raise DataError(f"{where} has no {' or '.join(ANSWER_FIELDS)}; give each row an answer, null for none")
        text = without_nan(row[fields[0]])
        if isinstance(text, bool) or not isinstance(text, str | int | float | None):
            raise DataError(f"{where}: {fields[0]!r} is not a text; give the answer as a text, or null for none")
        given = row.get("id")
        given = by_prompt.get(str(row.get("prompt"))) if given is None else given
        if given is None:
            continue
        item_id = id_text(given)
        if item_id in answers:
            raise DataError(f"{where}: duplicate answer to {item_id!r}; give one answer to each prompt")
        answers[item_id] = {"text": None if text is None else id_text(text), "row": row}
    return answers
