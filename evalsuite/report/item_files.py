"""Reading the recorded items of one model: the peers' own files, decoded field by field for speed.

Only the named fields are decoded; a samples file repeats its few-shot prompt for every choice, and
skipping that is most of the work saved. What is not needed for a page is never built.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from evalsuite.errors import DataError
from evalsuite.suites.mixeval.peer import recorded_verdict
from evalsuite.suites.mixeval.prompts import Split
from evalsuite.suites.mt_bench.peer import recorded_rating
from judges.types import Choice, Rating, Unscored

GPQA_WORDS = "GPQA's authors ask that no text of it is published: ids, log-probabilities and marks only"


_NOTHING = msgspec.Raw(b"null")
_FLOAT = rb"-?(?:inf|\d+\.?\d*(?:e[+-]?\d+)?)"
_NUMBERS = re.compile(rb'\[(?:[\[\]\s,]|"?' + _FLOAT + rb'"?|"?[Tt]rue"?|"?[Ff]alse"?)+\]')
"""Responses that are log-probabilities with their greedy flags, and nothing else."""

_HALF_PAIR = re.compile(r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]..")


class ItemRow(NamedTuple):
    """One model's answer to one item.

    ``key`` tells items of a part apart across models, ``label`` is the short name people see, ``value`` the mark
    on the column's scale (None: unscored). ``question`` builds the shared part, and is called once an item.
    """

    key: Any
    label: str
    value: float | None
    answer: dict[str, Any]
    question: Callable[[], dict[str, Any]]


class _Choice(msgspec.Struct, gc=False):
    turns: list[str] = []


class _Answer(msgspec.Struct, gc=False):
    question_id: Any
    choices: list[_Choice] = []
    unscored: Any = None


class _Judgment(msgspec.Struct, gc=False):
    question_id: Any
    turn: int
    score: float
    judgment: Any = None
    category: str | None = None
    unscored: Any = msgspec.UNSET
    user_prompt: Any = None

    def rating(self) -> Rating | Unscored:
        """Read the rating by the rule that the figures follow, which asks whether the field ``unscored`` is there."""
        row = {"question_id": self.question_id, "turn": self.turn, "score": self.score, "judgment": self.judgment}
        return recorded_rating(row if self.unscored is msgspec.UNSET else {**row, "unscored": self.unscored})


class _Annotation(msgspec.Struct, gc=False):
    instruction: str
    output_1: str = ""
    output_2: str | None = ""
    generator_1: str = ""
    dataset: Any = None
    preference: Any = None
    logprobs: Any = None
    unscored: Any = None


class _MixEvalRow(msgspec.Struct, gc=False):
    id: Any
    prompt: str
    problem_type: str
    target: list[Any]
    benchmark_name: str = ""
    context: Any = None
    options: Any = None
    response: str | None = None
    judge_response: Any = None
    judge_score: Any = None
    judge_option: Any = None
    unscored: Any = msgspec.UNSET

    def verdict(self) -> Rating | Choice | Unscored:
        """Read the verdict by the rule that the figures follow, which asks whether the field ``unscored`` is there."""
        row = {
            "response": self.response,
            "options": self.options if isinstance(self.options, list) else [],
            "judge_response": self.judge_response,
            "judge_score": self.judge_score,
            "judge_option": self.judge_option,
        }
        split: Split = "free_form" if self.problem_type == "free-form" else "multiple_choice"
        return recorded_verdict(row if self.unscored is msgspec.UNSET else {**row, "unscored": self.unscored}, split)


class _Sample(msgspec.Struct, gc=False):
    doc_id: Any
    doc: msgspec.Raw = _NOTHING
    doc_hash: str | None = None
    target: Any = None
    resps: msgspec.Raw = _NOTHING
    filtered_resps: msgspec.Raw = _NOTHING
    unscored: Any = None
    acc: Any = None
    acc_norm: Any = None
    exact_match: Any = None
    prompt_level_strict_acc: Any = None


class _ProtectedSample(msgspec.Struct, gc=False):
    """A sample of GPQA: its text is not even decoded."""

    doc_id: Any
    doc_hash: str | None = None
    filtered_resps: msgspec.Raw = _NOTHING
    unscored: Any = None
    acc_norm: Any = None


def _lines(path: Path, kind: type[Any]) -> list[Any]:
    decoder = msgspec.json.Decoder(kind)
    return _decoded(path, decoder.decode_lines)


def _rows(path: Path, kind: type[Any]) -> list[Any]:
    decoder = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
    return _decoded(path, decoder.decode)


def _decoded(path: Path, decode: Callable[[bytes], list[Any]]) -> list[Any]:
    try:
        content = path.read_bytes()
        try:
            return decode(content)
        except (UnicodeDecodeError, msgspec.DecodeError):
            # Half a surrogate pair, which a model may emit, is no text; the rest of the file is.
            return decode(_HALF_PAIR.sub(r"\\ufffd", content.decode("utf-8", "replace")).encode())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; its items are left out") from error
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise DataError(f"{path} is not in the benchmark's own format ({error}); its items are left out") from error


def mt_bench_rows(folder: Path, questions: Mapping[str, Mapping[str, Any]]) -> list[ItemRow]:
    """Read model_answer.jsonl and model_judgment.jsonl; the mark of a question is the mean of its rated turns."""
    answers = {str(row.question_id): row for row in _optional(folder / "model_answer.jsonl", _Answer)}
    judgments: dict[str, list[_Judgment]] = {}
    for judgment in _optional(folder / "model_judgment.jsonl", _Judgment):
        judgments.setdefault(str(judgment.question_id), []).append(judgment)
    keys = dict.fromkeys([*answers, *judgments])
    return [_mt_bench_row(key, answers.get(key), judgments.get(key, []), questions.get(key)) for key in keys]


def _mt_bench_row(
    key: str, answer: _Answer | None, judgments: list[_Judgment], known: Mapping[str, Any] | None
) -> ItemRow:
    judgments = sorted(judgments, key=lambda judgment: judgment.turn)
    read = [judgment.rating() for judgment in judgments]
    ratings = [rating.value for rating in read if isinstance(rating, Rating)]
    turns = answer.choices[0].turns if answer is not None and answer.choices else []
    entry: dict[str, Any] = {
        "turns": turns,
        "judge": [
            {
                "label": f"turn {judgment.turn}",
                "mark": f"{rating.value:g} of 10" if isinstance(rating, Rating) else f"unscored: {rating.reason}",
                "text": judgment.judgment if isinstance(judgment.judgment, str) else "",
            }
            for judgment, rating in zip(judgments, read, strict=True)
        ],
    }
    reasons = [rating.reason for rating in read if isinstance(rating, Unscored)]
    if reasons:
        entry["unscored"] = ", ".join(dict.fromkeys(reasons))

    def question() -> dict[str, Any]:
        category = next((judgment.category for judgment in judgments if judgment.category), None)
        if known is None:
            asked = [one.user_prompt for one in judgments if isinstance(one.user_prompt, str)]
            return {"category": category, "fields": [["what the judge was shown (turn 1)", asked[0]]] if asked else []}
        return {
            "category": known.get("category") or category,
            "messages": list(known.get("turns") or []),
            "reference": list(known.get("reference") or []),
        }

    return ItemRow(key, key, sum(ratings) / len(ratings) if ratings else None, entry, question)


def _optional(path: Path, kind: type[Any]) -> list[Any]:
    return _lines(path, kind) if is_there(path) else []


def is_there(path: Path) -> bool:
    """Whether a file is there, or may be: of one that cannot be looked at, reading says what is wrong."""
    try:
        return path.is_file()
    except OSError:
        return True


def alpaca_rows(folder: Path) -> list[ItemRow]:
    """Read annotations.json; the mark is the share of preference that went to the model, in percent."""
    return [_alpaca_row(row, number) for number, row in enumerate(_rows(folder / "annotations.json", _Annotation), 1)]


def _alpaca_row(row: _Annotation, number: int) -> ItemRow:
    preference = row.preference if isinstance(row.preference, int | float) else None
    if preference == 0:
        preference = 1.5
    value = (preference - 1) * 100 if preference is not None and 1 <= preference <= 2 and not row.unscored else None
    mark = f"preferred with {value:.1f} %" if value is not None else f"unscored: {row.unscored or 'recorded_failure'}"
    answer: dict[str, Any] = {"turns": [row.output_2 or ""], "judge": [{"label": "judge", "mark": mark, "text": ""}]}
    if isinstance(row.logprobs, Mapping) and row.logprobs:
        answer["logprobs"] = [[str(token), logprob] for token, logprob in row.logprobs.items()]
    if value is None:
        answer["unscored"] = str(row.unscored or "recorded_failure")

    def question() -> dict[str, Any]:
        return {
            "category": row.dataset if isinstance(row.dataset, str) else None,
            "messages": [row.instruction],
            "reference": [row.output_1],
            "reference_title": f"the baseline's answer ({row.generator_1})",
        }

    return ItemRow((row.instruction, row.output_1), str(number), value, answer, question)


def mixeval_rows(path: Path, rule_marks: Mapping[str, float | Unscored] | None) -> list[ItemRow]:
    """Read one split's JSON lines; marks come from the judge's verdicts, or from ``rule_marks`` by id."""
    return [_mixeval_row(row, rule_marks) for row in _lines(path, _MixEvalRow)]


def _mixeval_row(row: _MixEvalRow, rule_marks: Mapping[str, float | Unscored] | None) -> ItemRow:
    entry: dict[str, Any] = {"turns": [row.response or ""]}
    if rule_marks is None:
        verdict = row.verdict()
        mark = _mixeval_mark(row, verdict)
        entry["judge"] = [{"label": "judge", "mark": _words_of(verdict), "text": row.judge_response or ""}]
    else:
        mark = rule_marks.get(str(row.id), Unscored("recorded_failure"))
    if isinstance(mark, Unscored):
        entry["unscored"] = mark.reason
    value = None if isinstance(mark, Unscored) else mark
    return ItemRow((_key(row.id), row.prompt), str(row.id), value, entry, partial(_mixeval_question, row))


def _mixeval_mark(row: _MixEvalRow, verdict: Rating | Choice | Unscored) -> float | Unscored:
    if isinstance(verdict, Choice):
        return float(verdict.letter == _letter(row.target))
    return verdict.value if isinstance(verdict, Rating) else verdict


def _words_of(verdict: Rating | Choice | Unscored) -> float | str:
    if isinstance(verdict, Choice):
        return verdict.letter
    return verdict.value if isinstance(verdict, Rating) else f"unscored: {verdict.reason}"


def _mixeval_question(row: _MixEvalRow) -> dict[str, Any]:
    options = [str(option) for option in row.options] if isinstance(row.options, list) else []
    right = [str(answer) for answer in row.target]
    if row.problem_type != "free-form":
        right = [f"{_letter(row.target)}. {_pick(options, row.target)}"]
    context = "" if row.context is None else str(row.context)
    return {
        "category": row.benchmark_name,
        "fields": [["context", context]] if context and context.lower() not in ("none", "null") else [],
        "messages": [row.prompt],
        "options": options,
        "reference": right,
    }


def _key(value: Any) -> Any:
    """Return what can tell items apart: an id as it is, or its words where it is a list or an object."""
    return value if isinstance(value, str | int | float | None) else str(value)


def _letter(target: list[Any]) -> str:
    try:
        return chr(ord("A") + int(target[0]))
    except (ValueError, TypeError, IndexError, OverflowError):
        return "?"


def _pick(options: list[str], target: list[Any]) -> str:
    try:
        return options[int(target[0])]
    except (ValueError, TypeError, IndexError, OverflowError):
        return ""


def sample_rows(path: Path, metric: str, *, protected: bool) -> list[ItemRow]:
    """Read lm-eval's samples of one task; of GPQA nothing but ids, log-probabilities and marks.

    A sample stands once a filter in the file: the last one counts, as it does in lm-eval's table of the task.
    """
    kind = _ProtectedSample if protected else _Sample
    by_document = {_key(row.doc_id): row for row in _lines(path, kind)}
    return [_sample_row(row, metric) for row in by_document.values()]


def _sample_row(row: _Sample | _ProtectedSample, metric: str) -> ItemRow:
    mark = getattr(row, metric, None)
    value = float(mark) if isinstance(mark, int | float) and not row.unscored else None
    answer: dict[str, Any] = {}
    responses = bytes(row.filtered_resps)
    if _NUMBERS.fullmatch(responses):
        answer["choices"] = row.filtered_resps
    elif isinstance(row, _Sample):
        answer["responses"] = row.resps
        if responses != bytes(row.resps)[1:-1]:
            answer["filtered"] = row.filtered_resps
    if value is None:
        answer["unscored"] = str(row.unscored or f"no {metric}")
    question = partial(_sample_question, row)
    return ItemRow((_key(row.doc_id), row.doc_hash), str(row.doc_id), value, answer, question)


def _sample_question(row: _Sample | _ProtectedSample) -> dict[str, Any]:
    if isinstance(row, _ProtectedSample):
        return {"note": GPQA_WORDS}
    document = msgspec.json.decode(row.doc)
    fields = _doc_fields(document) if isinstance(document, dict) else []
    return {"fields": fields, "reference": [] if row.target is None else [str(row.target)]}


def _doc_fields(doc: Mapping[str, Any]) -> list[list[str]]:
    """Return a benchmark's document as [name, text] pairs, empty fields left out."""
    return [[str(name), _field_words(value)] for name, value in doc.items() if value not in (None, "", [], {})]


def _field_words(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str | int | float) for one in value):
        return "\n".join(
            f"{chr(ord('A') + place) if len(value) <= 26 else place}. {one}" for place, one in enumerate(value)
        )
    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()


def first_line(texts: Iterable[str], length: int = 90) -> str:
    """Return the beginning of the first text that has any, on one line."""
    words = next((" ".join(text[: length * 3].split()) for text in texts if text and text.strip()), "")
    return words if len(words) <= length else words[: length - 1] + "…"
