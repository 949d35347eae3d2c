"""Packing items into blocks that a browser unpacks by itself: JSON or numbers, deflated, in base64."""

from __future__ import annotations

import base64
import gc
import multiprocessing
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from evalsuite.report.parts import AnswerFacts, Part, PartSources, part_sources, read_part
from evalsuite.results.reading import ModelResult
from evalsuite.suites.figures import Column

BLOCK_BYTES = 400_000
"""Raw size at which a block is closed: small enough to open at once, large enough to compress well."""

_LARGE_BYTES, _QUICK_LEVEL, _MATRIX_LEVEL = 60_000_000, 2, 6
"""Matrices of few marks take zlib's highest level thirty times as long, for 3 % of their size."""
_MISSING_8, _MISSING_16 = 255, 65535
_MAX_LEVELS, _MAX_LEVEL_LENGTH = 250, 40
"""Most different texts that answers are filtered by, and how long they may be: letters, numbers, reasons."""
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Block:
    """Items ``first`` to ``last`` (not included) of a part, packed."""

    first: int
    last: int
    packed: bytes

    @property
    def base64_size(self) -> int:
        return 4 * ((len(self.packed) + 2) // 3)


@dataclass(frozen=True, slots=True)
class PackedPart:
    """A part after packing: what the index says of it, its texts, its marks, and what could not be read.

    ``marks`` are those that tests compare.
    """

    index: dict[str, Any]
    blocks: Sequence[Block]
    packed_marks: bytes
    packed_facts: Mapping[str, bytes]
    marks: Mapping[int, NDArray[np.float64]]
    contexts: NDArray[np.intp]
    faults: Sequence[str]

    @property
    def base64_size(self) -> int:
        return sum(block.base64_size for block in self.blocks)


def packed_parts(models: Sequence[ModelResult], columns: Sequence[Column], faults: list[str]) -> list[PackedPart]:
    """Read and pack every part of the recorded items, in the order of the suites; parts without any are left out.

    Large results are packed by several processes, and less tightly, for compression is most of the work. What
    cannot be read adds a sentence to ``faults``.
    """
    with _without_collector(), tempfile.TemporaryDirectory(prefix="evalsuite-report-") as scratch:
        parts = part_sources(models, columns, Path(scratch), faults)
        recorded = sum(part.n_bytes for part in parts)
        pack = partial(_packed_part, quick=recorded > _LARGE_BYTES)
        if recorded <= _LARGE_BYTES or len(parts) < 2 or sys.platform != "linux":
            packed = [pack(part) for part in parts]
        else:
            packed = _packed_by_processes(parts)
    faults += dict.fromkeys(fault for part in packed for fault in part.faults)
    return [part for part in packed if part.index["models"]]


def _packed_by_processes(parts: Sequence[PartSources]) -> list[PackedPart]:
    """Pack parts in forked processes, which have the opened records from the start; the largest part first."""
    order = sorted(range(len(parts)), key=lambda number: -parts[number].n_bytes)
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(
        min(os.cpu_count() or 1, len(parts)), mp_context=fork, initializer=_start_process, initargs=(parts,)
    ) as pool:
        done = dict(zip(order, pool.map(_packed_by_number, order), strict=True))
    return [done[number] for number in range(len(parts))]


_parts_of_process: Sequence[PartSources] = ()


def _start_process(parts: Sequence[PartSources]) -> None:
    global _parts_of_process  # noqa: PLW0603 (set once, in a separate process)
    _parts_of_process = parts


def _packed_by_number(number: int) -> PackedPart:
    return _packed_part(_parts_of_process[number], quick=True)


def _packed_part(sources: PartSources, *, quick: bool) -> PackedPart:
    with _without_collector():
        part, faults = read_part(sources)
        marks = part.marks()
        layout, packed = packed_marks(list(marks.values())) if marks else ({"bits": 8, "levels": []}, b"")
        facts, packed_facts = _packed_facts(part)
        blocks = [Block(first, last, deflated(raw, quick=quick)) for first, last, raw in _raw_blocks(part)]
    index = {
        "name": sources.name,
        "title": sources.facts.title,
        "column": sources.facts.column,
        "top": sources.facts.top,
        "n": len(part.labels),
        "labels": part.labels,
        "titles": part.titles,
        "categories": [question.get("category") for question in part.questions],
        "models": list(marks),
        "marks": layout,
        "facts": facts,
        "tokens": {model: list(astuple(one.tokens)) for model, one in part.by_model.items()},
    }
    return PackedPart(index, blocks, packed, packed_facts, part.tested(), part.context_numbers(), faults)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the cycle collector from walking millions of rows that hold no cycle."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def deflated(raw: bytes, *, quick: bool = False, level: int = 9) -> bytes:
    """Compress in the format that browsers call ``deflate-raw``; ``quick`` gives up some size for much less time."""
    packer = (
        isal_zlib.compressobj(_QUICK_LEVEL, zlib.DEFLATED, -15)
        if quick
        else zlib.compressobj(level, zlib.DEFLATED, -15, 9)
    )
    return packer.compress(raw) + packer.flush()


def packed_json(value: object, *, quick: bool = False) -> bytes:
    """Encode as JSON and compress; numbers that JSON cannot hold become null."""
    return deflated(_encode(value), quick=quick)


def as_base64(packed: bytes) -> str:
    return base64.b64encode(packed).decode("ascii")


def _raw_blocks(part: Part) -> Iterator[tuple[int, int, bytes]]:
    """Yield (first, last, JSON) of a part's items, every model's answer beside its question.

    Answers to one question are next to each other, so that what they share is stored once.
    """
    items: list[bytes] = []
    first = size = 0
    for number, (question, answers) in enumerate(zip(part.questions, part.answers, strict=True)):
        item = _encode({"q": question, "a": {str(model): answer for model, answer in answers.items()}})
        items.append(item)
        size += len(item)
        if size >= BLOCK_BYTES:
            yield first, number + 1, b"[" + b",".join(items) + b"]"
            items, first, size = [], number + 1, 0
    if items:
        yield first, len(part.questions), b"[" + b",".join(items) + b"]"


def _packed_facts(part: Part) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Pack what answers are filtered by, one byte each; what no answer has, or too many texts differ in, is left out.

    Returns how to read each matrix (models by items), with its texts under ``levels``, and the matrices by name.
    """
    layout: dict[str, Any] = {}
    packed: dict[str, bytes] = {}
    models = [one.facts for one in part.by_model.values()]
    for number, name in enumerate(AnswerFacts._fields):
        levels = sorted({facts[number] for known in models for facts in known.values()} - {"", 0})
        if not levels or len(levels) > _MAX_LEVELS or any(len(str(text)) > _MAX_LEVEL_LENGTH for text in levels):
            continue
        codes = {text: code for code, text in enumerate(levels)}
        matrix = bytearray([_MISSING_8]) * (len(models) * len(part.labels))
        for row, known in enumerate(models):
            start = row * len(part.labels)
            for item, facts in known.items():
                matrix[start + item] = codes.get(facts[number], _MISSING_8)
        packed[name] = deflated(bytes(matrix), level=_MATRIX_LEVEL)
        layout[name] = {"bits": 8, "levels": levels}
    return layout, packed


def packed_marks(rows: Sequence[NDArray[np.float64]]) -> tuple[dict[str, Any], bytes]:
    """Pack a matrix of marks (models by items) and say how to read it.

    Up to 250 different marks are stored exactly, one byte each; more are stored in 65,535 steps between the
    lowest and the highest, two bytes each, low byte first. The highest code means "no mark".
    """
    matrix = np.stack(rows)
    known = matrix[~np.isnan(matrix)]
    levels = np.unique(known)
    if levels.size <= 250:
        codes = np.full(matrix.shape, _MISSING_8, dtype=np.uint8)
        codes[~np.isnan(matrix)] = np.searchsorted(levels, known)
        return {"bits": 8, "levels": levels.tolist()}, deflated(codes.tobytes(), level=_MATRIX_LEVEL)
    low, high = float(known.min()), float(known.max())
    wide = np.full(matrix.shape, _MISSING_16, dtype="<u2")
    wide[~np.isnan(matrix)] = np.rint((known - low) / (high - low) * (_MISSING_16 - 1))
    return {"bits": 16, "low": low, "high": high}, deflated(wide.tobytes(), level=_MATRIX_LEVEL)
