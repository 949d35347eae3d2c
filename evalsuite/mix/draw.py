"""Drawing a mix's conversations: an order from seed and content alone, and equal shares among DGMs; pure.

Every conversation has a rank, a 64-bit number mixed from the seed and its key, and the lowest ranks are
drawn. So a sample does not depend on the order of a source's rows, and a larger sample with the same seed
holds the smaller one whole. In a blend this holds for the answers too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from evalsuite.mix.rows import Pool, key_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Offer = tuple[int, Sequence[int]]
"""A conversation's key, and the members of a blend that have it."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may be drawn from a source, in the order of drawing.

    ``keys`` (n); ``places`` (n, members): the row in each member, -1 where it does not have the
    conversation; ``texts`` (n, members): the key of that row's text. ``repeated`` counts, for each member,
    the rows left out because an equal one stands for them.
    """

    keys: NDArray[np.uint64]
    places: NDArray[np.int64]
    texts: NDArray[np.uint64]
    repeated: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.keys)


def ranks(keys: NDArray[np.uint64], seed: int, purpose: str) -> NDArray[np.uint64]:
    """Mix keys with a seed into uniform 64-bit ranks (splitmix64's finaliser; Steele et al. 2014)."""
    import numpy as np

    with np.errstate(over="ignore"):
        mixed = keys ^ np.uint64(key_of(f"{purpose}\x1f{seed}"))
        mixed = mixed + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def candidates_of(pools: Sequence[Pool], seed: int, *, exact: bool) -> Candidates:
    """Order what a source's members offer; with ``exact`` one row stands for all of the same text.

    In a blend (several pools) the rows of one key are one conversation in the words of several DGMs,
    and a member's second row for it is always left out.
    """
    import numpy as np

    if len(pools) == 1:
        keys, texts, places = _single(pools[0], seed, exact=exact)
        order = np.lexsort((places, keys, ranks(keys, seed, "draw")))
        repeated = len(pools[0].keys) - len(keys)
        return Candidates(keys[order], places[order, None], texts[order, None], (repeated,))
    keys = np.unique(np.concatenate([pool.keys for pool in pools]))
    places = np.full((len(keys), len(pools)), -1, dtype=np.int64)
    texts = np.zeros((len(keys), len(pools)), dtype=np.uint64)
    repeated_each = []
    for member, pool in enumerate(pools):
        # Of a member's rows with the same prompts the one with the smallest keys stands, wherever it lies: rows of
        # one text may still differ in case and white space, so that only the content tells them apart.
        order = np.lexsort((pool.places, pool.contents, pool.texts, pool.keys))
        own, first = np.unique(pool.keys[order], return_index=True)
        at = np.searchsorted(keys, own)
        places[at, member] = pool.places[order][first]
        texts[at, member] = pool.texts[order][first]
        repeated_each.append(len(pool.keys) - len(own))
    order = np.argsort(ranks(keys, seed, "draw"), kind="stable")
    return Candidates(keys[order], places[order], texts[order], tuple(repeated_each))


def _single(pool: Pool, seed: int, *, exact: bool) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.int64]]:
    """Return one source's keys, texts and places; repeated rows are told apart where they are kept."""
    import numpy as np

    if exact:
        order = np.lexsort((pool.places, ranks(pool.keys, seed, "draw"), pool.texts))
        _, first = np.unique(pool.texts[order], return_index=True)
        kept = order[first]
        return pool.keys[kept], pool.texts[kept], pool.places[kept]
    order = np.lexsort((pool.places, pool.keys))
    keys = pool.keys[order]
    starts = np.r_[True, keys[1:] != keys[:-1]] if len(keys) else np.zeros(0, dtype=bool)
    since = np.arange(len(keys)) - np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))
    # The second, third ... of equal rows get keys of their own, so that each may be drawn.
    again = ranks(keys, 0, "again") + since.astype(np.uint64)
    keys = np.where(since > 0, ranks(again, 0, "again"), keys)
    return keys, pool.texts[order], pool.places[order]


def share_out(offers: Sequence[Offer], shares: Sequence[int]) -> list[int] | None:
    """Give each conversation to one member until every share is full; None when that cannot be.

    ``offers`` are (key, members that have it) in the order of drawing. Returns the member for each offer,
    -1 where it is not drawn. Takes the earliest offers that can be taken together: where a member that
    is full blocks a conversation, earlier ones are moved to other members (augmenting paths).
    """
    sharing = _Sharing(offers, len(shares))
    sharing.fill(shares)
    return None if any(sharing.room) else sharing.taken


class _Sharing:
    """Offers on their way to members: ``taken`` is the member for each offer, ``room`` what each may still get."""

    def __init__(self, offers: Sequence[Offer], members: int) -> None:
        self.taken = [-1] * len(offers)
        self.room = [0] * members
        self._offers = offers
        self._movable: dict[tuple[int, int], list[int]] = {}

    def fill(self, more: Sequence[int]) -> None:
        """Give every member that many more, as far as offers reach; what a member has, it keeps in number."""
        self.room = [old + new for old, new in zip(self.room, more, strict=True)]
        hopeless: set[frozenset[int]] = set()
        for offer, (key, members) in enumerate(self._offers):
            if not any(self.room):
                break
            if self.taken[offer] >= 0 or frozenset(members) in hopeless:
                continue
            free = [member for member in members if self.room[member] > 0]
            if free:
                most = max(self.room[member] for member in free)
                best = [member for member in free if self.room[member] == most]
                self._put(offer, best[key % len(best)])
            elif (path := self._path_to_room(members)) is not None:
                self._hand_on(path)
                self._put(offer, path[0])
            else:
                hopeless.add(frozenset(members))

    def _put(self, offer: int, member: int) -> None:
        self.taken[offer] = member
        self.room[member] -= 1
        for other in self._offers[offer][1]:
            if other != member:
                self._movable.setdefault((member, other), []).append(offer)

    def _hand_on(self, path: Sequence[int]) -> None:
        """Let each member of a path give one conversation to the next, so that the first has room."""
        for full, other in reversed(list(pairwise(path))):
            moved = self._movable[full, other].pop()
            self.room[full] += 1
            self._put(moved, other)

    def _path_to_room(self, starts: Sequence[int]) -> list[int] | None:
        """Find members m0 (in ``starts``), m1, ... where each can hand one conversation on and the last has room."""
        came: dict[int, int | None] = dict.fromkeys(starts)
        queue = deque(starts)
        while queue:
            member = queue.popleft()
            if self.room[member] > 0:
                path = [member]
                while (before := came[path[-1]]) is not None:
                    path.append(before)
                return path[::-1]
            for other in range(len(self.room)):
                waiting = self._movable.get((member, other), [])
                while waiting and self.taken[waiting[-1]] != member:
                    waiting.pop()
                if waiting and other not in came:
                    came[other] = member
                    queue.append(other)
        return None


def blend_order(offers: Sequence[Offer], members: int) -> list[tuple[int, int]]:
    """Return (offer, member) in the order in which a blend is drawn; whatever number is drawn is its beginning.

    In every round each member gives one more conversation, the earliest offer first, so that shares differ
    by one at most and a larger draw holds a smaller one whole. All offers are shared out at once and not
    for the number asked: where a member is short, the others leave it what only it needs. The last round is
    of those members that have one left.
    """
    sharing = _largest_equal(offers, members)
    sharing.fill([1] * members)
    given = [0] * members
    rounds = []
    for offer, member in enumerate(sharing.taken):
        if member >= 0:
            rounds.append((given[member], offer, member))
            given[member] += 1
    return [(offer, member) for _, offer, member in sorted(rounds)]


def _largest_equal(offers: Sequence[Offer], members: int) -> _Sharing:
    """Share out as many offers as can be shared equally."""
    have = [sum(member in own for _, own in offers) for member in range(members)]
    low, high = 0, min(len(offers) // members, *have)
    best = _Sharing(offers, members)
    middle = high  # it is all of them where no member's lack bears on another's
    while low < high:
        sharing = _Sharing(offers, members)
        sharing.fill([middle] * members)
        if any(sharing.room):
            high = middle - 1
        else:
            low, best = middle, sharing
        middle = (low + high + 1) // 2
    return best


def batches(n_candidates: int, wanted: int | None) -> Iterator[range]:
    """Yield ranges of candidates to look at: at first a tenth more than wanted, then each time twice as many."""
    step = n_candidates if wanted is None else wanted + wanted // 10 + 64
    start = 0
    while start < n_candidates:
        yield range(start, min(start + step, n_candidates))
        start, step = start + step, 2 * step
