"""Parquet and JSON files of rows: found, checked, and read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from evalsuite.errors import DataError
from evalsuite.files import read_json

_SUFFIXES = (".parquet", ".jsonl", ".json")
_SAMPLE_ROWS = 1000


def without_path(word: str) -> str:
    return Path(word).name or word


def find_files(path: Path) -> list[Path]:
    """Return the files of a source in the order of their names: Parquet where there is any, else JSONL, else JSON.

    A folder's own files count; without any, those of its only subfolder that has some. Raises DataError.
    """
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise DataError(f"{path} is no {', '.join(_SUFFIXES)} file; convert it to one of these")
        return [path]
    if files := _own_files(path):
        return files
    below = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _visible(folder) and _own_files(folder)]
    if len(below) == 1:
        return _own_files(below[0])
    if below:
        names = ", ".join(folder.name for folder in below[:5])
        raise DataError(f"{path} holds several data sets ({names}); give one of these folders")
    raise DataError(f"{path} holds no {', '.join(_SUFFIXES)} files; give the folder that does")


def _visible(path: Path) -> bool:
    return not path.name.startswith((".", "_"))


def _own_files(folder: Path) -> list[Path]:
    for suffix in _SUFFIXES:
        found = sorted(file for file in folder.glob(f"*{suffix}") if file.is_file() and _visible(file))
        if found:
            return found
    return []


def parquet_schema(files: Sequence[Path]) -> tuple[Any, list[int]]:
    """Return the common schema and each file's number of rows; raises DataError naming a file that cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schemas, counts = [], []
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                schemas.append(opened.schema_arrow.remove_metadata())
                counts.append(opened.metadata.num_rows)
        except (OSError, pa.ArrowException) as error:
            raise DataError(
                f"{file} is not a whole Parquet file ({_one_line(error)}); fetch or make it again"
            ) from error
    try:
        return pa.unify_schemas(schemas, promote_options="permissive"), counts
    except pa.ArrowException as error:
        raise DataError(
            f"the Parquet files beside {files[0]} have columns of different types ({_one_line(error)}); "
            "give a folder with files of one kind"
        ) from error


def parquet_batches(files: Sequence[Path], counts: Sequence[int], start: int, n_rows: int) -> Iterator[Any]:
    """Yield Arrow batches from row ``start`` on, ``n_rows`` a batch; whole row groups before it are not read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file, count in zip(files, counts, strict=True):
        if start >= count:
            start -= count
            continue
        try:
            with pq.ParquetFile(file) as opened:
                groups, skip = _from_group(opened.metadata, start)
                for batch in opened.iter_batches(batch_size=n_rows, row_groups=groups):
                    if skip < batch.num_rows:
                        yield batch.slice(skip)
                    skip = max(0, skip - batch.num_rows)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file} is damaged ({_one_line(error)}); fetch or make it again") from error
        start = 0


def _from_group(metadata: Any, start: int) -> tuple[list[int], int]:
    """Return the row groups that hold row ``start`` and all after it, and how many rows to skip in the first."""
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).num_rows
        if start < size:
            return list(range(group, metadata.num_row_groups)), start
        start -= size
    return [], 0


def json_rows(files: Sequence[Path], start: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the objects of .jsonl files (one a line) or .json files (a list) from the one numbered ``start`` on."""
    every = (row for file in files for row in (_lines(file) if file.suffix == ".jsonl" else _list(file)))
    return islice(every, start, None)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        # Line by line from bytes: a text file decodes ahead, so that a fault would be found lines before its own.
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row = json.loads(line.decode("utf-8"))
                if not isinstance(row, dict):
                    raise DataError(f"{file} line {number} is no JSON object; give one object a line")
                yield row
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} line {number} is not JSON ({error}); correct it there, in UTF-8") from error


def _list(file: Path) -> Iterator[dict[str, Any]]:
    rows = read_json(file)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{file} is no list of objects; give one, or a .jsonl file")
    yield from rows


def json_start(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the columns that the first rows have, in the order of their appearance; raises DataError without rows."""
    columns = dict.fromkeys(key for row in islice(json_rows(files), _SAMPLE_ROWS) for key in row)
    if not columns:
        raise DataError(f"{files[0]} is empty; give at least one row")
    return tuple(columns)


def json_schema(files: Sequence[Path]) -> Any:
    """Read all rows once and return an Arrow schema that holds every one of them.

    A column whose values have no common type, or one that Parquet cannot hold, becomes text:
    see ``as_text``.
    """
    import pyarrow as pa

    types: dict[str, Any] = {}
    rows = json_rows(files)
    while batch := list(islice(rows, _SAMPLE_ROWS)):
        for name in dict.fromkeys(key for row in batch for key in row):
            found = _common_type([row.get(name) for row in batch])
            types[name] = found if name not in types else _unified(types[name], found)
    return pa.schema([(name, _storable(found)) for name, found in types.items()])


def _common_type(values: Sequence[Any]) -> Any:
    import pyarrow as pa

    try:
        # infer_type takes a text among numbers for a number
        return pa.array(values).type
    except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError):
        return pa.string()


def _unified(one: Any, other: Any) -> Any:
    import pyarrow as pa

    try:
        schemas = [pa.schema([("value", kind)]) for kind in (one, other)]
        return pa.unify_schemas(schemas, promote_options="permissive").field("value").type
    except pa.ArrowException:
        return pa.string()


def _storable(kind: Any) -> Any:
    """Parquet holds no empty struct, and a column of nothing but nulls is text to most readers."""
    import pyarrow as pa

    return kind if _has_content(kind) else pa.string()


def _has_content(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.num_fields > 0 and all(_has_content(field.type) for field in kind)
    if pa.types.is_list(kind):
        return _has_content(kind.value_type)
    return not pa.types.is_null(kind)


def as_text(value: Any) -> str | None:
    """Return a text as it is and anything else as its JSON, None as None."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _one_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
