"""Recorded answers instead of a model: a file, or a model's folder in results/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalsuite.comparison.answer_rows import AnswerRow, answers_sha256, file_rows, folder_rows, models_named
from evalsuite.comparison.prompts import PromptSet, Question, Texts, texts_of
from evalsuite.errors import DataError
from evalsuite.files import exists
from evalsuite.results.reading import models_in
from evalsuite.text import plural

_CHECKPOINT_FILES = ("config.json", "adapter_config.json")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A model that is known only by its answers; ``n_unmatched`` counts the rows that answer none of the prompts."""

    name: str
    fingerprint: str
    answers: Mapping[str, Texts]
    n_unmatched: int = 0


def find_recorded(spec: str, prompts: PromptSet, results: Path | None = None) -> Recorded | None:
    """Read ``spec`` as recorded answers to ``prompts``; None when it is a model.

    It is ``[NAME=]PATH`` of a .json or .jsonl file in a benchmark's own or the plain format, or of a model's folder in
    results/ with answers to the suite that ``prompts`` are from; or the name of an imported model in ``results``. A row
    answers the prompt with its text; a row without a prompt answers the one with its id. Raises DataError.
    """
    name, path = _named_path(spec)
    if not exists(path) and results is not None:
        imported = [model for model in models_named(spec, results) if model.imported]
        path = imported[0].folder if len(imported) == 1 else path
    if exists(path) and path.is_dir():
        if any((path / file).exists() for file in _CHECKPOINT_FILES) or not (path / "scores.json").is_file():
            return None
        model = models_in(path)[0]
        rows = folder_rows(model, prompts.key) if prompts.key else []
        return _recorded(rows, name or model.name, path, prompts)
    if path.suffix not in {".json", ".jsonl"}:
        return None
    if not exists(path) or not path.is_file():
        raise DataError(f"cannot read {path}: no such file; give a model, or a file of recorded answers")
    rows, author = file_rows(path, name)
    return _recorded(rows, name or author or path.stem, path, prompts)


def _named_path(spec: str) -> tuple[str | None, Path]:
    """Split ``[NAME=]PATH`` at the first ``=`` before an existing path; a spec that is a path itself has no name."""
    splits = [position for position, letter in enumerate(spec) if letter == "="]
    choices = [(None, spec), *((spec[:at] or None, spec[at + 1 :]) for at in splits)]
    existing = [(name, path) for name, text in choices if text and exists(path := Path(text).expanduser())]
    return existing[0] if existing else (None, Path(spec).expanduser())


def _recorded(rows: Sequence[AnswerRow], name: str, path: Path, prompts: PromptSet) -> Recorded:
    questions = {question.id: question for question in prompts.questions}
    question_ids = _question_ids(rows, [*prompts.questions, *prompts.left_out])
    answers: dict[str, Texts] = {}
    for number, (row, question_id) in enumerate(zip(rows, question_ids, strict=True), 1):
        if question_id not in questions:
            continue
        if question_id in answers:
            raise DataError(f"{path} row {number} answers {question_id!r} a second time; keep one answer per prompt")
        n_turns = len(questions[question_id].turns)
        if len(row.replies) < n_turns:
            raise DataError(
                f"{path} row {number} has {plural(len(row.replies), 'answer')}; expected one to each of {n_turns} turns"
            )
        answers[question_id] = texts_of(row.replies[:n_turns])
    # An id without its prompt does not conflict where another row answers that prompt: the ids are the file's own.
    for number, (row, question_id) in enumerate(zip(rows, question_ids, strict=True), 1):
        if question_id is None and row.id in questions and row.id not in answers:
            raise DataError(
                f"{path} row {number} has the id {row.id!r}, under which {prompts.name} has a different prompt; "
                "give the same prompt, or leave out either the id or the prompt"
            )
    if not answers:
        raise DataError(f"{path} answers none of the {len(prompts.questions)} prompts of {prompts.name}")
    return Recorded(name, answers_sha256(rows), answers, question_ids.count(None))


def _question_ids(rows: Sequence[AnswerRow], questions: Sequence[Question]) -> list[str | None]:
    """Return for each row the id of the question that it answers; None where it answers none.

    Of several questions with the same text, a row takes the one of its id, and a row without such an id the next that
    is left; surplus rows take the first.
    """
    by_id = {question.id: question for question in questions}
    by_text: dict[str, list[str]] = {}
    for question in questions:
        by_text.setdefault(question.turns[0], []).append(question.id)
    candidates = [by_text.get(row.turns[0], []) if row.turns else None for row in rows]
    claims = [row.id if row.id in by_id else None for row in rows]
    chosen = [claim if ids is None or claim in ids else None for claim, ids in zip(claims, candidates, strict=True)]
    taken = set(chosen)
    for row, ids in enumerate(candidates):
        if ids and chosen[row] is None:
            chosen[row] = next((one for one in ids if one not in taken), ids[0])
            taken.add(chosen[row])
    return chosen
