"""Near-duplicates: texts whose n-grams overlap, found by MinHash bands and checked by their true Jaccard similarity.

MinHash (library rensa) and locality-sensitive hashing only propose pairs: their bands are wide enough to find almost
every pair at the threshold. Each proposal is then checked on the n-grams themselves, so the similarity has no error.
Band keys and n-grams are kept in files, not in memory.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from evalsuite.conversations.words import plain, tokens_of
from evalsuite.mix.runs import SortedRuns

PERMUTATIONS = 128
RECALL = 0.985
"""The share of pairs exactly at the threshold that the bands propose; more similar pairs are proposed more often."""

MAX_PROPOSALS = 256
"""How many texts one is compared with, those with most bands in common first."""

_SEED = 42
_MIN_TOKENS = 3
_MIX = 0x9E3779B97F4A7C15


def bands_for(threshold: float) -> tuple[int, int]:
    """Return (bands, rows per band) for a threshold: as selective as ``RECALL`` allows, then as few as it allows.

    Two texts of Jaccard similarity s share a band of r rows with probability s^r, one of b with 1 - (1 - s^r)^b.
    """
    for rows in range(PERMUTATIONS, 0, -1):
        missed = 1 - threshold**rows
        for bands in range(1, PERMUTATIONS // rows + 1):
            if missed**bands <= 1 - RECALL:
                return bands, rows
    return PERMUTATIONS, 1


class NearDuplicates:
    """An index of texts: those that were added are found by similar ones.

    ``threshold`` is the smallest Jaccard similarity of the sets of n-grams (``ngram`` tokens) at which two texts are
    near-duplicates. A text gets a number when it is sketched.
    """

    def __init__(self, threshold: float, ngram: int, folder: Path) -> None:
        """``folder`` receives the files; delete it with this object."""
        self._threshold, self._ngram = threshold, ngram
        self._bands, self._rows = bands_for(threshold)
        self._keys = (folder / "keys").open("w+b")
        self._grams = (folder / "grams").open("w+b")
        self._runs = SortedRuns(folder, MAX_PROPOSALS)
        self._starts, self._sizes = array("Q"), array("I")
        self._written = 0
        self._recent: dict[int, list[int]] = {}
        self._added: list[int] = []
        self._proposed: dict[int, Counter[int]] = {}
        self._discarded: set[int] = set()

    def sketch(self, texts: Sequence[str]) -> list[int]:
        """Number texts for comparison; -1 for a text of fewer than three tokens, which is too short to compare."""
        tokens = [tokens_of(plain(text)) for text in texts]
        usable = [row for row, each in enumerate(tokens) if len(each) >= _MIN_TOKENS]
        numbers = [-1] * len(texts)
        if not usable:
            return numbers
        hashed = RMinHash.hash_token_sets([tokens[row] for row in usable])
        grams = [_grams(np.array(row, dtype=np.uint64), self._ngram) for row in hashed]
        for row, own in zip(usable, grams, strict=True):
            numbers[row] = len(self._starts)
            self._starts.append(self._written)
            self._sizes.append(len(own))
            self._written += len(own)
            self._grams.write((own >> np.uint64(32)).astype(np.uint32).tobytes())
        offsets = np.cumsum([0, *map(len, grams)]).astype(np.uint64)
        digests = RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(grams), offsets, PERMUTATIONS, _SEED)
        self._keys.write(self._band_keys(np.array(digests.to_rows(), dtype=np.uint64)).tobytes())
        return numbers

    def _band_keys(self, digests: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return a 64-bit key per text and band; keys of different bands differ."""
        keys = np.tile(np.arange(self._bands, dtype=np.uint64), (len(digests), 1))
        with np.errstate(over="ignore"):
            for row in range(self._rows):
                # Multiplication only carries upwards: the upper bits come down before the next row.
                keys = (keys ^ digests[:, row : self._bands * self._rows : self._rows]) * np.uint64(_MIX)
                keys ^= keys >> np.uint64(29)
        return keys

    def expect(self, numbers: Sequence[int]) -> None:
        """Look up all numbers that are asked for next at once, which is much faster than one by one."""
        owners = np.repeat(np.array(self._added, dtype=np.uint32), self._bands)
        self._runs.add(self._keys_of(self._added), owners)
        self._recent, self._added = {}, []
        wanted = [number for number in numbers if number >= 0]
        self._proposed = defaultdict(Counter)
        for index, found in self._runs.find(self._keys_of(wanted)):
            self._proposed[wanted[index // self._bands]][found] += 1

    def matches(self, number: int) -> list[int]:
        """Return the added texts that are near-duplicates of a text, in the order of adding."""
        if number < 0:
            return []
        shared = Counter(self._proposed.get(number, {}))
        for key in self._keys_of([number]).tolist():
            shared.update(self._recent.get(key, ()))
        if not shared:
            return []
        proposals = sorted(shared, key=lambda other: (-shared[other], other))[:MAX_PROPOSALS]
        own = self._grams_of(number)
        return sorted(other for other in proposals if other not in self._discarded and self._is_similar(own, other))

    def add(self, number: int) -> None:
        if number >= 0:
            self._added.append(number)
            for key in self._keys_of([number]).tolist():
                self._recent.setdefault(key, []).append(number)

    def discard(self, numbers: Sequence[int]) -> None:
        """Forget texts that were added."""
        self._discarded.update(numbers)

    def close(self) -> None:
        self._keys.close()
        self._grams.close()
        self._runs.close()

    def similarity(self, one: int, other: int) -> float:
        """Return the Jaccard similarity of two sketched texts."""
        own, its = self._grams_of(one), self._grams_of(other)
        shared = len(np.intersect1d(own, its, assume_unique=True))
        return shared / (len(own) + len(its) - shared)

    def _is_similar(self, own: NDArray[np.uint32], other: int) -> bool:
        sizes = sorted((len(own), self._sizes[other]))
        if sizes[0] < self._threshold * sizes[1]:
            return False
        shared = len(np.intersect1d(own, self._grams_of(other), assume_unique=True))
        return shared >= self._threshold * (sum(sizes) - shared)

    def _grams_of(self, number: int) -> NDArray[np.uint32]:
        self._grams.flush()
        raw = os.pread(self._grams.fileno(), 4 * self._sizes[number], 4 * self._starts[number])
        return np.frombuffer(raw, dtype=np.uint32)

    def _keys_of(self, numbers: Sequence[int]) -> NDArray[np.uint64]:
        self._keys.flush()
        size = 8 * self._bands
        parts = [os.pread(self._keys.fileno(), size, size * number) for number in numbers]
        return np.frombuffer(b"".join(parts), dtype=np.uint64)


def _grams(words: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """Return the sorted different n-grams of a text as 64-bit numbers; a text shorter than n is a single one."""
    n = min(n, len(words))
    with np.errstate(over="ignore"):
        grams = np.zeros(len(words) - n + 1, dtype=np.uint64)
        for place in range(n):
            grams = (grams ^ words[place : len(words) - n + 1 + place]) * np.uint64(_MIX)
            grams ^= grams >> np.uint64(32)
    # Different in the 32 bits that are compared.
    _, first = np.unique(grams >> np.uint64(32), return_index=True)
    return grams[first]
