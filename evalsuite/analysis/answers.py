"""Recorded answers, whoever recorded them: a model's folder in results/, `evalsuite generate` output, or a file.

A prompt is identified by the hash of the user's turns so far, so that the answers of two models to the same prompt
meet wherever they were recorded. Failed and empty answers are not answers: they are counted by reason.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import listed
from evalsuite.comparison.answer_rows import AnswerRow, author_of, file_rows, folder_rows, models_named, read_rows
from evalsuite.conversations.formats import READ_COLUMNS, Format, detect_format, prompts_of
from evalsuite.errors import DataError, UsageError
from evalsuite.files import exists, plain_name
from evalsuite.results.reading import models_in
from evalsuite.validation import repeated
from judges.types import Unscored

_CHAT_KEYS = ("conversation", "messages", "conversations")
_COLUMNS = {*READ_COLUMNS, "model"}
_ENDED = ("stop", "length")
_FORMS = "a model's results folder, generate's output, or a .parquet, .jsonl or .json file of answers"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. ``turn`` counts the user's turns from 1.

    ``prompt_hash`` is :func:`prompt_hash` of these turns; ``conversation`` is that of the first turn alone, which
    all answers of a conversation share: the unit to draw in a bootstrap. ``source`` is the suite or the file.
    """

    prompt_hash: str
    turn: int
    text: str
    source: str
    conversation: str = ""

    @property
    def cluster(self) -> str:
        return self.conversation or self.prompt_hash


@dataclass(frozen=True, slots=True)
class Answers:
    """A model's answers in recorded order; ``unscored`` counts the failed and empty ones by reason.

    ``fingerprint`` is the SHA-256 over prompts and answers.
    """

    name: str
    fingerprint: str
    answers: tuple[Answer, ...]
    unscored: Mapping[str, int] = field(default_factory=dict)

    @property
    def by_prompt(self) -> dict[str, Answer]:
        """The answers by prompt hash; of a prompt that was asked several times, the first."""
        return {answer.prompt_hash: answer for answer in reversed(self.answers)}

    def as_provenance(self) -> dict[str, Any]:
        """Return what was read in JSON's own types."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "n_answers": len(self.answers),
            "sources": dict(Counter(answer.source for answer in self.answers)),
            "unscored": dict(self.unscored),
        }


@dataclass(slots=True)
class _Collected:
    """What has been read so far; ``authors`` are the models that the rows name."""

    answers: list[Answer] = field(default_factory=list)
    unscored: Counter[str] = field(default_factory=Counter)
    authors: set[str] = field(default_factory=set)

    def add(self, turns: Sequence[str], reply: str | Unscored, source: str, identity: str = "") -> None:
        """Keep the reply to the last of ``turns``, or count why there is none.

        ``identity`` stands for a prompt whose turns are not known.
        """
        if isinstance(reply, Unscored):
            self.unscored[reply.reason] += 1
        elif not reply.strip():
            self.unscored["empty"] += 1
        else:
            own, first = hashes_of(turns, identity)
            self.answers.append(Answer(own, len(turns), reply, source, first))

    def as_answers(self, name: str) -> Answers:
        digest = hashlib.sha256()
        for answer in self.answers:
            digest.update(json.dumps([answer.prompt_hash, answer.source, answer.text]).encode() + b"\n")
        return Answers(name, digest.hexdigest(), tuple(self.answers), dict(self.unscored))


def prompt_hash(turns: Sequence[str]) -> str:
    """Return the SHA-256 that identifies a prompt: of the user's turns so far, in order, as a JSON list."""
    return hashlib.sha256(json.dumps(list(turns)).encode()).hexdigest()


def hashes_of(turns: Sequence[str], identity: str = "") -> tuple[str, str]:
    """Return the hashes of the turns and of the first; ``identity`` replaces turns that are not known."""
    if identity:
        return prompt_hash([identity, str(len(turns))]), prompt_hash([identity])
    return prompt_hash(turns), prompt_hash(turns[:1])


def split_name(spec: str) -> tuple[str | None, str]:
    """Split ``[NAME=]PATH``; a spec that is an existing path has no name in front."""
    name, separator, path = spec.partition("=")
    if not separator or exists(Path(spec).expanduser()):
        return None, spec
    return name.strip() or None, path


def read_answers(spec: str, results: Path) -> Answers:
    """Read recorded answers; raises DataError.

    ``spec`` is ``[NAME=]PATH``: a model's folder in ``results`` by its name (or the model's name where only one folder
    has it) or any path to one; an output folder of ``evalsuite generate``; or a .parquet, .json or .jsonl file
    with chats (``conversation``, ``messages`` or ``conversations``) or answers in a benchmark's own or the plain
    format (a prompt and ``answer``, ``output`` or ``response``).
    """
    name, place = split_name(spec)
    path = find_path(place, results)
    collected = _Collected()
    own_name = _read_folder(path, collected) if path.is_dir() else _read_file(path, name, collected)
    if not collected.answers:
        counts = ", ".join(f"{count} {reason}" for reason, count in collected.unscored.items())
        raise DataError(f"{path} has no answers{f' ({counts})' if counts else ''}; give {_FORMS}")
    authors = sorted(collected.authors)
    if name is None and len(authors) > 1 and not path.is_dir():
        raise DataError(f"{path} contains answers from {', '.join(authors[:3])}; give a file with one model's answers")
    default = authors[0] if len(authors) == 1 else path.name if path.is_dir() else path.stem
    return collected.as_answers(name or own_name or default)


def check_names(names: Sequence[str]) -> None:
    """Raise UsageError for two models of one name."""
    if duplicates := repeated(names):
        raise UsageError(f"two models are called {duplicates[0]!r}; name them as NAME=PATH")


def find_path(place: str, results: Path) -> Path:
    """Return the path of recorded answers: a path, a folder's name in ``results``, or a model's; raises DataError."""
    path = Path(place).expanduser()
    if exists(path):
        return path
    if exists(results / place) and (results / place).is_dir():
        return results / place
    matches = [model.folder for model in models_named(place, results)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise DataError(f"{place} names {len(matches)} folders of {results}; give one of {_listed(matches)}")
    folders = _listed(sorted(file.parent for file in results.glob("*/scores.json")))
    raise DataError(f"no answers found for {place!r}; give {_FORMS}" + (f" ({results}: {folders})" if folders else ""))


def _listed(folders: Sequence[Path]) -> str:
    return listed([folder.name for folder in folders], most=5)


def _read_folder(folder: Path, collected: _Collected) -> str | None:
    """Read a model's folder of results/, or the Parquet files of generate; returns the model's name where known."""
    if (folder / "scores.json").is_file():
        model = models_in(folder)[0]
        _add_rows(folder_rows(model), str(folder), collected)
        return model.name
    files = sorted(folder.glob("*.parquet"))
    for file in files:
        _read_parquet(file, collected)
    if files:
        return None
    inner = sorted({path.parent for path in folder.glob("*/*.parquet")})
    if len(inner) == 1:
        return _read_folder(inner[0], collected)
    if inner:
        raise DataError(f"{folder} contains several models ({_listed(inner)}); give one of these folders")
    if models := sorted(path.parent for path in folder.glob("*/scores.json")):
        raise DataError(f"{folder} has the results of {_listed(models)}; give one of these folders")
    raise DataError(f"{folder} has no answers; give {_FORMS}")


def _read_file(path: Path, name: str | None, collected: _Collected) -> str | None:
    """Read one file; returns the model that it names where that is certain."""
    if path.suffix == ".parquet":
        _read_parquet(path, collected)
        return None
    if not plain_name(path).endswith((".json", ".jsonl")):
        raise DataError(f"{path} is not a file of answers; give {_FORMS}")
    rows = read_rows(path)
    if any(key in rows[0] for key in _CHAT_KEYS):
        _read_chats(rows, path.name, detect_format(list(rows[0]), str(path)), collected)
        return None
    answers, author = file_rows(path, name)
    _add_rows(answers, str(path), collected)
    return author


def _add_rows(rows: Iterable[AnswerRow], origin: str, collected: _Collected) -> None:
    for number, row in enumerate(rows, 1):
        if not row.turns and not row.source:
            raise DataError(f"{origin} row {number} has no prompt; give 'prompt' and 'answer', or a chat")
        identity = "" if row.turns else f"{row.source}:{row.id}"
        turns = row.turns or [f"item {row.id}"] * len(row.replies)
        for turn, reply in enumerate(row.replies[: len(turns)], 1):
            collected.add(turns[:turn], reply, row.source or Path(origin).name, identity)


def _read_chats(rows: Iterable[Mapping[str, Any]], source: str, layout: Format, collected: _Collected) -> None:
    """Read conversations: each assistant turn answers the user's turns before it."""
    for row in rows:
        if (author := author_of(row)) is not None:
            collected.authors.add(author)
        chat = prompts_of(row, layout)
        if isinstance(chat, Unscored):
            collected.unscored[chat.reason] += 1
            continue
        asked: list[str] = []
        for message, finish in zip(chat.messages, chat.finish_reasons, strict=True):
            if message.role == "user":
                asked.append(message.content)
            elif message.role == "assistant":
                # A turn that failed has no text, and its reason instead of how it ended.
                if not message.content and finish not in (None, *_ENDED):
                    collected.unscored[finish.partition(":")[0]] += 1
                else:
                    collected.add(asked, message.content, source)


def _read_parquet(path: Path, collected: _Collected) -> None:
    """Read a Parquet file batch by batch, and of its columns only those that hold the chat."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            names = file.schema_arrow.names
            layout = detect_format(names, str(path))
            batches = file.iter_batches(batch_size=1024, columns=[name for name in names if name in _COLUMNS])
            _read_chats((row for batch in batches for row in batch.to_pylist()), path.name, layout, collected)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is not a complete Parquet file ({error}); run the generation again") from error
