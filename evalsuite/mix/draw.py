"""Drawing a mix's conversations: an order that depends only on seed and content, and equal shares of DGMs; pure.

Every conversation has a rank, a 64-bit hash of the seed and its key, and the lowest ranks are drawn. So a
sample does not depend on the order of a source's rows, and a larger sample with the same seed contains
the smaller one. In a blend this holds for the answers too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from evalsuite.fingerprint import key_of
from evalsuite.mix.rows import Pool

Offer = tuple[int, Sequence[int]]
"""A conversation's key and the members of a blend that have it."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The conversations of a source in the order of drawing.

    ``keys`` (n); ``rows`` (n, members): the row index in each member, -1 if it does not have the conversation;
    ``texts`` (n, members): the key of that row's text. ``repeated`` counts the duplicate rows left out of each member.
    """

    keys: NDArray[np.uint64]
    rows: NDArray[np.int64]
    texts: NDArray[np.uint64]
    repeated: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.keys)


def ranks(keys: NDArray[np.uint64], seed: int, purpose: str) -> NDArray[np.uint64]:
    """Hash keys with a seed to uniform 64-bit ranks (splitmix64's finaliser; Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed = keys ^ np.uint64(key_of(f"{purpose}\x1f{seed}"))
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def candidates_of(pools: Sequence[Pool], seed: int, *, exact: bool) -> Candidates:
    """Order the conversations of a source's members; with ``exact`` one row of each text is kept.

    In a blend (several pools) rows with the same key are one conversation answered by several DGMs, and
    further rows of a member for it are left out.
    """
    if len(pools) == 1:
        keys, texts, rows = _single(pools[0], seed, exact=exact)
        order = np.lexsort((rows, keys, ranks(keys, seed, "draw")))
        repeated = len(pools[0].keys) - len(keys)
        return Candidates(keys[order], rows[order, None], texts[order, None], (repeated,))
    keys = np.unique(np.concatenate([pool.keys for pool in pools]))
    rows = np.full((len(keys), len(pools)), -1, dtype=np.int64)
    texts = np.zeros((len(keys), len(pools)), dtype=np.uint64)
    repeated_each = []
    for member, pool in enumerate(pools):
        # Of a member's rows with the same prompts, the one with the smallest keys is kept, regardless of its index.
        # Rows with the same text key may differ in case and white space, hence the content key.
        order = np.lexsort((pool.rows, pool.contents, pool.texts, pool.keys))
        unique, first = np.unique(pool.keys[order], return_index=True)
        position = np.searchsorted(keys, unique)
        rows[position, member] = pool.rows[order][first]
        texts[position, member] = pool.texts[order][first]
        repeated_each.append(len(pool.keys) - len(unique))
    order = np.argsort(ranks(keys, seed, "draw"), kind="stable")
    return Candidates(keys[order], rows[order], texts[order], tuple(repeated_each))


def _single(pool: Pool, seed: int, *, exact: bool) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """Return one source's keys, texts and row indices; repeated rows get distinct keys if they are kept."""
    if exact:
        order = np.lexsort((pool.rows, ranks(pool.keys, seed, "draw"), pool.texts))
        _, first = np.unique(pool.texts[order], return_index=True)
        kept = order[first]
        return pool.keys[kept], pool.texts[kept], pool.rows[kept]
    order = np.lexsort((pool.rows, pool.keys))
    keys = pool.keys[order]
    starts = np.r_[True, keys[1:] != keys[:-1]] if len(keys) else np.zeros(0, dtype=bool)
    repeat = np.arange(len(keys)) - np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))
    # The second, third ... of equal rows get new keys, so that each can be drawn.
    again = ranks(keys, 0, "again") + repeat.astype(np.uint64)
    keys = np.where(repeat > 0, ranks(again, 0, "again"), keys)
    return keys, pool.texts[order], pool.rows[order]


class Allocation:
    """Assigns offers, given in the order of drawing, to members (augmenting paths).

    ``taken`` is the member of each offer, -1 for none; ``quota`` is how many more each member can get. The
    earliest offers that can be assigned together are taken: if a conversation's members are all full, earlier
    ones move to other members.
    """

    def __init__(self, offers: Sequence[Offer], members: int) -> None:
        self.taken = [-1] * len(offers)
        self.quota = [0] * members
        self._offers = offers
        self._movable: dict[tuple[int, int], list[int]] = {}

    def fill(self, shares: Sequence[int]) -> None:
        """Assign each member that many more offers, if there are enough; earlier counts are kept."""
        self.quota = [old + new for old, new in zip(self.quota, shares, strict=True)]
        exhausted: set[frozenset[int]] = set()
        for offer, (key, members) in enumerate(self._offers):
            if not any(self.quota):
                break
            if self.taken[offer] >= 0 or frozenset(members) in exhausted:
                continue
            free = [member for member in members if self.quota[member] > 0]
            if free:
                most = max(self.quota[member] for member in free)
                best = [member for member in free if self.quota[member] == most]
                self._assign(offer, best[key % len(best)])
            elif (path := self._augmenting_path(members)) is not None:
                self._move_along(path)
                self._assign(offer, path[0])
            else:
                exhausted.add(frozenset(members))

    def _assign(self, offer: int, member: int) -> None:
        self.taken[offer] = member
        self.quota[member] -= 1
        for other in self._offers[offer][1]:
            if other != member:
                self._movable.setdefault((member, other), []).append(offer)

    def _move_along(self, path: Sequence[int]) -> None:
        """Move one conversation from each member of a path to the next, which frees quota of the first."""
        for member, other in reversed(list(pairwise(path))):
            offer = self._movable[member, other].pop()
            self.quota[member] += 1
            self._assign(offer, other)

    def _augmenting_path(self, starts: Sequence[int]) -> list[int] | None:
        """Find members from one in ``starts`` to one with quota, each with a conversation that can move to the next."""
        came_from: dict[int, int | None] = dict.fromkeys(starts)
        queue = deque(starts)
        while queue:
            member = queue.popleft()
            if self.quota[member] > 0:
                path = [member]
                while (before := came_from[path[-1]]) is not None:
                    path.append(before)
                return path[::-1]
            for other in range(len(self.quota)):
                movable = self._movable.get((member, other), [])
                while movable and self.taken[movable[-1]] != member:
                    movable.pop()
                if movable and other not in came_from:
                    came_from[other] = member
                    queue.append(other)
        return None


def blend_order(offers: Sequence[Offer], members: int) -> list[tuple[int, int]]:
    """Return (offer, member) in the order in which a blend is drawn; any draw is a prefix of it.

    In every round each member gives one more conversation, the earliest offer first, so that shares differ
    by at most one and a larger draw contains a smaller one. All offers are allocated at once, regardless of
    the number drawn, so that conversations are left to a member that is short of them. The last round has
    the members with one conversation left.
    """
    allocation = _largest_equal(offers, members)
    allocation.fill([1] * members)
    counts = [0] * members
    rounds = []
    for offer, member in enumerate(allocation.taken):
        if member >= 0:
            rounds.append((counts[member], offer, member))
            counts[member] += 1
    return [(offer, member) for _, offer, member in sorted(rounds)]


def _largest_equal(offers: Sequence[Offer], members: int) -> Allocation:
    """Return the allocation with the largest equal shares, by bisection."""
    available = [sum(member in owners for _, owners in offers) for member in range(members)]
    low, high = 0, min(len(offers) // members, *available)
    best = Allocation(offers, members)
    middle = high  # usually possible
    while low < high:
        allocation = Allocation(offers, members)
        allocation.fill([middle] * members)
        if any(allocation.quota):
            high = middle - 1
        else:
            low, best = middle, allocation
        middle = (low + high + 1) // 2
    return best


def batches(n_candidates: int, wanted: int | None) -> Iterator[range]:
    """Yield ranges of candidates to check: first a tenth more than wanted, then twice as many each time."""
    step = n_candidates if wanted is None else wanted + wanted // 10 + 64
    start = 0
    while start < n_candidates:
        yield range(start, min(start + step, n_candidates))
        start, step = start + step, 2 * step
