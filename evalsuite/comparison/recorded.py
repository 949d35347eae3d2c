"""Answers that were recorded before: a file, or a model's folder in results/, in place of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.comparison.prompts import PromptSet, Question, Texts, read_rows, user_turns
from evalsuite.errors import DataError
from evalsuite.files import exists, read_json
from evalsuite.fingerprint import files_sha256
from judges.types import Unscored

_EXPORTS = {"mt_bench": "mt_bench/model_answer.jsonl", "alpaca_eval": "alpaca_eval/model_outputs.json"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """A model that is known only by its answers."""

    name: str
    fingerprint: str
    path: Path
    answers: Mapping[str, Texts]


def find_recorded(word: str, prompts: PromptSet) -> Recorded | None:
    """Read ``word`` as recorded answers to ``prompts``; None when it is a model.

    It is ``[NAME=]FILE`` with a .json or .jsonl file in FastChat's (``question_id``, ``choices``),
    alpaca_eval's (``instruction``, ``output``) or a plain format (a prompt or an id, and ``answer``),
    or a folder of results/ that holds such a file for this suite. A row belongs to the prompt whose
    words it has, and without words to the one of its id. Raises DataError in one sentence.
    """
    name, path = _named_path(word)
    there = exists(path)
    if there and path.is_dir() and not (path / "config.json").exists() and not (path / "adapter_config.json").exists():
        export = path / _EXPORTS.get(prompts.name, "")
        if not export.is_file():
            return None
        return _read(export, name or folder_name(path), prompts)
    if path.suffix not in {".json", ".jsonl"}:
        return None
    if not there or not path.is_file():
        raise DataError(f"cannot read {path}: no such file; give a model, or a file of recorded answers")
    return _read(path, name, prompts)


def _named_path(word: str) -> tuple[str | None, Path]:
    """Split ``[NAME=]PATH`` at the first ``=`` behind which something exists; a word that exists itself has no name."""
    splits = [position for position, letter in enumerate(word) if letter == "="]
    choices = [(None, word), *((word[:at] or None, word[at + 1 :]) for at in splits)]
    found = [(name, path) for name, place in choices if place and exists(path := Path(place).expanduser())]
    return found[0] if found else (None, Path(word).expanduser())


def folder_name(folder: Path) -> str:
    """Return the name of the model whose results stand in ``folder``, else the folder's own."""
    scores = folder / "scores.json"
    if scores.is_file():
        document = read_json(scores)
        if isinstance(document, dict) and isinstance(document.get("model"), dict):
            return str(document["model"].get("name") or folder.name)
    return folder.name


def _read(path: Path, name: str | None, prompts: PromptSet) -> Recorded:
    rows = read_rows(path)
    authors = sorted({str(author) for row in rows if (author := row.get("model_id") or row.get("generator"))})
    if name is None and len(authors) > 1:
        raise DataError(f"{path} holds answers of {', '.join(authors[:3])}; give a file with those of one model")
    asked = {question.id: question for question in prompts.questions}
    places = _places(rows, [*prompts.questions, *prompts.left_out])
    answers: dict[str, Texts] = {}
    for number, (row, found) in enumerate(zip(rows, places, strict=True), 1):
        if found not in asked:
            continue
        if found in answers:
            raise DataError(f"{path} row {number} answers {found!r} a second time; keep one answer a prompt")
        answers[found] = _texts_of(row, len(asked[found].turns), f"{path} row {number}")
    # Where another row answers the prompt in its words, the id was a number of the file's own.
    for number, (row, found) in enumerate(zip(rows, places, strict=True), 1):
        if found is None and (claimed := _id_of(row, asked)) is not None and claimed not in answers:
            raise DataError(
                f"{path} row {number} has the id {claimed!r} but not the prompt that {prompts.name} has under it; "
                "give the prompt in its very words, or leave either out"
            )
    if not answers:
        raise DataError(f"{path} answers none of the {len(prompts.questions)} prompts of {prompts.name}")
    return Recorded(name or (authors[0] if authors else path.stem), files_sha256([path]), path, answers)


def _places(rows: Sequence[Mapping[str, Any]], questions: Sequence[Question]) -> list[str | None]:
    """Return for each row the id of the question that it answers; None where it answers none.

    That is the one with the row's words, or without words the one of its id. Where several have the same words, rows
    whose id is one of theirs come first, and the others take what is left in order; too many share the first.
    """
    by_id = {question.id: question for question in questions}
    by_text: dict[str, list[str]] = {}
    for question in questions:
        by_text.setdefault(question.turns[0], []).append(question.id)
    turns = [user_turns(row) for row in rows]
    same = [None if asked is None else by_text.get(asked[0], []) for asked in turns]
    claims = [_id_of(row, by_id) for row in rows]
    places = [claim if ids is None or claim in ids else None for claim, ids in zip(claims, same, strict=True)]
    taken = set(places)
    for row, ids in enumerate(same):
        if ids and places[row] is None:
            places[row] = next((one for one in ids if one not in taken), ids[0])
            taken.add(places[row])
    return places


def _id_of(row: Mapping[str, Any], by_id: Mapping[str, Question]) -> str | None:
    return next((str(row[key]) for key in ("id", "question_id") if str(row.get(key)) in by_id), None)


def _texts_of(row: Mapping[str, Any], n_turns: int, where: str) -> Texts:
    texts = recorded_texts(row)
    if texts is None or len(texts) < n_turns or not all(isinstance(text, str) for text in texts[:n_turns]):
        raise DataError(f"{where} has no answer to {n_turns} turn(s); give 'answer', 'output' or FastChat's 'choices'")
    reasons = row.get("unscored")
    for reason in reasons[:n_turns] if isinstance(reasons, list) else [reasons]:
        if reason is not None:
            return Unscored("no_answer", str(reason))
    if "$ERROR$" in texts[:n_turns]:
        return Unscored("recorded_failure", "$ERROR$")
    return tuple(texts[:n_turns])


def recorded_texts(row: Mapping[str, Any]) -> Sequence[Any] | None:
    """Return a recorded row's answers, one a turn, in FastChat's, alpaca_eval's or a plain format; None without any."""
    choices = row.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        turns = choices[0].get("turns")
        return turns if isinstance(turns, list) else None
    for key in ("answers", "answer", "output"):
        if isinstance(row.get(key), str):
            return [row[key]]
        if isinstance(row.get(key), list):
            return list(row[key])
    return None
