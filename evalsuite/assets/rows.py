"""Reading rows from the files that benchmarks come in, and the hash that identifies them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from evalsuite.assets.asset import Asset
from evalsuite.assets.locations import Absent
from evalsuite.errors import DataError, StoreError
from evalsuite.files import read_json, write_json
from evalsuite.fingerprint import cache_folder, read_sha256, text_sha256

Row = dict[str, Any]

RECIPE = 1
"""Version of a row's canonical form: a change invalidates remembered hashes."""


def plain(value: object) -> Any:
    """Return ``value`` as JSON can hold it, the same whichever file format it came from.

    NumPy scalars and arrays become Python's; NaN becomes None; inside a nested mapping a None is
    left out, because Parquet gives every row the union of all keys.
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def rows_sha256(rows: Iterable[Mapping[str, Any]]) -> str:
    r"""Hash rows: SHA-256 over each row's canonical JSON (sorted keys, no spaces, UTF-8) and a newline, in order.

    >>> rows_sha256([{"b": None, "a": "x"}]) == hashlib.sha256(b'{"a":"x","b":null}\n').hexdigest()
    True
    """
    digest = hashlib.sha256()
    for row in rows:
        text = json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def folder_sha256(folder: Path) -> str:
    """Hash the names and bytes of a folder's own files, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(file for file in folder.iterdir() if file.is_file()):
        digest.update(f"{file.name}\0{read_sha256(file)}\n".encode())
    return digest.hexdigest()


def read_rows(path: Path) -> list[Row]:
    """Read the rows of a .jsonl, .json (a list, or a mapping from id to row) or .parquet file."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return [dict(row) for row in parquet.read_table(path).to_pylist()]
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    loaded = json.loads(text)
    if isinstance(loaded, dict):
        return [{"id": key, **row} for key, row in loaded.items()]
    return [dict(row) for row in loaded]


def selected(rows: Iterable[Mapping[str, Any]], asset: Asset) -> list[Row]:
    """Return the asset's rows with just the fields that the benchmark uses, None where one is missing."""
    kept: list[Row] = []
    for row in rows:
        if asset.only is not None and row.get(asset.only[0]) != asset.only[1]:
            continue
        ready = {key: plain(value) for key, value in row.items()}
        normalized = asset.normalize(ready) if asset.normalize else ready
        kept.append({field: normalized.get(field) for field in asset.fields})
    return kept


def load_rows(asset: Asset, paths: Sequence[Path]) -> list[Row]:
    """Read an asset's rows from its files; raises Absent when they do not hold them."""
    try:
        rows = selected((row for path in paths for row in read_rows(path)), asset)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Absent(f"{paths[0]} cannot be read: {type(error).__name__}: {error}") from error
    if not rows or any(row[asset.fields[0]] is None for row in rows):
        raise Absent(f"{paths[0]} has {f'rows without {asset.fields[0]!r}' if rows else 'no rows'}")
    return rows


def file_stamps(files: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return (path, size in bytes, modification time in ns) of files, which change when their content does."""
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _memory(asset: Asset, files: Sequence[Path]) -> Path:
    parts = [str(part) for part in asset.parts]
    key = json.dumps([RECIPE, asset.name, asset.fields, parts, asset.only, file_stamps(files)])
    return cache_folder() / "hashes" / f"{text_sha256(key)[:32]}.json"


def recall(asset: Asset, files: Sequence[Path]) -> tuple[str, int | None] | None:
    """Return the remembered (hash, rows) of files that have not changed in path, size or time."""
    try:
        known = read_json(_memory(asset, files))
        return str(known["sha256"]), known["rows"]
    except (OSError, DataError, KeyError, TypeError):
        return None


def remember(asset: Asset, files: Sequence[Path], sha256: str, rows: int | None) -> None:
    """Remember the hash of files that are slow to hash; a cache that cannot be written is ignored."""
    with suppress(StoreError):
        write_json(_memory(asset, files), {"name": asset.name, "sha256": sha256, "rows": rows})
