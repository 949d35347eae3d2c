"""MixEval's files: JSON lines of responses and judgments, read into rows and written from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from evalsuite.errors import DataError, UsageError
from evalsuite.files import plain_name, read_objects, write_jsonl
from evalsuite.records.rows import Draw, Reply, Row, Verdict, replaced
from evalsuite.suites.base import no_answer
from evalsuite.suites.mixeval.prompts import SPLIT_OF_PROBLEM_TYPE, SPLITS, Split, checked_item, item_row
from evalsuite.suites.mixeval.scores import parse_judgment, verdict_value
from evalsuite.suites.peer_files import Rows
from judges.types import REASONS, Choice, Rating, Unscored

JUDGE_FIELD: Mapping[str, str] = {"free_form": "judge_score", "multiple_choice": "judge_option"}
"""Where MixEval's judged files hold the verdict."""

_JUDGED_FIELDS = {"judge_response", "judge_score", "judge_option", "parsed_result", "eval_result"}


class SplitFile(NamedTuple):
    """The rows of one split in one file, as they are recorded there."""

    split: Split
    path: Path
    rows: Rows


def read_files(path: Path, parser: str | None) -> tuple[list[SplitFile], str]:
    """Read a file or a folder of MixEval's JSON lines: one file per split, and the parser that its figures need.

    Rows are told apart by ``problem_type``, not by file names. In a folder with several files
    for one split, judged ones are read with the parser "judge" and plain responses with "rule".
    The parser None is the judge's where the rows hold its verdicts.
    Raises DataError (file and row named) and UsageError (no verdicts, but the judge's parser asked for).
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; give a file or a folder of MixEval's response JSONL")
    paths = _files_in(path) if path.is_dir() else [path]
    if not paths:
        raise DataError(f"{path} has no .jsonl file; give the folder of one model's MixEval responses")
    files = [split_file for file in paths for split_file in _split_files(file)]
    if not files:
        raise DataError(f"{path} has no rows; give MixEval's response files (JSON lines)")
    if parser is None:
        parser = "judge" if any(JUDGE_FIELD[file.split] in file.rows[0] for file in files) else "rule"
    by_split = [[file for file in files if file.split == split] for split in SPLITS]
    chosen = [_chosen(path, candidates, parser) for candidates in by_split if candidates]
    rows = [(JUDGE_FIELD[file.split], row) for file in chosen for row in file.rows]
    n_missing = sum(field not in row and row["response"] is not None for field, row in rows)
    if parser == "judge" and n_missing:
        raise UsageError(
            f"{n_missing} of {len(rows)} rows in {path} have no judge's verdict (judge_score or judge_option); "
            "score the answers without a judge with --mixeval-parser rule"
        )
    return chosen, parser


def rows_of(files: Sequence[SplitFile], parser: str) -> list[Row]:
    """Turn recorded rows into rows, in file order; verdicts are read with the parser "judge" alone.

    The files name no judge: the verdicts are those of the judge "".
    """
    rows = []
    for item in (item for file in files for item in file.rows):
        row = item_row(item, str(item.get("formated_input") or item["prompt"]))
        text = item["response"]
        reply = Reply(unscored=_noted_reason(item, "no_answer")) if text is None else Reply(text)
        verdicts = (_recorded_verdict(item, row),) if parser == "judge" else ()
        rows.append(replaced(row, draws=(Draw((reply,)),), verdicts=verdicts))
    return rows


def write_files(rows: Sequence[Row], folder: Path) -> None:
    """Write ``<split>.jsonl`` with MixEval's response fields, its judged files' fields and ``unscored``.

    A missing response or verdict is null; its reason is under ``unscored``.
    """
    for split in SPLITS:
        write_jsonl(folder / f"{split}.jsonl", (_written(row) for row in rows if row.part == split))


def _files_in(folder: Path) -> list[Path]:
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and not file.name.startswith(".")]
    return next(
        (found for kind in (".jsonl", ".json") if (found := [f for f in files if plain_name(f).endswith(kind)])), []
    )


def _split_files(file: Path) -> list[SplitFile]:
    by_split: dict[Split, dict[str, dict[str, Any]]] = {split: {} for split in SPLITS}
    for number, row in enumerate(read_objects(file), 1):
        item = checked_item(row, f"{file} row {number}")
        rows = by_split[SPLIT_OF_PROBLEM_TYPE[item["problem_type"]]]
        if item["id"] in rows:
            raise DataError(f"{file}: duplicate id {item['id']!r}; a file must hold one run of one model")
        if not isinstance(item.get("response", 0), str | None):
            fault = f"{file}, id {item['id']!r}: 'response' is missing or not text"
            raise DataError(f"{fault}; give MixEval's response files")
        rows[item["id"]] = item
    return [SplitFile(split, file, list(rows.values())) for split, rows in by_split.items() if rows]


def _chosen(path: Path, files: Sequence[SplitFile], parser: str) -> SplitFile:
    if parser == "judge":
        fitting = [file for file in files if JUDGE_FIELD[file.split] in file.rows[0]]
    else:
        fitting = [file for file in files if not _JUDGED_FIELDS & file.rows[0].keys()]
    candidates = fitting or files
    if len(candidates) > 1:
        names = ", ".join(file.path.name for file in candidates)
        raise DataError(
            f"{path} contains several {files[0].split} files ({names}); give one model's folder, or one file"
        )
    return candidates[0]


def _recorded_verdict(item: Mapping[str, Any], row: Row) -> Verdict:
    """Read one row's verdict: from its judgment again, or as recorded if it is one of ours or has no judgment's field.

    If the judgment states no verdict or is null, MixEval drew one at random: that is Unscored, as is one that is not an
    option or a number in 0..1; without an answer there is none.
    """
    judgment, recorded = item.get("judge_response"), item.get(JUDGE_FIELD[row.part])
    value = verdict_value(recorded, row.facts)
    if item["response"] is None:
        value = no_answer(_noted_reason(item, "no_answer"))
    elif recorded is None or (judgment is None and "judge_response" in item and "unscored" not in item):
        value = _noted_reason(item, "no_rating" if row.part == "free_form" else "no_option")
    elif isinstance(judgment, str) and "unscored" not in item and not isinstance(value, Unscored):
        # Rows with our own field "unscored" were read like this, and their judgment may end in a guided closing.
        parsed = parse_judgment(judgment, row.facts)
        value = parsed.letter if isinstance(parsed, Choice) else parsed.value if isinstance(parsed, Rating) else parsed
    text = judgment if isinstance(judgment, str) else ""
    if isinstance(value, Unscored):
        return Verdict(text=text, recorded=recorded, unscored=value)
    return Verdict(value=value, text=text, recorded=recorded)


def _noted_reason(item: Mapping[str, Any], default: str) -> Unscored:
    noted = item.get("unscored")
    if not isinstance(noted, Mapping) or not isinstance(reason := noted.get("reason"), str) or reason not in REASONS:
        return Unscored(default)
    return Unscored(reason, str(noted.get("detail", "")))


def _written(row: Row) -> dict[str, Any]:
    reply, verdict = row.replies[0] if row.replies else Reply(unscored=Unscored("no_answer")), row.verdict()
    failure = reply.unscored or (verdict.unscored if verdict else None)
    judged = {} if verdict is None else {"judge_response": verdict.text or None, JUDGE_FIELD[row.part]: verdict.value}
    return {
        **row.facts,
        "formated_input": row.prompt[0].content if row.prompt else None,
        "id": row.item_id,
        "response": reply.text,
        **({} if reply.thought is None else {"reasoning_content": reply.thought}),
        **judged,
        "unscored": {"reason": failure.reason, "detail": failure.detail} if failure else None,
    }
