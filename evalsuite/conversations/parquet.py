"""Parquet files of rows, and the Arrow schema of JSON and CSV: what needs the package pyarrow."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evalsuite.conversations.files import SAMPLE_ROWS, json_rows
from evalsuite.conversations.formats import carried
from evalsuite.errors import DataError, first_line


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


def json_schema(files: Sequence[Path]) -> Any:
    """Read all rows once and return an Arrow schema that fits all of them.

    A column without a common type, or with one that Parquet cannot store, becomes text: see ``as_text``.
    """
    types: dict[str, Any] = {}
    rows = json_rows(files)
    while batch := list(islice(rows, SAMPLE_ROWS)):
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
