"""Files of rows: find them, and stream those of JSON and CSV (``conversations.parquet`` has the rest)."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

from evalsuite.errors import DataError
from evalsuite.files import MAX_LINE_BYTES, iter_objects, opened, plain_name, refuse_pipe

log = logging.getLogger("evalsuite")

_SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")
SAMPLE_ROWS = 1000


def find_files(path: Path) -> list[Path]:
    """Return the files of a source, sorted by name: Parquet if there is any, else JSONL, else JSON, else CSV.

    Rows of another kind in the same folder are left out with a warning. Without any in the folder itself, those of its
    only subfolder with such files. Raises DataError.
    """
    refuse_pipe(path)
    if path.is_file():
        if not plain_name(path).endswith(_SUFFIXES):
            raise DataError(f"{path} is not a {', '.join(_SUFFIXES)} file; convert it to one of these")
        return [path]
    files = _data_files(path)
    has_rows = bool(files) and plain_name(files[0]).endswith((".parquet", ".jsonl"))
    if not has_rows and ((path / "scores.json").is_file() or any(path.glob("*/scores.json"))):
        raise DataError(f"{path} has results, not conversations; see their items with `evalsuite view`")
    if files:
        return files
    folders = [each for each in sorted(path.iterdir()) if each.is_dir() and _visible(each)]
    found = {folder.name: files for folder in folders if (files := _data_files(folder))}
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        names = ", ".join(list(found)[:5])
        raise DataError(f"{path} contains several data sets ({names}); give one of these folders")
    raise DataError(f"{path} contains no {', '.join(_SUFFIXES)} files; give a folder that does")


def _visible(path: Path) -> bool:
    return not path.name.startswith((".", "_"))


def _data_files(folder: Path) -> list[Path]:
    visible = sorted(file for file in folder.iterdir() if _visible(file) and file.is_file())
    by_kind = {suffix: [file for file in visible if plain_name(file).endswith(suffix)] for suffix in _SUFFIXES}
    kind = next((suffix for suffix, files in by_kind.items() if files), None)
    # A .json file beside rows describes them more often than not.
    others = [file.name for suffix, files in by_kind.items() if suffix not in (kind, ".json") for file in files]
    if kind and others:
        log.warning(
            "%s: only its %s files are read, not %s; convert them, or give a folder of their own",
            folder,
            kind,
            ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else ""),
        )
    return by_kind[kind] if kind else []


def json_rows(files: Sequence[Path], start: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the rows of JSON files (one object per line, or a list) or CSV files from number ``start`` on."""
    return islice((row for file in files for row in rows_in(file)), start, None)


def rows_in(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of one JSON or CSV file; an empty cell is None. Raises DataError with the file and the line."""
    if not plain_name(file).endswith(".csv"):
        yield from iter_objects(file)
        return
    csv.field_size_limit(MAX_LINE_BYTES)
    with opened(file) as content:
        reader = csv.DictReader(
            io.TextIOWrapper(cast("io.BufferedReader", content), "utf-8-sig", newline=""), strict=True
        )
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(
                        f"{file} line {reader.line_num} has a different number of cells from the header; quote cells "
                        "that contain commas"
                    )
                yield {name: cell or None for name, cell in row.items()}
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{file} line {reader.line_num} is not CSV in UTF-8 ({error}); correct it") from error


def json_columns(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the columns of the first rows in order of appearance; raises DataError without rows."""
    if not (columns := dict.fromkeys(key for row in islice(json_rows(files), SAMPLE_ROWS) for key in row)):
        raise DataError(f"{files[0]} is empty; give at least one row")
    return tuple(columns)


def as_text(value: object) -> str | None:
    """Return text and None unchanged, and anything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
