"""``records/<suite>.jsonl``: one writer and one reader of a run's rows.

The first line is the :class:`~evalsuite.records.rows.Header`; a row per line follows, the rows of a part together.
Reading goes part by part, so that a file of any size needs the memory of its largest part.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Protocol

import msgspec

from evalsuite.errors import DataError, plain_fault, refuse_newer
from evalsuite.files import write_pieces
from evalsuite.records.rows import SCHEMA, Header, Row
from evalsuite.text import mapped, without_surrogates

FOLDER = "records"
_REMEDY = "run the model again to rewrite it"
_PART = re.compile(rb'\{(?:"item_id":"(?:[^"\\]|\\.)*")(?:,"part":"((?:[^"\\]|\\.)*)")?')
_encoder = msgspec.json.Encoder()
_rows = msgspec.json.Decoder(Row)
_headers = msgspec.json.Decoder(Header)


_BROKEN = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding a damaged line may raise."""


class Records(Protocol):
    """The rows of one suite of one model, from a file or converted in memory."""

    @property
    def header(self) -> Header: ...

    @property
    def parts(self) -> Sequence[str]:
        """The parts in the order of the rows; [""] for a suite without parts."""
        ...

    def rows(self, part: str | None = None) -> list[Row]:
        """Read the rows of one part, or all of them."""
        ...


@dataclass(frozen=True)
class RecordsInMemory:
    """Rows that are in no records file, such as those converted from a folder of version 0.1."""

    header: Header
    all_rows: Sequence[Row]

    @property
    def parts(self) -> Sequence[str]:
        return list(dict.fromkeys(row.part for row in self.all_rows))

    def rows(self, part: str | None = None) -> list[Row]:
        return [row for row in self.all_rows if part is None or row.part == part]


class RecordsFile:
    """A records file; the rows of a part are read when asked for.

    Raises DataError where the file cannot be read, is of a newer schema, was cut short, or holds an item twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def header(self) -> Header:
        with self._reading() as content:
            line = content.readline()
        try:
            refuse_newer(self.path, msgspec.json.decode(line, type=_Schema).schema, SCHEMA)
            return _headers.decode(line)
        except _BROKEN as error:
            raise DataError(f"{self.path} does not begin with a header of records ({error}); {_REMEDY}") from error

    @property
    def parts(self) -> Sequence[str]:
        return list(self._index)

    def n_bytes(self, part: str) -> int:
        """Return how long the rows of a part are, without reading them."""
        begin, end = self._index[part]
        return end - begin

    def rows(self, part: str | None = None) -> list[Row]:
        _ = self.header
        if part is None:
            return [row for one in self._index for row in self.rows(one)]
        begin, end = self._index[part]
        with self._reading() as content:
            content.seek(begin)
            block = content.read(end - begin)
        return self._decoded(block, part, begin)

    @cached_property
    def _index(self) -> Mapping[str, tuple[int, int]]:
        """Part -> (first byte, byte behind the last), without reading every row: those of a part are contiguous."""
        index: dict[str, tuple[int, int]] = {}
        with self._reading() as content:
            begin, end = len(content.readline()), content.seek(0, os.SEEK_END)
            content.seek(max(begin, end - 1))
            if content.read(1) not in (b"\n", b""):
                raise DataError(f"{self.path} line {self._line_number(end)} is cut short; {_REMEDY}")
            while begin < end:
                part = _part_at(content, begin)
                if part is None:
                    raise DataError(f"{self.path} line {self._line_number(begin)} is not a row; {_REMEDY}")
                if part in index:
                    raise self._scattered(part, begin)
                behind = _end_of_part(content, part, begin, end)
                index[part] = (begin, behind)
                begin = behind
        return index

    def _decoded(self, block: bytes, part: str, begin: int) -> list[Row]:
        try:
            rows = _rows.decode_lines(block)
        except _BROKEN:
            raise self._not_a_row(block, begin) from None
        for rank, row in enumerate(rows):
            if row.part != part:
                raise self._scattered(part, begin, rank)
        if len({row.item_id for row in rows}) != len(rows):
            [(item_id, _)] = Counter(row.item_id for row in rows).most_common(1)
            raise DataError(f"{self.path}: duplicate item {item_id!r}; {_REMEDY}")
        return rows

    def _not_a_row(self, block: bytes, begin: int) -> DataError:
        for number, line in enumerate(block.splitlines(), self._line_number(begin)):
            try:
                _rows.decode(line)
            except _BROKEN as error:
                return DataError(f"{self.path} line {number} is not a row ({plain_fault(error)}); {_REMEDY}")
        return DataError(f"{self.path} contains a line that is not a row; {_REMEDY}")

    def _scattered(self, part: str, begin: int, rank: int = 0) -> DataError:
        number = self._line_number(begin) + rank
        return DataError(f"{self.path} line {number}: the rows of part {part!r} are not contiguous; {_REMEDY}")

    def _line_number(self, position: int) -> int:
        """Return the number of the line that holds a byte."""
        with self.path.open("rb") as content:
            return content.read(position).count(b"\n") + 1

    @contextmanager
    def _reading(self) -> Iterator[BinaryIO]:
        """Open the file; raises DataError for what the file system reports."""
        try:
            with self.path.open("rb") as content:
                yield content
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from error


def _part_at(content: BinaryIO, position: int) -> str | None:
    """Return the part of the row that begins at a byte, None where no row does."""
    content.seek(position)
    match = _PART.match(content.readline())
    try:
        return None if match is None else msgspec.json.decode(b'"' + (match[1] or b"") + b'"', type=str)
    except _BROKEN:
        return None


def _end_of_part(content: BinaryIO, part: str, begin: int, end: int) -> int:
    """Return the byte behind the rows of the part that begins at ``begin``, by halving what is left of the file."""
    low, high = begin, end
    while high - low > 1:
        middle = (low + high) // 2
        content.seek(middle - 1)
        content.readline()
        start = content.tell()
        if start >= high:
            high = middle
        elif _part_at(content, start) in (part, None):
            low = start
        else:
            high = end = start
    return end


class _Schema(msgspec.Struct):
    schema: int = SCHEMA


def records_path(folder: Path, suite: str) -> Path:
    """Return where the records of a suite (its key in scores.json) are in a model's folder."""
    return folder / FOLDER / f"{suite}.jsonl"


def write_records(path: Path, header: Header, rows: Iterable[Row]) -> None:
    """Write a records file in one step; raises StoreError where it cannot be written."""
    write_pieces(path, itertools.chain([encoded(header)], map(encoded, rows)))


def encoded(value: Header | Row) -> str:
    """Return the line of a header or a row; half of a surrogate pair is U+FFFD."""
    try:
        return _encoder.encode(value).decode() + "\n"
    except UnicodeEncodeError:
        return _encoder.encode(mapped(msgspec.to_builtins(value), without_surrogates)).decode() + "\n"
