"""An index from 64-bit keys to numbers in files that are read a few megabytes at a time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 2**19
"""Entries that are read at once."""

_MERGE = 4
_Block = tuple[NDArray[np.uint64], NDArray[np.uint32]]


class SortedRuns:
    """Sorted keys with their numbers, in a few files ("runs") that are merged as they grow.

    The memory that it needs does not depend on the number of keys.
    """

    def __init__(self, folder: Path, most: int) -> None:
        """``folder`` receives the files; at most ``most`` numbers of a key are found in a run, those added first."""
        self._folder, self._most = folder, most
        self._runs: list[_Run] = []
        self._n_files = 0

    def add(self, keys: NDArray[np.uint64], numbers: NDArray[np.uint32]) -> None:
        """Add keys (n) with their numbers (n)."""
        if not len(keys):
            return
        order = np.argsort(keys, kind="stable")
        added = self._run([(keys[order], numbers[order])])
        while self._runs and len(self._runs[-1]) < _MERGE * len(added):
            older, newer = self._runs.pop(), added
            added = self._run(_merged(older, newer))
            older.close()
            newer.close()
        self._runs.append(added)

    def _run(self, blocks: Iterable[_Block]) -> _Run:
        self._n_files += 1
        return _Run(self._folder / f"run-{self._n_files}", blocks)

    def find(self, keys: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
        """Yield (position in ``keys``, number) for all numbers that have one of the keys."""
        order = np.argsort(keys, kind="stable")
        wanted = keys[order]
        for run in self._runs:
            for start, block in run.blocks():
                low, high = np.searchsorted(wanted, block[0], "left"), np.searchsorted(wanted, block[-1], "right")
                first = np.searchsorted(block, wanted[low:high], "left")
                last = np.minimum(np.searchsorted(block, wanted[low:high], "right"), first + self._most)
                hits = np.flatnonzero(last > first)
                if not len(hits):
                    continue
                base = int(first[hits[0]])
                numbers = run.numbers(start + base, start + int(last[hits[-1]]))
                for hit in hits.tolist():
                    position = int(order[low + hit])
                    for number in numbers[first[hit] - base : last[hit] - base].tolist():
                        yield position, number

    def close(self) -> None:
        for run in self._runs:
            run.close()


class _Run:
    """One sorted file of keys, and one of their numbers; both are unlinked at once, so that none is ever left."""

    def __init__(self, path: Path, blocks: Iterable[_Block]) -> None:
        self._keys, self._numbers = _scratch(path.with_suffix(".keys")), _scratch(path.with_suffix(".numbers"))
        self._size = 0
        for keys, numbers in blocks:
            self._keys.write(keys.tobytes())
            self._numbers.write(numbers.tobytes())
            self._size += len(keys)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int) -> int:
        return int(self.keys(place, place + 1)[0])

    def keys(self, start: int, end: int) -> NDArray[np.uint64]:
        return _read(self._keys, np.uint64, start, end)

    def numbers(self, start: int, end: int) -> NDArray[np.uint32]:
        return _read(self._numbers, np.uint32, start, end)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """Yield (start, keys) of blocks that do not part equal keys, unless a whole block is one key."""
        start = 0
        while start < self._size:
            block = self.keys(start, min(start + _BLOCK, self._size))
            if start + len(block) < self._size:
                block = block[: int(np.searchsorted(block, block[-1], "left")) or None]
            yield start, block
            start += len(block)

    def close(self) -> None:
        self._keys.close()
        self._numbers.close()


def _scratch(path: Path) -> IO[bytes]:
    file = path.open("w+b")
    path.unlink()
    return file


def _read(file: IO[bytes], kind: Any, start: int, end: int) -> NDArray[Any]:
    size = np.dtype(kind).itemsize
    file.seek(start * size)
    return np.frombuffer(file.read((end - start) * size), dtype=kind)


def _merged(older: _Run, newer: _Run) -> Iterator[_Block]:
    """Yield the entries of two runs in order, block by block; of equal keys the older ones come first."""
    step = max(1, _BLOCK * len(older) // (len(older) + len(newer)))
    done = 0
    for start in range(0, len(older), step):
        end = min(start + step, len(older))
        up_to = bisect_left(newer, older[end]) if end < len(older) else len(newer)
        keys, new_keys = older.keys(start, end), newer.keys(done, up_to)
        places = np.searchsorted(keys, new_keys, "right")
        numbers = np.insert(older.numbers(start, end), places, newer.numbers(done, up_to))
        yield np.insert(keys, places, new_keys), numbers
        done = up_to
