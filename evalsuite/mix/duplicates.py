"""Near-duplicates: texts whose word 5-grams overlap, found by MinHash and locality-sensitive hashing (rensa)."""

from __future__ import annotations

from typing import Any

SHINGLE_WORDS = 5
PERMUTATIONS = 128
_SEED = 42  # the only one that rensa's deduplicator takes
_LEAST_WORDS = 3


def sketch_of(text: str) -> Any | None:
    """Return the MinHash sketch (128 slots, 512 bytes) of a plain text's word 5-grams.

    None for a text of fewer than three words, which says too little to be compared; one shorter
    than five words is a single shingle.
    """
    from rensa import RMinHash

    words = text.split()
    if len(words) < _LEAST_WORDS:
        return None
    last = max(len(words) - SHINGLE_WORDS, 0)
    sketch = RMinHash(num_perm=PERMUTATIONS, seed=_SEED)
    sketch.update([" ".join(words[start : start + SHINGLE_WORDS]) for start in range(last + 1)])
    return sketch


class NearDuplicates:
    """The sketches of all conversations taken so far, across sources.

    ``threshold`` is the Jaccard similarity from which on two texts are duplicates. It is estimated
    (standard error about 0.04 at 0.8); what the bands bring up is checked against the estimate.
    """

    def __init__(self, threshold: float) -> None:
        from rensa import RMinHashDeduplicator

        self._seen = RMinHashDeduplicator(threshold=threshold, num_perm=PERMUTATIONS, use_lsh=True)
        self._count = 0

    def knows(self, sketch: Any | None) -> bool:
        """Whether a near-duplicate was taken before."""
        return sketch is not None and bool(self._seen.is_duplicate(f"?{self._count}", sketch))

    def alike(self, sketch: Any) -> list[int]:
        """Return which of the sketches that were added, counted from 0, are near-duplicates of one."""
        return [int(number) for number in self._seen.get_duplicates(sketch)]

    def add(self, sketch: Any | None) -> None:
        if sketch is not None:
            self._seen.add(str(self._count), sketch)
            self._count += 1
