"""Finding the items of benchmarks in conversations: shared word n-grams, through an inverted index.

The rule is that of Tulu 3 (arXiv 2411.15124, section 3.2; allenai/open-instruct, decontamination/): an item is
overlapped by a conversation when more than half of its words lie in word 8-grams that the conversation contains too.
``OverlapRule(13, 0.0)`` is GPT-3's (arXiv 2005.14165, appendix C): any shared 13-gram. Deviations: words are runs of
letters and digits without case, single characters in scripts without spaces (there: spaCy tokens); the letters of
options do not count as words; a prompt that is too short for an n-gram is overlapped only where a user's turn is
exactly that prompt; a multiple-choice question below 32 words is searched together with its options, since half of it
may be a common phrase; n-grams of more than ten different items ("which of the following is an example of", the
instructions of a BBH subtask) identify none of them and count neither as covered nor as words.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.conversations.words import UNSPACED
from evalsuite.suites.types import CheckedItem

_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
_LABEL = re.compile(r"^[^\S\n]*\(?[A-Z][.):]\s+", re.MULTILINE)
FORMULA_ITEMS = 10
"""An n-gram in more different texts than this is boilerplate; a passage has at most ten questions."""

ALONE_NGRAMS = 4
"""A multiple-choice question with fewer words than this many n-grams is searched together with its options."""

_MULTIPLIER = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class OverlapRule:
    """``n`` words per n-gram; an item is overlapped when more than ``share`` of its words is covered."""

    n: int = 8
    share: float = 0.5


@dataclass(frozen=True, slots=True)
class Overlap:
    """An item that a conversation contains, and the share of the item's words that are covered (0 to 1)."""

    item: CheckedItem
    share: float


def words_of(text: str) -> list[str]:
    r"""Split a text into words: runs of letters and digits, casefolded, without the letters of options.

    >>> words_of("Which one?\nA. The first\nB. The second")
    ['which', 'one', 'the', 'first', 'the', 'second']
    """
    return _WORD.findall(_LABEL.sub("", unicodedata.normalize("NFKC", text)).casefold())


class BenchmarkIndex:
    """The n-grams of all items, and for each n-gram the items and positions that contain it.

    An n-gram is a 64-bit number: a polynomial in the numbers of its words, modulo 2^64 (a chance match among
    ten million n-grams and a billion windows has a probability below one in a thousand). A window with a
    word of no benchmark is never looked up, so a conversation costs little more than splitting it.
    """

    def __init__(self, items: Sequence[CheckedItem], rule: OverlapRule) -> None:
        self.rule = rule
        self._vocabulary: dict[str, int] = {}
        self._items = tuple(items)
        # A piece is one text with n-grams, or one short prompt; the numbers of the items that contain it.
        self._pieces: list[list[int]] = []
        self._whole: dict[tuple[str, ...], int] = {}
        known: dict[bytes, int] = {}
        grams, owners, positions = [], [], []
        for number, item in enumerate(items):
            for piece in self._read(number, item):
                piece_grams = self._grams(piece)
                owner = known.setdefault(piece_grams.tobytes(), len(self._pieces))
                if owner < len(self._pieces):
                    # A copy of another item shares its piece, or else its words would look like boilerplate.
                    self._pieces[owner].append(number)
                    continue
                self._pieces.append([number])
                grams.append(piece_grams)
                owners.append(np.full(len(piece_grams), owner, dtype=np.int32))
                positions.append(np.arange(len(piece_grams), dtype=np.int32))
        short = {number for piece in self._whole.values() for number in self._pieces[piece]}
        for other in set(range(len(self._pieces))) - set(self._whole.values()):
            short -= set(self._pieces[other])
        self.n_short = Counter(self._items[number].suite for number in short)
        """How many items of each suite are too short for an n-gram, and found only where they are a whole turn."""
        all_grams = np.concatenate([np.zeros(0, dtype=np.uint64), *grams])
        holders, at = (np.concatenate([np.zeros(0, dtype=np.int32), *each]) for each in (owners, positions))
        order = np.lexsort((at, holders, all_grams))
        all_grams, holders, at = all_grams[order], holders[order], at[order]
        specific = _n_holders(all_grams, holders) <= FORMULA_ITEMS
        all_grams, self._owners, self._positions = all_grams[specific], holders[specific], at[specific]
        self._known, self._starts = np.unique(all_grams, return_index=True)
        self._ends = np.r_[self._starts[1:], len(all_grams)]
        self._lengths = self._covered_words(self._owners, self._positions)

    def _read(self, number: int, item: CheckedItem) -> Iterable[NDArray[np.int64]]:
        """Number the words and yield an item's turns that have n-grams; a short first turn is kept whole."""
        for turn, text in enumerate(item.turns):
            words = words_of(text)
            if len(words) < ALONE_NGRAMS * self.rule.n:
                words += [word for option in item.options for word in words_of(option)]
            if len(words) >= self.rule.n:
                numbers = [self._vocabulary.setdefault(word, len(self._vocabulary) + 1) for word in words]
                yield np.array(numbers, dtype=np.int64)
            elif turn == 0 and words:
                # A later turn alone ("Why?") does not identify its item.
                piece = self._whole.setdefault(tuple(words), len(self._pieces))
                if piece == len(self._pieces):
                    self._pieces.append([])
                self._pieces[piece].append(number)

    def _grams(self, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
        n = self.rule.n
        powers = np.array([pow(_MULTIPLIER, n - 1 - i, 1 << 64) for i in range(n)], dtype=np.uint64)
        # Word numbers are small: spread over 64 bits, sums of neighbours do not coincide.
        spread = (numbers.astype(np.uint64) + np.uint64(0x632BE59BD9B4E019)) * np.uint64(0xD6E8FEB86659FD93)
        spread ^= spread >> np.uint64(32)
        windows = np.lib.stride_tricks.sliding_window_view(spread, n)
        hashed: NDArray[np.uint64] = (windows * powers).sum(axis=1, dtype=np.uint64)
        return hashed

    def overlaps(self, turns: Sequence[str]) -> list[Overlap]:
        """Return the items that a conversation's turns contain, each once, in the benchmarks' order."""
        shares: dict[int, float] = {}
        hits = []
        for turn in turns:
            words = words_of(turn)
            if len(words) < self.rule.n:
                if (piece := self._whole.get(tuple(words))) is not None:
                    shares[piece] = 1.0
                continue
            numbers = np.array([self._vocabulary.get(word, 0) for word in words], dtype=np.int64)
            whole = np.lib.stride_tricks.sliding_window_view(numbers, self.rule.n).min(axis=1) > 0
            if whole.any():
                grams = np.unique(self._grams(numbers)[whole])
                at = np.minimum(np.searchsorted(self._known, grams), len(self._known) - 1)
                hits.append(at[self._known[at] == grams])
        if hits:
            shares |= self._covered(np.unique(np.concatenate(hits)))
        best: dict[tuple[str, str], Overlap] = {}
        by_item = ((number, share) for piece, share in shares.items() for number in self._pieces[piece])
        for number, share in sorted(by_item):
            item = self._items[number]
            if (item.suite, item.id) not in best or best[item.suite, item.id].share < share:
                best[item.suite, item.id] = Overlap(item, share)
        return list(best.values())

    def _covered(self, matches: NDArray[np.int64]) -> dict[int, float]:
        """Return the pieces of which the n-grams ``matches`` cover more than the rule's share of words."""
        if not len(matches):
            return {}
        postings = np.concatenate([np.arange(self._starts[at], self._ends[at]) for at in matches])
        covered = self._covered_words(self._owners[postings], self._positions[postings])
        shares = {piece: count / self._lengths[piece] for piece, count in covered.items()}
        return {piece: share for piece, share in shares.items() if share > self.rule.share}

    def _covered_words(self, owners: NDArray[np.int32], positions: NDArray[np.int32]) -> dict[int, int]:
        """Return how many words of each piece its n-grams at ``positions`` cover."""
        if not len(owners):
            return {}
        order = np.lexsort((positions, owners))
        owners, positions = owners[order], positions[order]
        # An n-gram covers n words, less those that the next one of the same piece covers too.
        steps = np.full(len(owners), self.rule.n)
        same = owners[1:] == owners[:-1]
        steps[:-1][same] = np.minimum(self.rule.n, positions[1:][same] - positions[:-1][same])
        pieces, first = np.unique(owners, return_index=True)
        return dict(zip(pieces.tolist(), np.add.reduceat(steps, first).tolist(), strict=True))

    def describe(self) -> dict[str, Any]:
        """Return the rule as a document keeps it."""
        return {"n": self.rule.n, "share": self.rule.share, "unit": "words", "formula_items": FORMULA_ITEMS}


def _n_holders(grams: NDArray[np.uint64], holders: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return for each posting, sorted by n-gram and holder, how many different holders its n-gram has."""
    if not len(grams):
        return np.zeros(0, dtype=np.int64)
    new_gram = np.r_[True, grams[1:] != grams[:-1]]
    new_holder = new_gram | np.r_[True, holders[1:] != holders[:-1]]
    groups = np.cumsum(new_gram) - 1
    per_posting: NDArray[np.int64] = np.bincount(groups, weights=new_holder).astype(np.int64)[groups]
    return per_posting
