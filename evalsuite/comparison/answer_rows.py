"""Recorded answers as rows: from a model's folder in results/, a benchmark's own file, or a plain one.

A plain row is an object with a prompt and an answer, and perhaps ``id``, ``category`` and ``model``:

    {"id": "tea-1", "prompt": "Write an invitation to a tea tasting.", "answer": "Dear friends, ..."}

The prompt is ``prompt``, ``instruction``, ``question`` or ``turns`` (a text, or a list of one per turn); the answer
``answer``, ``answers``, ``output`` or ``response``. Why there is no answer may be given as ``unscored``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.comparison.requests import dialogue_of
from evalsuite.errors import DataError, EvalsuiteError
from evalsuite.files import read_objects
from evalsuite.records.rows import Reply, Row
from evalsuite.results.reading import ModelResult, models_in
from evalsuite.results.records import all_records, suite_records
from evalsuite.suites.peer_files import id_text, recorded_reason
from evalsuite.suites.registry import suites
from evalsuite.suites.types import Recorded
from judges.types import Unscored, user_texts

_AUTHOR_KEYS = ("model", "model_id", "generator")
_ANSWER_KEYS = ("answers", "answer", "output", "response")


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """The recorded answers to one prompt, one reply per turn: its text, or why there is none.

    ``turns`` are the user's turns, () where only ``id`` is known. ``source`` is the suite, with its part after a slash,
    "" for a plain row.
    """

    turns: tuple[str, ...]
    replies: tuple[str | Unscored, ...]
    id: str = ""
    source: str = ""


def folder_rows(model: ModelResult, key: str | None = None) -> list[AnswerRow]:
    """Return the answers in a model's folder: those to the suite ``key``, or to all suites that are conversations."""
    if key is not None:
        one = suite_records(model.folder, key, model.scores, model.manifest)
        recorded = [one] if one else []
    else:
        recorded = [one for one in all_records(model.folder, model.scores, model.manifest) if one.suite.needs_chat]
    return [answer for one in recorded for answer in _answer_rows(one.key, one.records.rows())]


def models_named(name: str, results: Path) -> list[ModelResult]:
    """Return the models of a results folder with this name, by folder."""
    matches = []
    for file in sorted(results.glob("*/scores.json")):
        try:
            model = models_in(file.parent)[0]
        except DataError:
            # A broken folder has no name; whoever gives its path is told what is wrong.
            continue
        if name in (model.name, model.slug):
            matches.append(model)
    return matches


def file_rows(path: Path, name: str | None = None) -> tuple[list[AnswerRow], str | None]:
    """Read a .json or .jsonl file of answers: (the rows of one model, the model that they name or None).

    Of a file with several models ``name`` picks one. Raises DataError.
    """
    rows = read_rows(path)
    authors = authors_of(rows)
    picked = name if name in authors else None
    if len(authors) > 1 and picked is None:
        raise DataError(f"{path} contains answers from {', '.join(authors[:3])}; pick one as NAME={path}")
    recorded = peer_file(path, rows[0], picked)
    if recorded is not None:
        answers = _answer_rows(recorded.header.suite, recorded.rows)
    else:
        kept = [(number, row) for number, row in enumerate(rows, 1) if picked in (None, author_of(row))]
        answers = [_plain_row(row, f"{path} row {number}") for number, row in kept]
    return answers, picked or (authors[0] if authors else None)


def peer_file(path: Path, first_row: Mapping[str, Any], model: str | None = None) -> Recorded | None:
    """Read a file in a benchmark's own format; None where no suite recognises it. Raises DataError."""
    suite = next((suite for suite in suites().values() if suite.recognises(first_row)), None)
    if suite is None:
        return None
    try:
        return suite.read_peer(path, suite.options_type(), model)
    except DataError:
        raise
    except EvalsuiteError as error:
        raise DataError(f"{path}: {error}") from error


def authors_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the models that rows name, in alphabetical order."""
    return sorted({author for row in rows if (author := author_of(row)) is not None})


def author_of(row: Mapping[str, Any]) -> str | None:
    """Return the model that a row names, None where it names none."""
    author = next((row[key] for key in _AUTHOR_KEYS if row.get(key)), None)
    return None if author is None else str(author)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a file of at least one object; raises DataError."""
    rows = read_objects(path)
    if not rows:
        raise DataError(f"{path} is empty; give at least one object")
    return rows


def answers_sha256(rows: Iterable[AnswerRow]) -> str:
    """Return the SHA-256 of prompts and answers, by which recorded answers are known wherever they are kept."""
    digest = hashlib.sha256()
    for row in rows:
        texts = [None if isinstance(reply, Unscored) else reply for reply in row.replies]
        digest.update(json.dumps([row.source, row.id, row.turns, texts]).encode() + b"\n")
    return digest.hexdigest()


def text_of(reply: Reply) -> str | Unscored:
    """Return a reply's text, or why it has none."""
    return reply.text if reply.text is not None else reply.unscored or Unscored("no_answer")


def _answer_rows(key: str, rows: Iterable[Row]) -> list[AnswerRow]:
    """Convert rows of records, without protected prompts, log-likelihood items and items that were not answered."""
    return [
        AnswerRow(
            tuple(user_texts(row.prompt)),
            tuple(map(text_of, row.replies)),
            f"{row.part}/{row.item_id}" if row.part else row.item_id,
            f"{key}/{row.part}" if row.part else key,
        )
        for row in rows
        if row.prompt is not None and row.replies and not any(reply.choices for reply in row.replies)
    ]


def answer_texts(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the answers of a plain row, one per turn, () where it has none."""
    value = next((row[key] for key in _ANSWER_KEYS if isinstance(row.get(key), str | list)), ())
    return (value,) if isinstance(value, str) else tuple(value)


def _plain_row(row: Mapping[str, Any], origin: str) -> AnswerRow:
    texts = answer_texts(row)
    if not texts:
        raise DataError(f"{origin} has no answer; give 'answer', 'answers', 'output' or 'response'")
    reasons = row.get("unscored")
    each = reasons if isinstance(reasons, list) else [reasons] * len(texts)
    replies = tuple(_reply(text, each[turn] if turn < len(each) else None) for turn, text in enumerate(texts))
    ids = [id_text(row[key]) for key in ("id", "question_id") if row.get(key) is not None]
    asked = dialogue_of(row, "a row")
    return AnswerRow(() if asked is None else asked.request.turns, replies, ids[0] if ids else "")


def _reply(text: object, reason: Any) -> str | Unscored:
    if reason:
        reason = reason.get("reason") if isinstance(reason, Mapping) else str(reason).partition(":")[0]
        return recorded_reason(reason)
    return text if isinstance(text, str) else Unscored("no_answer")
