"""Parquet, JSON and CSV files of rows: find, check and stream them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from evalsuite.conversations.formats import carried
from evalsuite.errors import DataError, first_line
from evalsuite.files import MAX_LINE_BYTES, iter_objects, opened, plain_name, refuse_pipe

_SUFFIXES = (".parquet", ".jsonl", ".json", ".csv")
_SAMPLE_ROWS = 1000


def find_files(path: Path) -> list[Path]:
    """Return the files of a source, sorted by name: Parquet if there is any, else JSONL, else JSON, else CSV.

    Without any in the folder itself, those of its only subfolder with such files. Raises DataError.
    """
    refuse_pipe(path)
    if path.is_file():
        if not plain_name(path).endswith(_SUFFIXES):
            raise DataError(f"{path} is not a {', '.join(_SUFFIXES)} file; convert it to one of these")
        return [path]
    if files := _data_files(path):
        return files
    subfolders = [each for each in sorted(path.iterdir()) if each.is_dir() and _visible(each) and _data_files(each)]
    if len(subfolders) == 1:
        return _data_files(subfolders[0])
    if subfolders:
        names = ", ".join(folder.name for folder in subfolders[:5])
        raise DataError(f"{path} contains several data sets ({names}); give one of these folders")
    raise DataError(f"{path} contains no {', '.join(_SUFFIXES)} files; give a folder that does")


def _visible(path: Path) -> bool:
    return not path.name.startswith((".", "_"))


def _data_files(folder: Path) -> list[Path]:
    for suffix in _SUFFIXES:
        files = sorted(
            file for file in folder.iterdir() if plain_name(file).endswith(suffix) and file.is_file() and _visible(file)
        )
        if files:
            return files
    return []


def parquet_schemas(files: Sequence[Path]) -> tuple[list[Any], list[int]]:
    """Return each file's schema and number of rows; raises DataError with the file that cannot be read."""
    schemas, counts = [], []
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                schemas.append(opened.schema_arrow.remove_metadata())
                counts.append(opened.metadata.num_rows)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{file} is not a complete Parquet file ({first_line(error)}); download or create it again"
            ) from error
    return schemas, counts


def common_schema(files: Sequence[Path], schemas: Sequence[Any]) -> Any:
    """Return one schema for all files; raises DataError if a column has no common type."""
    try:
        return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"{files[0]} and the other Parquet files have columns of different types ({first_line(error)}); "
            "give a folder with files of one schema"
        ) from error


def parquet_batches(
    files: Sequence[Path], counts: Sequence[int], start: int, n_rows: int, read: Collection[str] | None = None
) -> Iterator[Any]:
    """Yield Arrow batches of ``n_rows`` from row ``start`` on, of the columns ``read`` only.

    Row groups before ``start`` are not read.
    """
    for file, count in zip(files, counts, strict=True):
        if start >= count:
            start -= count
            continue
        try:
            # Buffering ahead keeps what was read of every row group in memory.
            with pq.ParquetFile(file, pre_buffer=False) as opened:
                groups, skip = _groups_from(opened.metadata, start)
                columns = None if read is None else [name for name in opened.schema_arrow.names if name in read]
                for batch in opened.iter_batches(batch_size=n_rows, row_groups=groups, columns=columns):
                    if skip < batch.num_rows:
                        yield batch.slice(skip)
                    skip = max(0, skip - batch.num_rows)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file} is damaged ({first_line(error)}); download or create it again") from error
        start = 0


def _groups_from(metadata: Any, start: int) -> tuple[list[int], int]:
    """Return the row groups from the one with row ``start`` on, and the number of rows to skip in it."""
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).num_rows
        if start < size:
            return list(range(group, metadata.num_row_groups)), start
        start -= size
    return [], 0


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
    if not (columns := dict.fromkeys(key for row in islice(json_rows(files), _SAMPLE_ROWS) for key in row)):
        raise DataError(f"{files[0]} is empty; give at least one row")
    return tuple(columns)


def json_schema(files: Sequence[Path]) -> Any:
    """Read all rows once and return an Arrow schema that fits all of them.

    A column without a common type, or with one that Parquet cannot store, becomes text: see ``as_text``.
    """
    types: dict[str, Any] = {}
    rows = json_rows(files)
    while batch := list(islice(rows, _SAMPLE_ROWS)):
        for name in dict.fromkeys(key for row in batch for key in row):
            kind = _common_type([carried(row, name) for row in batch])
            types[name] = kind if name not in types else _unified(types[name], kind)
    return pa.schema({name: kind if _is_storable(kind) else pa.string() for name, kind in types.items()})


def _common_type(values: Sequence[Any]) -> Any:
    try:
        # pa.infer_type would accept a text among numbers as a number.
        return pa.array(values).type
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError):
        return pa.string()


def _unified(one: object, other: Any) -> Any:
    try:
        schemas = [pa.schema([("value", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field("value").type
    except pa.ArrowException:
        return pa.string()


def _is_storable(kind: Any) -> bool:
    """Return whether a type is neither an empty struct, which Parquet cannot store, nor of nulls only."""
    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_is_storable(field.type) for field in kind)
    if pa.types.is_list(kind):
        return _is_storable(kind.value_type)
    return not pa.types.is_null(kind)


def as_text(value: object) -> str | None:
    """Return text and None unchanged, and anything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
