"""Items of all models side by side: what was asked once, what each model answered, and a matrix of marks.

One part is read at a time, so that only its texts are in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import DataError
from evalsuite.records.files import RecordsFile, write_records
from evalsuite.records.rows import Reply, Row
from evalsuite.report.significance import Contexts, Marks
from evalsuite.results.reading import ModelResult
from evalsuite.results.records import RecordsOrExports, SuiteRecords, judge_id
from evalsuite.suites.figures import Column, ReportPart
from evalsuite.suites.registry import iter_suites, suites_by_key
from evalsuite.suites.repeats import with_first_marks

_PROTECTED_QUESTION, _PROTECTED_ANSWER = ("category", "note"), ("choices", "extracted", "unscored")
"""What a page may show of an item whose text is protected."""

_TITLE = 90
_encode = msgspec.json.Encoder().encode

THOUGHT, THOUGHT_CLOSED, CUT, OTHER_END, VERDICT_CLOSED = 1, 2, 4, 8, 16
"""Flags of an answer: it has a thought, the budget ended its thought, its own bound cut it, or something else did; a
verdict on it was completed under guided output."""


@dataclass(frozen=True, slots=True)
class PartSource:
    """One model's rows of a part; ``model`` is its number in the list of models."""

    model: int
    records: SuiteRecords
    part: str

    @property
    def n_bytes(self) -> int:
        records = self.records.records
        file = records.file if isinstance(records, RecordsOrExports) else records
        return file.n_bytes(self.part) if isinstance(file, RecordsFile) else 0


@dataclass(frozen=True, slots=True)
class PartSources:
    """A part of a suite: its name in the page, how it is shown, and the records of each model that answered it."""

    key: str
    name: str
    facts: ReportPart
    sources: list[PartSource]

    @property
    def n_bytes(self) -> int:
        return sum(source.n_bytes for source in self.sources)


class AnswerFacts(NamedTuple):
    """What the lists of a page filter answers by: why one is unscored, what was read from it, its flags."""

    unscored: str = ""
    extracted: str = ""
    flags: int = 0


@dataclass(slots=True)
class Tokens:
    """Sums over a model's answers to a part: of answers that were counted, and their tokens."""

    answers: int = 0
    thought: int = 0
    answer: int = 0

    def add(self, reply: Reply) -> None:
        if reply.thought_tokens or reply.answer_tokens:
            self.answers += 1
            self.thought += reply.thought_tokens
            self.answer += reply.answer_tokens


class Marked(NamedTuple):
    """One model's answers to a part, by item: marks on the scale of the part's column (NaN: unscored), and facts.

    Where the figure is a weighted mean of marks, ``weighted`` has each item's marks and their weights, by draw.
    """

    marks: dict[int, float]
    weighted: dict[int, NDArray[np.float64]]
    facts: dict[int, AnswerFacts]
    tokens: Tokens


@dataclass(slots=True)
class Part:
    """The items of one part; ``answers[i]`` maps a model to the JSON of its answer to item i."""

    labels: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    answers: list[dict[int, msgspec.Raw]] = field(default_factory=list)
    contexts: list[str] = field(default_factory=list)
    by_model: dict[int, Marked] = field(default_factory=dict)
    _by_id: dict[tuple[str, str], int] = field(default_factory=dict)
    _by_content: dict[str, list[int]] = field(default_factory=dict)

    def marks(self) -> dict[int, NDArray[np.float64]]:
        """Return one array per answering model with one mark per item, NaN if there is none."""
        arrays = {}
        for model, (marks, *_) in self.by_model.items():
            array = np.full(len(self.labels), nan)
            array[list(marks)] = list(marks.values())
            arrays[model] = array
        return arrays

    def tested(self) -> dict[int, NDArray[np.float64]]:
        """Return the marks that tests compare: their plain mean is the figure, also where that is a weighted mean.

        A weighted mean is linearised: the rate, and each item's influence on it (Woodruff 1971).
        """
        arrays = self.marks()
        for model, one in self.by_model.items():
            if one.weighted:
                arrays[model][list(one.weighted)] = _linearised(list(one.weighted.values()))
        return arrays

    def context_numbers(self) -> NDArray[np.intp]:
        """Return a number per item, the same where items share a context."""
        known: dict[str, int] = {}
        shared = [known.setdefault(text, item) if text else item for item, text in enumerate(self.contexts)]
        return np.array(shared, dtype=np.intp)

    def add(self, source: PartSource, facts: ReportPart) -> None:
        """Add one model's answers and marks; raises DataError, and whatever a suite raises."""
        suite, header = source.records.suite, source.records.header
        marks: dict[int, float] = {}
        weighted: dict[int, NDArray[np.float64]] = {}
        known: dict[int, AnswerFacts] = {}
        tokens = Tokens()
        for row in source.records.rows(source.part):
            answer = suite.answer_page(with_first_marks(row), header)
            turns, flags = _told(row.replies, tokens)
            flags |= VERDICT_CLOSED if any(verdict.closed_by_guide for verdict in row.verdicts) else 0
            if any(turns):
                answer["replies"] = turns
            if row.prompt is None:
                answer = _unprotected(answer, _PROTECTED_ANSWER)
            item = self._find(row, marks)
            if item is None:
                question = suite.question_page(row, header)
                if row.prompt is None:
                    question = _unprotected(question, _PROTECTED_QUESTION)
                item = self._append(row, question)
                self.contexts.append(suite.context_of(row))
            # One string instead of a dozen objects: there are a million answers.
            self.answers[item][source.model] = msgspec.Raw(_encode(answer))
            mark = row.mark(facts.metric)
            marks[item] = nan if mark is None else mark * facts.scale
            if facts.weight in row.marks:
                pair = (row.marks[facts.metric], row.marks[facts.weight])
                weighted[item] = np.array(pair, dtype=float) * [[facts.scale], [1.0]]
            unscored, extracted = answer.get("unscored"), answer.get("extracted")
            if unscored or extracted or flags:
                known[item] = AnswerFacts(str(unscored or ""), str(extracted or "").strip(), flags)
        self.by_model[source.model] = Marked(marks, weighted, known, tokens)

    def add_copy(self, source: PartSource, of: PartSource) -> None:
        """Add the answers and marks of another model as those of this one."""
        for answers in self.answers:
            if of.model in answers:
                answers[source.model] = answers[of.model]
        self.by_model[source.model] = self.by_model[of.model]

    def remove(self, source: PartSource) -> None:
        for answers in self.answers:
            answers.pop(source.model, None)
        self.by_model.pop(source.model, None)

    def _find(self, row: Row, taken: Mapping[int, float]) -> int | None:
        """Return the item that a row is about: that of its id and content, else another one of the same content."""
        item = self._by_id.get((row.item_id, row.content))
        if item is not None and item not in taken:
            return item
        alike = self._by_content.get(row.content, ()) if row.content else ()
        return next((item for item in alike if item not in taken), None)

    def _append(self, row: Row, question: dict[str, Any]) -> int:
        item = len(self.labels)
        self._by_id[row.item_id, row.content] = item
        self._by_content.setdefault(row.content, []).append(item)
        self.labels.append(row.item_id.removeprefix(f"{row.part}/"))
        self.titles.append(_title(question))
        self.questions.append(question)
        self.answers.append({})
        return item


def _linearised(items: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return a value per item, from its marks and weights by draw (2 by draws; one draw stands for all)."""
    n_draws = max(item.shape[1] for item in items)
    marks, weights = np.stack([np.broadcast_to(item, (2, n_draws)) for item in items]).transpose(1, 0, 2)
    weights = np.where(np.isnan(marks), nan, weights)
    counts = np.maximum(np.isfinite(marks).sum(axis=0), 1)
    with np.errstate(invalid="ignore"):  # a draw without any mark has no rate
        rates = np.nansum(marks * weights, axis=0) / np.nansum(weights, axis=0)
    mean_weights = np.nansum(weights, axis=0) / counts
    values = rates + weights / np.where(mean_weights > 0, mean_weights, nan) * (marks - rates)
    known = np.isfinite(values).sum(axis=1)
    return np.where(known > 0, np.nansum(values, axis=1) / np.maximum(known, 1), nan)


def part_sources(
    models: Sequence[ModelResult], columns: Sequence[Column], scratch: Path, faults: list[str]
) -> list[PartSources]:
    """Find the records of all models, in the order of the suites and of the columns that their parts belong to.

    Rows without a records file, such as those of version 0.1, are written into one in ``scratch``, so that
    they need no memory until their part is read. What cannot be read adds a sentence to ``faults``.
    """
    parts: dict[tuple[str, str], PartSources] = {}
    opened: dict[tuple[Path, str], SuiteRecords | None] = {}
    for number, model in enumerate(models):
        for key, suite in iter_suites(list(model.suites)):
            try:
                if (model.folder, key) not in opened:
                    opened[model.folder, key] = _on_disk(model.records(key), scratch / f"{number}-{key}.jsonl", faults)
                records = opened[model.folder, key]
                if records is None:
                    continue
                # A folder that several judges judged is read once; each of them has its own marks.
                records = replace(records, judge=judge_id(records.header, model.judge))
                for part in records.parts:
                    if (key, part) not in parts:
                        name = f"{key}/{part}" if part else key
                        parts[key, part] = PartSources(key, name, suite.report_part(key, part), [])
                    parts[key, part].sources.append(PartSource(number, records, part))
            except Exception as error:  # a suite of another package may raise anything; the other items stay
                faults.append(_fault(error, f"{key} in {model.folder}"))
    suite_ranks = {key: rank for rank, key in enumerate(suites_by_key())}
    column_ranks = {column.key: rank for rank, column in enumerate(columns)}
    last = len(column_ranks)
    return sorted(
        parts.values(), key=lambda part: (suite_ranks[part.key], column_ranks.get(part.facts.column, last), part.name)
    )


def _on_disk(records: SuiteRecords | None, path: Path, faults: list[str]) -> SuiteRecords | None:
    """Return records that are read from a file, which is written to ``path`` if there is none."""
    if records is None:
        return None
    _ = records.parts
    if isinstance(records.records, RecordsOrExports) and not records.note:
        return records
    if records.note:
        faults.append(_exports_instead(records.note))
    write_records(path, records.header, records.records.rows())
    return replace(records, records=RecordsFile(path))


def read_part(part: PartSources) -> tuple[Part, list[str]]:
    """Read one part of all models; a model whose items cannot be read is left out, with a sentence."""
    items, faults = Part(), []
    done: dict[tuple[int, str | None], PartSource] = {}
    for source in part.sources:
        rows = (id(source.records.records), source.records.judge)
        try:
            if rows in done:
                items.add_copy(source, done[rows])
            else:
                items.add(source, part.facts)
                done[rows] = source
        except Exception as error:  # a suite of another package may raise anything; the other items stay
            items.remove(source)
            faults.append(_fault(error, part.name))
        if source.records.note:
            faults.append(_exports_instead(source.records.note))
    return items, faults


def marks_behind(
    models: Sequence[ModelResult], columns: Sequence[Column], faults: list[str], suite: str | None = None
) -> tuple[Marks, Contexts]:
    """Return the marks that tests compare and the items' contexts, by part; of one suite if it is named."""
    marks, contexts = {}, {}
    with tempfile.TemporaryDirectory(prefix="evalsuite-marks-") as scratch:
        for source in part_sources(models, columns, Path(scratch), faults):
            if suite in (None, source.key):
                part, broken = read_part(source)
                faults += broken
                marks[source.name], contexts[source.name] = part.tested(), part.context_numbers()
    return marks, contexts


def _fault(error: Exception, name: str) -> str:
    if isinstance(error, DataError):
        return f"the items of {name}: {error}"
    return f"the items of {name}: {type(error).__name__}: {error}; upgrade the package of the suite"


def _exports_instead(note: str) -> str:
    return f"{note} (its items are read from the exports instead)"


def _unprotected(page: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {key: page[key] for key in names if key in page}


def _told(replies: Iterable[Reply], tokens: Tokens) -> tuple[list[dict[str, Any]], int]:
    """Return what is known of each turn besides its text, and the flags of the answer; its tokens are added up."""
    turns, flags = [], 0
    for reply in replies:
        known: dict[str, Any] = {"tokens": reply.answer_tokens} if reply.answer_tokens else {}
        turns.append(known)
        tokens.add(reply)
        if reply.finish == "stop" and not reply.thought_tokens and not reply.thought and not reply.thought_closed:
            continue  # Most replies have tokens and nothing else, and there are a million of them.
        if reply.thought or reply.thought_tokens:
            known |= {"thought": reply.thought, "thought_tokens": reply.thought_tokens}
            flags |= THOUGHT_CLOSED | THOUGHT if reply.thought_closed else THOUGHT
        if reply.thought_closed:
            known["closed"] = True
        if reply.finish != "stop":
            known["finish"] = reply.finish
            flags |= CUT if reply.finish == "length" else OTHER_END
    return turns, flags


def _title(question: Mapping[str, Any]) -> str:
    """Return the beginning of the first text of a question that has any, on one line."""
    texts = [*(question.get("messages") or []), *(text for _, text in question.get("fields") or [])]
    line = next((" ".join(text[: _TITLE * 3].split()) for text in texts if text and text.strip()), "")
    return line if len(line) <= _TITLE else line[: _TITLE - 1] + "…"
