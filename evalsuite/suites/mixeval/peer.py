"""Reading answers and judgments that MixEval, or evalsuite's own export, has recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.errors import DataError, UsageError
from evalsuite.files import read_jsonl
from evalsuite.serving.requests import Completion
from evalsuite.suites.base import Item, Record, SuiteOptions
from evalsuite.suites.mixeval.prompts import SPLIT_OF_PROBLEM_TYPE, SPLITS, Split, checked_row, letters
from judges.parse import parse_option, parse_score_0_to_1
from judges.types import REASONS, Choice, Rating, Unscored

JUDGE_FIELD: Mapping[Split, str] = {"free_form": "judge_score", "multiple_choice": "judge_option"}
"""Where MixEval's judged files hold the verdict."""

DERIVED_FIELDS = ("judge_response", "judge_score", "judge_option", "parsed_result", "eval_result")


@dataclass(frozen=True, slots=True)
class _Part:
    """The rows of one split in one file."""

    split: Split
    path: Path
    rows: Sequence[Mapping[str, Any]]


def recorded_records(path: Path, options: SuiteOptions) -> list[Record]:
    """Read a file or a folder of MixEval's JSON lines into records, in file order.

    Rows are told apart by ``problem_type``, not by file names. In a folder with several files
    for one split, judged ones are read with ``mixeval_parser="judge"`` and plain responses with
    "rule". Answers are Completion or Unscored; verdicts are filled with parser "judge" only.
    Raises DataError (file and row named) and UsageError (no verdicts, but the judge's asked for).
    """
    parts = [part for file in _files(path) for part in _parts(file)]
    if not parts:
        raise DataError(f"{path} holds no rows; give MixEval's response files (JSON lines)")
    chosen = [
        _chosen(path, own, options) for split in SPLITS if (own := [part for part in parts if part.split == split])
    ]
    if options.mixeval_parser == "judge":
        _require_verdicts(path, chosen)
    return [_record(row, part.split, options) for part in chosen for row in part.rows]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; give a file or a folder of MixEval's response JSONL")
    files = sorted(path.glob("*.jsonl"))
    if not files:
        raise DataError(f"{path} holds no .jsonl file; give the folder of one model's MixEval responses")
    return files


def _parts(file: Path) -> list[_Part]:
    rows = [checked_row(row, f"{file} row {number}") for number, row in enumerate(read_jsonl(file), 1)]
    parts = []
    for split in SPLITS:
        own = [row for row in rows if SPLIT_OF_PROBLEM_TYPE[row["problem_type"]] == split]
        _refuse_doubtful(file, own)
        if own:
            parts.append(_Part(split, file, own))
    return parts


def _refuse_doubtful(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    seen: set[str] = set()
    for row in rows:
        if row["id"] in seen:
            raise DataError(f"{file} holds id {row['id']!r} twice; a file must hold one run of one model")
        seen.add(row["id"])
        if not isinstance(row.get("response", 0), str | None):
            raise DataError(
                f"{file}, id {row['id']!r}: 'response' is missing or not text; give MixEval's response files"
            )


def _chosen(path: Path, parts: Sequence[_Part], options: SuiteOptions) -> _Part:
    if options.mixeval_parser == "judge":
        fitting = [part for part in parts if JUDGE_FIELD[part.split] in part.rows[0]]
    else:
        fitting = [part for part in parts if not any(name in part.rows[0] for name in DERIVED_FIELDS)]
    left = fitting or list(parts)
    if len(left) > 1:
        names = ", ".join(part.path.name for part in left)
        raise DataError(f"{path} holds several {left[0].split} files ({names}); give one model's folder, or one file")
    return left[0]


def _require_verdicts(path: Path, parts: Sequence[_Part]) -> None:
    rows = [(JUDGE_FIELD[part.split], row) for part in parts for row in part.rows]
    owed = sum(field not in row and row["response"] is not None for field, row in rows)
    if owed:
        raise UsageError(
            f"{owed} of {len(rows)} rows in {path} hold no judge's verdict (judge_score or judge_option); "
            "score the answers without a judge with --mixeval-parser rule"
        )


def _record(row: Mapping[str, Any], split: Split, options: SuiteOptions) -> Record:
    item = Item(f"{split}/{row['id']}", row)
    if row["response"] is None:
        return Record(item, _recorded_reason(row, "no_answer"))
    answer = Completion(row["response"], "stop", 0, 0)
    if options.mixeval_parser == "rule":
        return Record(item, answer)
    return Record(item, answer, recorded_verdict(row, split, as_published=options.as_published))


def recorded_verdict(row: Mapping[str, Any], split: Split, *, as_published: bool = False) -> Rating | Choice | Unscored:
    """Read one recorded row's verdict: what the judge's words or evalsuite's own field ``unscored`` bear out.

    A verdict that MixEval drew at random, and one that is no option or no number in 0..1, is Unscored; without an
    answer there is none. ``as_published`` believes drawn ones.
    """
    if row["response"] is None:
        return _recorded_reason(row, "no_answer")
    value = row[JUDGE_FIELD[split]]
    if value is None:
        return _recorded_reason(row, "no_rating" if split == "free_form" else "no_option")
    words = row.get("judge_response")
    # After ten rounds MixEval writes a random verdict beside a judgment that holds none. Rows with
    # our own field "unscored" never do, and their judgment may end in a guided closing.
    if isinstance(words, str) and "unscored" not in row and not as_published:
        drawn = _drawn_at_random(words, split, len(row.get("options", ())))
        if drawn is not None:
            return drawn
    text = words if isinstance(words, str) else ""
    if split == "multiple_choice":
        known = value in letters(len(row["options"]))
        return Choice(value, text) if known else Unscored("no_option", f"recorded judge_option {value!r}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Unscored("no_rating", f"recorded judge_score {value!r}")
    if not 0 <= value <= 1:
        return Unscored("rating_out_of_range", f"recorded judge_score {value!r}")
    return Rating(float(value), text)


def _drawn_at_random(words: str, split: Split, n_options: int) -> Unscored | None:
    read = (
        parse_score_0_to_1(words, as_published=True)
        if split == "free_form"
        else parse_option(words, n_options, as_published=True)
    )
    if isinstance(read, Rating) and read.value > 1:
        return Unscored("rating_out_of_range", words)
    return read if isinstance(read, Unscored) else None


def _recorded_reason(row: Mapping[str, Any], otherwise: str) -> Unscored:
    noted = row.get("unscored")
    if not isinstance(noted, Mapping) or not isinstance(reason := noted.get("reason"), str) or reason not in REASONS:
        return Unscored(otherwise)
    return Unscored(reason, str(noted.get("detail", "")))
