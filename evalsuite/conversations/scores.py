"""Scores of conversations that are in separate files, found by the hash of the conversation's content.

A file of scores has a JSON object per line: ``content_hash`` (``formats.content_hash``) and numbers under any names, or
``factor`` and ``rating``, as ``evalsuite rate`` writes them: those become the columns ``rating_<factor>``, and
``rating``, their mean where a conversation has all of them. Rows without a rating are left out.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.conversations.formats import content_hash
from evalsuite.errors import DataError
from evalsuite.files import exists, iter_objects
from evalsuite.fingerprint import files_sha256
from judges.types import Message

RATINGS = "ratings.jsonl"
RATING = "rating"


@dataclass(frozen=True, slots=True)
class Scores:
    """``values`` (n, columns), NaN if there is none, of the conversations with the sorted ``keys`` (n)."""

    columns: tuple[str, ...]
    keys: NDArray[np.uint64]
    values: NDArray[np.float64]
    fingerprint: str
    name: str

    def of(self, messages: Sequence[Message]) -> dict[str, float | None]:
        """Return a conversation's scores by column, {} where it is not known.

        The scores of its first exchange (up to the first answer) are taken where there are none of the whole.
        """
        whole = len(messages)
        first = next((number for number, message in enumerate(messages, 1) if message.role == "assistant"), whole)
        for size in dict.fromkeys((whole, first)):
            key = np.uint64(_key(content_hash(messages[:size])))
            place = int(np.searchsorted(self.keys, key))
            if place < len(self.keys) and self.keys[place] == key:
                values = self.values[place].tolist()
                return {
                    name: None if math.isnan(value) else value for name, value in zip(self.columns, values, strict=True)
                }
        return {}


def _key(hash_: str) -> int:
    return int(hash_[:16], 16)


def read_scores(spec: str) -> Scores:
    """Read a file of scores, or a folder of ``evalsuite rate``; of equal conversations the mean. Raises DataError."""
    path = Path(spec).expanduser()
    if exists(path / RATINGS):
        path = path / RATINGS
    if not exists(path) or not path.is_file():
        raise DataError(f"no scores at {spec}; give a folder of 'evalsuite rate', or a JSONL file with content_hash")
    found: dict[str, tuple[array[int], array[float]]] = {}
    factors: dict[str, None] = {}
    for number, row in enumerate(iter_objects(path), 1):
        if row.get("unscored"):
            continue
        key = _read_key(row, f"{path} row {number}")
        for name, value in _numbers(row, factors).items():
            own, values = found.setdefault(name, (array("Q"), array("d")))
            own.append(key)
            values.append(value)
    if not found:
        raise DataError(f"{path} has no scores; every row needs content_hash, and rating or other numeric columns")
    keys = np.unique(np.concatenate([np.frombuffer(each, dtype=np.uint64) for each, _ in found.values()]))
    table = np.column_stack([_means(keys, *each) for each in found.values()])
    columns = list(found)
    if factors and RATING not in columns:
        table = np.column_stack([table, table[:, [columns.index(name) for name in factors]].mean(axis=1)])
        columns.append(RATING)
    return Scores(
        tuple(columns), keys, table, files_sha256([path]), path.parent.name if path.name == RATINGS else path.name
    )


def _read_key(row: Mapping[str, Any], where: str) -> int:
    given = row.get("content_hash")
    try:
        if isinstance(given, str) and len(given) == 32:
            return _key(given)
    except ValueError:
        pass
    raise DataError(f"{where} has no content_hash of 32 hex digits, to match it by; rate the answers again")


def _numbers(row: Mapping[str, Any], factors: dict[str, None]) -> dict[str, float]:
    """Return a row's scores by column; its factor is noted in ``factors``."""
    if isinstance(factor := row.get("factor"), str):
        column = f"{RATING}_{factor}"
        factors[column] = None
        row = {column: row.get(RATING)}
    numbers = {name: finite(value) for name, value in row.items()}
    return {name: value for name, value in numbers.items() if value is not None}


def finite(value: Any) -> float | None:
    """Return a finite number, None for anything else."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None


def _means(keys: NDArray[np.uint64], own: array[int], values: array[float]) -> NDArray[np.float64]:
    """Return the mean value of each key, NaN for one without."""
    places = np.searchsorted(keys, np.frombuffer(own, dtype=np.uint64))
    sums = np.bincount(places, weights=np.frombuffer(values), minlength=len(keys))
    counts = np.bincount(places, minlength=len(keys))
    with np.errstate(invalid="ignore"):
        means: NDArray[np.float64] = sums / counts
    return means
