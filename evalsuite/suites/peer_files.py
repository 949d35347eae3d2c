"""Other tools' files of rows: which file and which model are read, how a fault is named, and how rows are copied."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from evalsuite.errors import DataError, UsageError, plain_fault, unknown
from evalsuite.files import COMPRESSIONS, without_nan, write_json, write_jsonl
from evalsuite.records.rows import Header, JudgeRef, Row
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.types import Recorded
from evalsuite.text import well_formed
from evalsuite.validation import repeated
from judges.types import REASONS, Unscored

Rows = Sequence[Mapping[str, Any]]
Finite = Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)]

DETAIL = "unscored_detail"


def file_of(path: Path, *names: str) -> Path:
    """Return the file that ``path`` is; of a folder the first of ``names`` that is there, else the first name.

    A name stands for a file of rows: JSON lines or a list, compressed or not.
    """
    if not path.is_dir():
        return path
    return next((file for name in names for file in forms_of(path / name) if file.is_file()), path / names[0])


def forms_of(path: Path) -> list[Path]:
    """Return the names that a file of rows may have: as JSON lines or a list, compressed or not."""
    names = [path.name, path.with_suffix(".json" if path.suffix == ".jsonl" else ".jsonl").name]
    return [path.with_name(f"{name}{compression}") for name in names for compression in ("", *COMPRESSIONS)]


def conform(row: object, shape: Any, where: str, expected: str) -> None:
    """Check a recorded row by a msgspec type; raises DataError with ``where`` it is and the field at fault."""
    try:
        msgspec.convert(row, shape)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise DataError(f"{where}: {plain_fault(error)}; {expected}") from error


def rows_of_model(rows: Rows, key: str, model: str | None, path: Path, remedy: str) -> Rows:
    """Return a file's rows of one model, named under ``key``; all of them where there is only one, whatever its name.

    Raises UsageError with the nearest name for a model that is not in the file, DataError where none is chosen.
    """
    names = {str(row.get(key)) for row in rows}
    if model is not None and len(names) > 1:
        if model not in names:
            raise UsageError(f"{path} contains {len(names)} models; {unknown('model', model, names)}")
        return [row for row in rows if str(row.get(key)) == model]
    single("model", names, path, remedy)
    return rows


def rows_of_judge(rows: Rows, names: Sequence[str], chosen: str | None, path: Path, what: str = "judge") -> Rows:
    """Return the rows of one judge; ``names`` has each row's, ``what`` is the format's word for it.

    Raises DataError where there are several and none is ``chosen``, UsageError where the chosen one is not there.
    """
    if chosen is None:
        single(what, names, path, "name one with --annotator")
        return rows
    if chosen not in names:
        raise UsageError(f"{path}: {unknown(what, chosen, set(names))}")
    return [row for row, name in zip(rows, names, strict=True) if name == chosen]


def single(what: str, values: Iterable[Any], path: Path, remedy: str) -> None:
    """Raise DataError naming all values where a file mixes several."""
    names = sorted(set(map(str, values)))
    if len(names) > 1:
        raise DataError(f"{path} mixes {len(names)} {what}s ({', '.join(names)}); {remedy}")


def refuse_duplicates(names: Iterable[str], path: Path, remedy: str) -> None:
    """Raise DataError for the first name that a file has twice."""
    if duplicates := repeated(names):
        raise DataError(f"{path} has a duplicate {duplicates[0][:80]}; {remedy}")


def recorded_by(judge: str | None, suite: str, rows: Sequence[Row], options: SuiteOptions) -> Recorded:
    """Return rows of a file judged by one judge: "" for an unnamed judge, None for unjudged rows."""
    known = options.model_dump(include={"data", "limit", "as_published"})
    judges = {} if judge is None else {judge: JudgeRef(judge)}
    return Recorded(Header(suite, len(rows), options=known, judges=judges), rows)


def copy_rows(folder: Path, names: Sequence[str], files: Sequence[Rows]) -> None:
    """Write the recorded rows of each file with all their fields, NaN as null: JSON lines or a list by its name."""
    for name, rows in zip(names, files, strict=True):
        if rows:
            write = write_jsonl if name.endswith(".jsonl") else write_json
            write(folder / name, [without_nan(dict(row)) for row in rows])


def id_text(value: object) -> str:
    """Return a recorded id or short answer as text; a whole number that a table has made a float (81.0) is 81."""
    return well_formed(str(int(value) if isinstance(value, float) and value.is_integer() else value))


def finite_number(value: object) -> float | None:
    """Return a number of a recorded file as a float; None for NaN, infinities, booleans and anything else."""
    try:
        return msgspec.convert(value, Finite)
    except (msgspec.ValidationError, UnicodeError):
        return None


def recorded_reason(value: object, words: object = "") -> Unscored:
    """Return the reason that a recorded file gives and its ``words``; ``recorded_failure`` for an unknown one."""
    said = words if isinstance(words, str) else ""
    return Unscored(value if isinstance(value, str) and value in REASONS else "recorded_failure", said)


def written_reason(failure: Unscored | None) -> dict[str, str | None]:
    """Return our fields of an export: why there is no figure, and in whose words, such as the server's refusal."""
    words = {DETAIL: failure.detail} if failure is not None and failure.detail else {}
    return {"unscored": None if failure is None else failure.reason, **words}
