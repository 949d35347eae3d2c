"""Recorded answers, whoever recorded them: a model's results, `evalsuite generate` output, or a file.

A prompt is known by the hash of the user's turns so far, so that the answers of two models to the same prompt
meet wherever they were recorded. Answers that failed or are empty are no answers: they are counted by reason.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalsuite.comparison.prompts import read_rows, user_turns
from evalsuite.comparison.recorded import folder_name, recorded_texts
from evalsuite.conversations.formats import Format, detect_format, prompts_of
from evalsuite.errors import DataError
from evalsuite.files import exists, read_json, read_jsonl
from evalsuite.fingerprint import files_sha256
from judges.types import Unscored

MT_BENCH_FILE, ALPACA_FILE = "mt_bench/model_answer.jsonl", "alpaca_eval/model_outputs.json"
_MIXEVAL = ("mixeval", "mixeval_hard")
_CHAT_KEYS = ("conversation", "messages", "conversations")
_COLUMNS = {*_CHAT_KEYS, "model", "question", "choices", "answer", "prompt", "instruction", "input", "turns"} | {
    "completion",
    "response",
    "output",
    "chosen",
}
_ENDED = ("stop", "length")
_SEAM = "\n\n"
_FORMS = "a model's results folder, generate's output, or a .parquet, .jsonl or .json file of answers"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. ``turn`` counts the user's turns from 1; ``prompt`` holds them all, blank lines between.

    ``prompt_hash`` is :func:`prompt_hash` of these turns; ``conversation`` is that of the first turn alone, which
    all answers of a conversation share: the unit to draw in a bootstrap. ``source`` is the suite or the file.
    """

    prompt_hash: str
    turn: int
    prompt: str
    text: str
    model: str
    source: str
    conversation: str = ""

    @property
    def cluster(self) -> str:
        return self.conversation or self.prompt_hash


@dataclass(frozen=True, slots=True)
class Answers:
    """A model's answers in the order of their files; ``unscored`` counts those that are none, by reason.

    ``fingerprint`` is the SHA-256 over the files' names and contents.
    """

    name: str
    fingerprint: str
    answers: tuple[Answer, ...]
    unscored: Mapping[str, int] = field(default_factory=dict)

    @property
    def by_prompt(self) -> dict[str, Answer]:
        """The answers by prompt hash; of a prompt that was asked several times, the first."""
        found: dict[str, Answer] = {}
        for answer in self.answers:
            found.setdefault(answer.prompt_hash, answer)
        return found

    def as_provenance(self) -> dict[str, Any]:
        """Say in JSON's own types what was read."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "n_answers": len(self.answers),
            "sources": dict(Counter(answer.source for answer in self.answers)),
            "unscored": dict(self.unscored),
        }


@dataclass(slots=True)
class _Reading:
    """What one reader has found so far; ``authors`` are the models that the rows name."""

    source: str
    answers: list[Answer] = field(default_factory=list)
    unscored: Counter[str] = field(default_factory=Counter)
    authors: set[str] = field(default_factory=set)

    def add(self, turns: Sequence[str], text: Any, reason: object = None, *, identity: str = "") -> None:
        """Keep the answer to the last of ``turns``, or count why there is none."""
        if reason is not None or not isinstance(text, str):
            self.unscored[_reason_words(reason)] += 1
        elif text == "$ERROR$":
            self.unscored["recorded_failure"] += 1
        elif not text.strip():
            self.unscored["empty"] += 1
        else:
            own, first = _hashes(turns, identity)
            self.answers.append(Answer(own, len(turns), _SEAM.join(turns), text, "", self.source, first))


def prompt_hash(turns: Sequence[str]) -> str:
    """Return the SHA-256 that a prompt is known by: of the user's turns so far, in order, as a JSON list."""
    return hashlib.sha256(json.dumps(list(turns)).encode()).hexdigest()


def _hashes(turns: Sequence[str], identity: str) -> tuple[str, str]:
    """Return the hashes of the turns and of the first; a prompt whose words are not known goes by its identity."""
    if identity:
        return prompt_hash([identity, str(len(turns))]), prompt_hash([identity])
    return prompt_hash(turns), prompt_hash(turns[:1])


def _reason_words(reason: object) -> str:
    if isinstance(reason, Mapping):
        reason = reason.get("reason")
    return str(reason or "no_answer").partition(":")[0]


def split_name(word: str) -> tuple[str | None, str]:
    """Split ``NAME=PLACE``; a place that exists as it stands has no name in front."""
    name, given, place = word.partition("=")
    if not given or exists(Path(word).expanduser()):
        return None, word
    return name.strip() or None, place


def read_answers(word: str, results: Path) -> Answers:
    """Read recorded answers; raises DataError in one sentence.

    ``word`` is ``[NAME=]PLACE``: a model's folder in ``results`` by its name (or the model's name where one folder
    carries it) or any path to one; an output folder of ``evalsuite generate``; or a .parquet, .json or .jsonl file
    with chats (``conversation``, ``messages`` or ``conversations``) or answers in FastChat's, alpaca_eval's or a
    plain format (a prompt and ``answer``, ``output`` or ``response``).
    """
    name, place = split_name(word)
    path = find_place(place, results)
    if path.is_dir():
        files, readings = _read_folder(path)
    else:
        files, readings = [path], [_read_file(path)]
    answers = [answer for reading in readings for answer in reading.answers]
    unscored = sum((reading.unscored for reading in readings), Counter[str]())
    if not answers:
        why = ", ".join(f"{count} {reason}" for reason, count in unscored.items())
        raise DataError(f"{path} holds no answers{f' ({why})' if why else ''}; give {_FORMS}")
    authors = sorted(set().union(*(reading.authors for reading in readings)))
    if name is None and len(authors) > 1 and not path.is_dir():
        raise DataError(f"{path} holds answers of {', '.join(authors[:3])}; give a file with those of one model")
    name = name or _own_name(path, authors)
    own = tuple(Answer(a.prompt_hash, a.turn, a.prompt, a.text, name, a.source, a.conversation) for a in answers)
    return Answers(name, files_sha256(files), own, dict(unscored))


def find_place(place: str, results: Path) -> Path:
    """Return the path that a word means; raises DataError where there is none."""
    path = Path(place).expanduser()
    if exists(path):
        return path
    if exists(results / place) and (results / place).is_dir():
        return results / place
    named = [file.parent for file in sorted(results.glob("*/scores.json")) if folder_name(file.parent) == place]
    if len(named) == 1:
        return named[0]
    if named:
        raise DataError(f"{place} names {len(named)} folders of {results}; give one of {_listed(named)}")
    known = _listed(sorted(file.parent for file in results.glob("*/scores.json")))
    raise DataError(
        f"cannot find the answers of {place!r}; give {_FORMS}" + (f" ({results}: {known})" if known else "")
    )


def _listed(folders: Sequence[Path]) -> str:
    names = [folder.name for folder in folders]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _own_name(path: Path, authors: Sequence[str]) -> str:
    if path.is_dir() and (path / "scores.json").is_file():
        return folder_name(path)
    return authors[0] if len(authors) == 1 else path.stem if path.is_file() else path.name


def _read_folder(folder: Path) -> tuple[list[Path], list[_Reading]]:
    files, readings = _read_results(folder)
    if not files:
        files = sorted(folder.glob("*.parquet"))
        readings = [_read_parquet(file) for file in files]
    if files:
        return files, readings
    inner = sorted({path.parent for path in folder.glob("*/*.parquet")})
    if len(inner) == 1:
        return _read_folder(inner[0])
    if inner:
        raise DataError(f"{folder} holds several models ({_listed(inner)}); give one of these folders")
    raise DataError(f"{folder} holds no answers; give {_FORMS}")


def _read_results(folder: Path) -> tuple[list[Path], list[_Reading]]:
    """Read what a run left in a model's folder; suites that it did not get to are simply not there."""
    files: list[Path] = []
    readings: list[_Reading] = []
    if (path := folder / MT_BENCH_FILE).is_file():
        files.append(path)
        readings.append(_read_mt_bench(read_jsonl(path), path))
    if (path := folder / ALPACA_FILE).is_file():
        files.append(path)
        readings.append(_read_plain(read_rows(path), "alpaca_eval", path))
    for suite in _MIXEVAL:
        for path in sorted((folder / suite).glob("*.jsonl")):
            files.append(path)
            readings.append(_read_mixeval(read_jsonl(path), f"{suite}/{path.stem}"))
    return files, readings


def _read_file(path: Path) -> _Reading:
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix not in {".json", ".jsonl"}:
        raise DataError(f"{path} is no file of answers; give {_FORMS}")
    rows = read_rows(path)
    if any(key in rows[0] for key in _CHAT_KEYS):
        return _read_chats(rows, path.name, detect_format(list(rows[0]), str(path)))
    if "choices" in rows[0] and user_turns(rows[0]) is None:
        return _read_mt_bench(rows, path)
    if "formated_input" in rows[0]:
        return _read_mixeval(rows, path.name)
    return _read_plain(rows, path.name, path)


def _author(row: Mapping[str, Any]) -> str | None:
    author = next((row[key] for key in ("model", "model_id", "generator") if row.get(key)), None)
    return str(author) if author else None


def _data_of(path: Path) -> str:
    """Return ``mini`` for a file in the results of a run on mini data, else ``full``."""
    scores = path.parent.parent / "scores.json"
    document = read_json(scores) if scores.is_file() else None
    return "mini" if isinstance(document, dict) and document.get("data") == "mini" else "full"


def _read_mt_bench(rows: Iterable[Mapping[str, Any]], path: Path) -> _Reading:
    """Read FastChat's answers; its files name questions by id only, so the words come from the pinned data.

    Where the data are not on this machine a question goes by its id: it still meets other files of this form.
    """
    from evalsuite.report.items import mt_bench_questions

    data = _data_of(path)
    questions = mt_bench_questions(data)
    reading = _Reading("mt_bench")
    for number, row in enumerate(rows, 1):
        texts = recorded_texts(row)
        if texts is None or "question_id" not in row:
            raise DataError(f"{path} row {number} is no answer of FastChat's form; give 'question_id' and 'choices'")
        question = str(row["question_id"])
        known = list((questions.get(question) or {}).get("turns") or [])
        identity = "" if len(known) >= len(texts) else f"mt_bench:{data}:{question}"
        turns = [f"MT-Bench question {question}"] * len(texts) if identity else known
        reasons = row.get("unscored")
        for turn, text in enumerate(texts):
            reason = reasons[turn] if isinstance(reasons, list) and turn < len(reasons) else None
            reading.add(turns[: turn + 1], text, reason, identity=identity)
        if author := _author(row):
            reading.authors.add(author)
    return reading


def _read_plain(rows: Iterable[Mapping[str, Any]], source: str, path: Path) -> _Reading:
    reading = _Reading(source)
    for number, row in enumerate(rows, 1):
        turns = user_turns(row)
        texts = recorded_texts(row)
        if texts is None and isinstance(row.get("response"), str):
            texts = [row["response"]]
        if turns is None or texts is None:
            raise DataError(f"{path} row {number} has no prompt with its answer; give 'prompt' and 'answer', or a chat")
        reasons = row.get("unscored")
        for turn, text in enumerate(texts[: len(turns)]):
            reason = reasons[turn] if isinstance(reasons, list) and turn < len(reasons) else reasons
            reading.add(turns[: turn + 1], text, reason or None)
        if author := _author(row):
            reading.authors.add(author)
    return reading


def _read_mixeval(rows: Iterable[Mapping[str, Any]], source: str) -> _Reading:
    """Read MixEval's responses. A response whose *judge* failed is an answer all the same."""
    reading = _Reading(source)
    for row in rows:
        prompt = row.get("formated_input") or row.get("prompt")
        if isinstance(prompt, str):
            reading.add([prompt], row.get("response"), None if row.get("response") else row.get("unscored"))
    return reading


def _read_chats(rows: Iterable[Mapping[str, Any]], source: str, layout: Format) -> _Reading:
    """Read conversations: each assistant turn answers the user's turns before it."""
    reading = _Reading(source)
    for row in rows:
        if author := _author(row):
            reading.authors.add(author)
        chat = prompts_of(row, layout)
        if isinstance(chat, Unscored):
            reading.unscored[chat.reason] += 1
            continue
        asked: list[str] = []
        for message, finish in zip(chat.messages, chat.finish_reasons, strict=True):
            if message.role == "user":
                asked.append(message.content)
            elif message.role == "assistant":
                # A turn that failed has no text, and its reason where others say how they ended.
                failed = not message.content and finish not in (None, *_ENDED)
                reading.add(asked, message.content, finish if failed else None)
    return reading


def _read_parquet(path: Path) -> _Reading:
    """Read a Parquet file batch by batch, and of its columns only those that hold the chat."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def rows(file: pq.ParquetFile, wanted: Sequence[str]) -> Iterator[dict[str, Any]]:
        for batch in file.iter_batches(batch_size=1024, columns=list(wanted)):
            yield from batch.to_pylist()

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            layout = detect_format(names, str(path))
            return _read_chats(rows(file, [name for name in names if name in _COLUMNS]), path.name, layout)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} is no whole Parquet file ({error}); run the generation again to finish it") from error
