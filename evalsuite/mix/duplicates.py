"""Near-duplicates: texts whose word 5-grams overlap, found by MinHash and locality-sensitive hashing (rensa)."""

from __future__ import annotations

from typing import Any

from rensa import RMinHash, RMinHashDeduplicator

SHINGLE_WORDS = 5
PERMUTATIONS = 128
_SEED = 42  # the only one that rensa's deduplicator accepts
_MIN_WORDS = 3


def sketch_of(text: str) -> Any | None:
    """Return the MinHash sketch (128 slots, 512 bytes) of a plain text's word 5-grams.

    None for a text of fewer than three words, which is too short to compare; one shorter than five
    words is a single shingle.
    """
    words = text.split()
    if len(words) < _MIN_WORDS:
        return None
    last = max(len(words) - SHINGLE_WORDS, 0)
    sketch = RMinHash(num_perm=PERMUTATIONS, seed=_SEED)
    sketch.update([" ".join(words[start : start + SHINGLE_WORDS]) for start in range(last + 1)])
    return sketch


class NearDuplicates:
    """The sketches of all conversations taken so far, across sources.

    ``threshold`` is the minimum Jaccard similarity of duplicates. It is estimated from the sketches
    (standard error about 0.04 at 0.8), and LSH candidates are checked against the estimate.
    """

    def __init__(self, threshold: float) -> None:
        self._index = RMinHashDeduplicator(threshold=threshold, num_perm=PERMUTATIONS, use_lsh=True)
        self._count = 0

    def contains(self, sketch: Any | None) -> bool:
        """Return whether a near-duplicate was added before."""
        return sketch is not None and bool(self._index.is_duplicate(f"?{self._count}", sketch))

    def matches(self, sketch: Any) -> list[int]:
        """Return the numbers of the added sketches, counted from 0, that are near-duplicates."""
        return [int(number) for number in self._index.get_duplicates(sketch)]

    def add(self, sketch: Any | None) -> None:
        if sketch is not None:
            self._index.add(str(self._count), sketch)
            self._count += 1
