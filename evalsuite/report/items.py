"""Items of all models side by side: what was asked once, what each model answered, and a matrix of marks.

One part is read at a time, so that only its texts are in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import DataError
from evalsuite.report.item_files import (
    ItemRow,
    alpaca_rows,
    first_line,
    is_there,
    mixeval_rows,
    mt_bench_rows,
    sample_rows,
)
from evalsuite.report.reading import ModelResult
from judges.types import Unscored

_SPLITS = ("free_form", "multiple_choice")
_SPLIT_WORDS = {"free_form": "free-form", "multiple_choice": "multiple choice"}
_METRICS = {
    "bbh": "acc_norm",
    "gpqa": "acc_norm",
    "math": "exact_match",
    "musr": "acc_norm",
    "ifeval": "prompt_level_strict_acc",
    "mmlu_pro": "acc",
}
_TASK = re.compile(r"samples_(?P<task>.+?)(_\d{4}-\d\d-\d\dT.*)?\.jsonl")


@dataclass(slots=True)
class Part:
    """The items of one part (``mt_bench``, ``mixeval/free_form``, ``openllm/bbh/<task>``).

    ``column`` is the table's column that they belong to, ``top`` the best mark. ``answers[i]`` maps a model's place to
    its answer to item i, ``places`` an item's key to i. Marks are on the column's scale, NaN where unscored or unasked.
    """

    name: str
    title: str
    column: str
    top: float
    labels: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[int, dict[str, Any]]] = field(default_factory=list)
    places: dict[Any, int] = field(default_factory=dict)
    marks_by_place: dict[int, dict[int, float]] = field(default_factory=dict)

    def marks(self) -> dict[int, NDArray[np.float64]]:
        """Return one array an answering model, one mark an item."""
        arrays = {}
        for place, marks in self.marks_by_place.items():
            array = np.full(len(self.labels), nan)
            array[list(marks)] = list(marks.values())
            arrays[place] = array
        return arrays


@dataclass(frozen=True, slots=True)
class Source:
    """One model's file (or folder) behind a part."""

    place: int
    model: ModelResult
    path: Path
    key: str = ""


@dataclass(frozen=True, slots=True)
class PartFiles:
    """A part's name and where each model's answers to it are recorded."""

    name: str
    sources: Sequence[Source]

    @property
    def recorded_bytes(self) -> int:
        return sum(_bytes_of(source.path) for source in self.sources)


def _bytes_of(path: Path) -> int:
    try:
        return sum(_bytes_of(own) for own in path.iterdir()) if path.is_dir() else path.stat().st_size
    except OSError:
        # Reading it says what is wrong.
        return 0


def read_part(files: PartFiles) -> tuple[Part, list[str]]:
    """Read one part of all models; a file that cannot be read leaves its model out and adds a sentence."""
    part, faults = _empty_part(files.name), []
    for source in files.sources:
        try:
            _add(part, source.place, _read(files.name, source))
        except DataError as error:
            faults.append(str(error))
    return part, faults


def part_files(models: Sequence[ModelResult]) -> list[PartFiles]:
    """Find the recorded items of all models, in the order of the suites."""
    found: dict[str, list[Source]] = {"mt_bench": [], "alpaca_eval": []}
    tasks: dict[str, list[Source]] = {}
    for place, model in enumerate(models):
        folder = model.folder
        if any(is_there(folder / "mt_bench" / name) for name in ("model_answer.jsonl", "model_judgment.jsonl")):
            found["mt_bench"].append(Source(place, model, folder / "mt_bench"))
        if is_there(folder / "alpaca_eval" / "annotations.json"):
            found["alpaca_eval"].append(Source(place, model, folder / "alpaca_eval"))
        for key, path in _mixeval_files(model):
            found.setdefault(f"{key}/{path.stem}", []).append(Source(place, model, path, key))
        for path in sorted(folder.glob("openllm/samples_*.jsonl")):
            task = (_TASK.fullmatch(path.name) or {"task": path.stem})["task"]
            if (column := openllm_part(task)) is not None:
                tasks.setdefault(f"openllm/{column}/{task}", []).append(Source(place, model, path, column))
    order = {name: place for place, name in enumerate(_METRICS)}
    ranked = sorted(tasks, key=lambda name: (order[name.split("/")[1]], name))
    everything = found | {name: tasks[name] for name in ranked}
    return [PartFiles(name, sources) for name, sources in everything.items() if sources]


def _mixeval_files(model: ModelResult) -> Iterator[tuple[str, Path]]:
    """Yield (suite key, file). A run of both MixEval and MixEval-Hard tells them apart by their folder."""
    for key in ("mixeval", "mixeval_hard"):
        if key not in model.suites:
            continue
        shared = key == "mixeval_hard" and "mixeval" not in model.suites
        folder = next((path for path in (model.folder / key, model.folder / "mixeval") if path.is_dir()), None)
        if folder is None or (folder.name != key and not shared):
            continue
        for split in _SPLITS:
            path = folder / f"{split}.jsonl"
            if is_there(path) and not _is_empty(path):
                yield key, path


def _is_empty(path: Path) -> bool:
    try:
        return not path.stat().st_size
    except OSError:
        return False


def openllm_part(task: str) -> str | None:
    """Return the part of Open LLM that an lm-eval task belongs to, None for a foreign one."""
    for part in _METRICS:
        if task.startswith((f"leaderboard_{part}", f"mini_{part}")):
            return part
    return None


def _empty_part(name: str) -> Part:
    if name == "mt_bench":
        return Part(name, "MT-Bench", "mt_bench", 10.0)
    if name == "alpaca_eval":
        return Part(name, "AlpacaEval 2", "alpaca_win_rate", 100.0)
    suite, _, rest = name.partition("/")
    if suite == "openllm":
        column, _, task = rest.partition("/")
        return Part(name, task, column, 1.0)
    title = "MixEval" if suite == "mixeval" else "MixEval-Hard"
    return Part(name, f"{title}, {_SPLIT_WORDS[rest]}", suite, 1.0)


def _read(name: str, source: Source) -> list[ItemRow]:
    if name == "mt_bench":
        return mt_bench_rows(source.path, mt_bench_questions(source.model.scores["data"]))
    if name == "alpaca_eval":
        return alpaca_rows(source.path)
    if name.startswith("mixeval"):
        return mixeval_rows(source.path, _rule_marks(source))
    return sample_rows(source.path, _METRICS[source.key], protected=source.key == "gpqa")


def _rule_marks(source: Source) -> dict[str, float | Unscored] | None:
    """Mark one split by MixEval's rule parser where the recorded figures come from it; None otherwise."""
    if source.model.suites[source.key].get("parser") != "rule":
        return None
    from evalsuite.suites.base import SuiteOptions
    from evalsuite.suites.mixeval.peer import recorded_records
    from evalsuite.suites.mixeval.scores import marks_by_rule

    records = recorded_records(source.path, SuiteOptions(mixeval_parser="rule"))
    marks = marks_by_rule(records, as_published=False)
    return {str(record.item.data["id"]): mark.value for record, mark in zip(records, marks, strict=True)}


def mt_bench_questions(data: str) -> dict[str, dict[str, Any]]:
    """Return MT-Bench's questions by id from what is on this machine; FastChat's files do not repeat them."""
    from evalsuite.assets.find import locate
    from evalsuite.assets.pins import asset_named
    from evalsuite.suites.mini_data import mini_rows

    if data == "mini":
        rows: list[dict[str, Any]] = mini_rows(Path(__file__).parents[1] / "suites/mt_bench/mini/question.jsonl")[0]
        return {str(row["question_id"]): row for row in rows}
    try:
        rows = locate(asset_named("mt_bench/question"), fetch=False, with_rows=True)[1]
    except DataError:
        # Without the questions a page shows what the judge was shown, which holds them.
        return {}
    return {str(row["question_id"]): dict(row) for row in rows}


def _add(part: Part, place: int, rows: Sequence[ItemRow]) -> None:
    marks: dict[int, float] = {}
    for row in rows:
        position = part.places.get(row.key)
        if position is None:
            position = part.places[row.key] = len(part.labels)
            question = row.question()
            part.labels.append(row.label)
            part.titles.append(_title(question))
            part.questions.append(question)
            part.answers.append({})
        part.answers[position][place] = row.answer
        marks[position] = nan if row.value is None else row.value
    part.marks_by_place[place] = marks


def _title(question: Mapping[str, Any]) -> str:
    fields = [text for _, text in question.get("fields") or []]
    return first_line([*(question.get("messages") or []), *fields])
