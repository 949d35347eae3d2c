"""Selecting the conversations of each source in the order of drawing, without duplicates and contaminated ones."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evalsuite.errors import DataError
from evalsuite.mix.draw import Candidates, batches, blend_order, candidates_of, ranks
from evalsuite.mix.duplicates import NearDuplicates
from evalsuite.mix.rows import Pool, Stream, compared_text, scan
from evalsuite.mix.tokens import TokenCount
from evalsuite.progress import Progress
from evalsuite.recipes.recipe import Duplicates, Source
from judges.types import Unscored

if TYPE_CHECKING:
    from evalsuite.contamination.measure import Meter

_TOGETHER = 4096
"""Candidates whose near-duplicates are looked up at once."""

_SKETCHED = 512


@dataclass(frozen=True, slots=True)
class Drawn:
    """The drawn rows of one member, ascending, each with its key and its number in the order of drawing."""

    rows: NDArray[np.int64]
    keys: NDArray[np.uint64]
    orders: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The conversations drawn from one source: ``drawn`` has the rows of each member.

    ``refused`` counts, by rule, candidates that were checked and rejected while drawing.
    """

    source: Source
    streams: tuple[Stream, ...]
    pools: tuple[Pool, ...]
    repeated: tuple[int, ...]
    n_available: int
    asked: int | None
    budget: int | None
    n_unique: int
    drawn: tuple[Drawn, ...]
    refused: Mapping[str, int]

    @property
    def n_taken(self) -> int:
        return sum(len(drawn.rows) for drawn in self.drawn)


@dataclass(frozen=True, slots=True)
class _Checked:
    """What is known of a batch of candidates' texts, by candidate (from the batch's first) and member.

    ``sketches``: the number by which near-duplicates are found, -1 without one; ``contaminated``: whether it contains a
    benchmark item.
    """

    sketches: NDArray[np.int64]
    contaminated: NDArray[np.bool_]


class Selector:
    """Draws the sources one after the other; rows of earlier sources are duplicates for later ones.

    With ``meter``, every conversation that contains a benchmark item is rejected. ``scratch`` receives temporary files.
    """

    def __init__(
        self, duplicates: Duplicates, seed: int, meter: Meter | None, progress: Progress, scratch: Path
    ) -> None:
        self._duplicates = duplicates
        self._seed = seed
        self._meter = meter
        self._progress = progress
        self._texts = np.zeros(0, dtype=np.uint64)
        near = duplicates.near
        self._near = NearDuplicates(near, duplicates.ngram, scratch) if near is not None else None

    def close(self) -> None:
        if self._near is not None:
            self._near.close()

    def choose(
        self,
        source: Source,
        streams: tuple[Stream, ...],
        asked: int | None,
        count_tokens: TokenCount | None,
        budget: int | None = None,
    ) -> Chosen:
        """Draw ``asked`` conversations (None: all) from a source, or as many as have ``budget`` tokens at most.

        Raises DataError, with the number of rows that each rule dropped, if there are too few and the
        recipe does not allow fewer.
        """
        on, counted = self._duplicates.on, budget is not None
        pools = tuple(scan(stream, source, on, count_tokens, self._progress, budget=counted) for stream in streams)
        candidates = candidates_of(pools, self._seed, exact=self._duplicates.exact)
        refused: Counter[str] = Counter()
        unique, providers, offers = self._draw(source, streams, candidates, asked, refused, counted=counted)
        passes = _repeated(source.repeat, len(unique), asked)
        numbers, members = unique[passes % max(len(unique), 1)], providers[passes % max(len(unique), 1)]
        exhausted = True
        if budget is not None:
            totals = np.cumsum(_tokens_of(pools, candidates, numbers, members))
            n_within = int(np.searchsorted(totals, budget, side="right"))
            exhausted, numbers, members = n_within == len(numbers), numbers[:n_within], members[:n_within]
            self._forget(offers, unique, providers, n_within)
        drawn = []
        copies = np.arange(len(numbers)) // max(len(unique), 1)
        for member in range(len(streams)):
            orders = np.flatnonzero(members == member)
            rows = candidates.rows[numbers[orders], member]
            by_row = np.argsort(rows, kind="stable")
            # A copy has another key, so that a shuffle spreads the copies.
            own, copy = candidates.keys[numbers[orders]], copies[orders].astype(np.uint64)
            own = np.where(copy > 0, ranks(own + copy, 0, "copy"), own)
            drawn.append(Drawn(rows[by_row], own[by_row], orders[by_row]))
        if self._duplicates.exact:
            self._texts = np.union1d(self._texts, candidates.texts[numbers, members])
        repeated, n_available, rejected = candidates.repeated, len(candidates), dict(sorted(refused.items()))
        n_unique = min(len(unique), len(numbers))
        chosen = Chosen(source, streams, pools, repeated, n_available, asked, budget, n_unique, tuple(drawn), rejected)
        too_few = chosen.n_taken < (1 if asked is None else asked) or (budget is not None and exhausted)
        if too_few and (chosen.n_taken == 0 or not source.allow_fewer):
            raise DataError(_too_few_message(chosen))
        return chosen

    def _draw(
        self,
        source: Source,
        streams: tuple[Stream, ...],
        candidates: Candidates,
        asked: int | None,
        refused: Counter[str],
        *,
        counted: bool,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], _Offers]:
        """Return the drawn candidates and the member that provides each, in the order of drawing, and the offers."""
        members = len(streams)
        single = members == 1
        offers = _Offers(members, note=counted or not single)
        known = np.isin(candidates.texts, self._texts) if self._duplicates.exact else None
        # A blend is allocated from all its candidates, so that a larger draw contains a smaller one.
        for batch in batches(len(candidates), asked if single else None):
            if single and len(offers) == asked:
                break
            checked = self._check(source, streams, candidates, batch)
            for candidate in batch:
                if single and len(offers) == asked:
                    break
                at = candidate - batch.start
                if checked is not None and self._near is not None and at % _TOGETHER == 0:
                    self._near.expect(checked.sketches[at : at + _TOGETHER].ravel().tolist())
                rule = self._offer(candidates, candidate, known, checked, at, offers)
                if rule is not None:
                    refused[rule] += 1
        if single:
            numbers = np.frombuffer(offers.candidates, dtype=np.int64)
            return numbers, np.zeros(len(numbers), dtype=np.int64), offers
        return *self._blend(candidates, offers, asked), offers

    def _forget(self, offers: _Offers, unique: NDArray[np.int64], providers: NDArray[np.int64], n_drawn: int) -> None:
        """Forget the sketches of conversations that a budget of tokens leaves out."""
        if self._near is not None:
            left_out = set(zip(unique[n_drawn:].tolist(), providers[n_drawn:].tolist(), strict=True))
            gone = [sketch for key, sketch in offers.sketches.items() if key in left_out]
            self._near.discard(gone)

    def _blend(
        self, candidates: Candidates, offers: _Offers, asked: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Allocate a blend's offers to its members, and forget the sketches of what is not drawn."""
        members = offers.members
        table = np.frombuffer(offers.candidates, dtype=np.int64).reshape(-1, members)
        # An offer's key is that of its first candidate.
        firsts = [next(one for one in row if one >= 0) for row in table.tolist()]
        owners = [tuple(member for member, one in enumerate(row) if one >= 0) for row in table.tolist()]
        keys = candidates.keys[firsts].tolist()
        order = blend_order(list(zip(keys, owners, strict=True)), members)
        # Without a count, a blend is complete rounds only, so that its shares are equal.
        wanted = len(order) // members * members if asked is None else asked
        drawn = np.array(order[:wanted], dtype=np.int64).reshape(-1, 2)
        if self._near is not None:
            kept = set(zip(table[drawn[:, 0], drawn[:, 1]].tolist(), drawn[:, 1].tolist(), strict=True))
            self._near.discard([sketch for key, sketch in offers.sketches.items() if key not in kept])
        return table[drawn[:, 0], drawn[:, 1]], drawn[:, 1]

    def _offer(
        self,
        candidates: Candidates,
        candidate: int,
        known: NDArray[np.bool_] | None,
        checked: _Checked | None,
        at: int,
        offers: _Offers,
    ) -> str | None:
        """Offer a candidate with the members that can provide it; return the rule that rejects it if there are none."""
        new: dict[int, int] = {}
        similar: dict[int, set[int]] = {}
        rule = ""
        for member, row in enumerate(candidates.rows[candidate].tolist()):
            if row < 0:
                continue
            sketch = -1 if checked is None else int(checked.sketches[at, member])
            if known is not None and known[candidate, member]:
                rule = "duplicate_of_earlier_source"
            elif checked is not None and checked.contaminated[at, member]:
                rule = "contaminated"
            elif self._near is not None and (matches := self._near.matches(sketch)):
                rule = "near_duplicate"
                if all(match in offers.offer_of for match in matches):
                    similar[member] = {offers.offer_of[match] for match in matches}
            else:
                new[member] = sketch
        if new:
            offers.add(candidate, new)
        elif len(resembled := set().union(*similar.values())) == 1:
            # Rows that resemble several offers are left out, as they would be near-duplicates of the others.
            new = {member: int(checked.sketches[at, member]) for member in similar} if checked is not None else {}
            new = offers.join(resembled.pop(), candidate, new)
            rule = rule or "near_duplicate"
        if self._near is not None:
            for sketch in new.values():
                self._near.add(sketch)
        return rule if candidate != offers.last else None

    def _check(
        self, source: Source, streams: tuple[Stream, ...], candidates: Candidates, batch: range
    ) -> _Checked | None:
        """Read the rows of a batch of candidates again if their texts are needed."""
        if self._near is None and self._meter is None:
            return None
        checked = _Checked(
            np.full((len(batch), len(streams)), -1, dtype=np.int64),
            np.zeros((len(batch), len(streams)), dtype=np.bool_),
        )
        for member, stream in enumerate(streams):
            rows = candidates.rows[batch.start : batch.stop, member]
            place = np.full(int(rows.max(initial=-1)) + 1, -1, dtype=np.int64)
            place[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
            places: list[int] = []
            texts: list[str] = []
            task = f"comparing {source.name}"
            for row, conversation in stream.conversations(self._progress, task, place >= 0):
                if isinstance(conversation, Unscored):
                    continue
                places.append(int(place[row]))
                texts.append(compared_text(conversation, self._duplicates.on))
                if self._meter is not None:
                    checked.contaminated[place[row], member] = bool(self._meter.overlaps(conversation))
                if len(texts) == _SKETCHED:
                    self._sketch(checked, member, places, texts)
                    places, texts = [], []
            self._sketch(checked, member, places, texts)
        return checked

    def _sketch(self, checked: _Checked, member: int, places: Sequence[int], texts: Sequence[str]) -> None:
        if self._near is not None and texts:
            checked.sketches[list(places), member] = self._near.sketch(texts)


class _Offers:
    """The offers of a source so far, drawn or not: conversations that can be drawn once, each with its providers.

    ``candidates`` has, for each offer and member, the candidate that the member can provide, or -1; those of one offer
    are one candidate or near-duplicates of one another.
    """

    def __init__(self, members: int, *, note: bool) -> None:
        """With ``note`` the sketches are noted: where a near-duplicate can substitute, or some may not be drawn."""
        self.members = members
        self._notes = note
        self.candidates = array("q")
        self.last = -1
        self.offer_of: dict[int, int] = {}
        self.sketches: dict[tuple[int, int], int] = {}
        """By candidate and member."""

    def __len__(self) -> int:
        return len(self.candidates) // self.members

    def add(self, candidate: int, sketches: Mapping[int, int]) -> None:
        """Add an offer of a candidate by the members in ``sketches``."""
        self.candidates.extend(candidate if member in sketches else -1 for member in range(self.members))
        self.last = candidate
        self._note(len(self) - 1, candidate, sketches)

    def join(self, offer: int, candidate: int, sketches: Mapping[int, int]) -> dict[int, int]:
        """Add near-duplicates to the offer that they resemble, for the members it does not have yet; return those."""
        free = {
            member: sketch for member, sketch in sketches.items() if self.candidates[offer * self.members + member] < 0
        }
        for member in free:
            self.candidates[offer * self.members + member] = candidate
        self._note(offer, candidate, free)
        return free

    def _note(self, offer: int, candidate: int, sketches: Mapping[int, int]) -> None:
        if self._notes:
            for member, sketch in sketches.items():
                if sketch >= 0:
                    self.offer_of[sketch] = offer
                    self.sketches[candidate, member] = sketch


def _repeated(repeat: float, n_unique: int, asked: int | None) -> NDArray[np.int64]:
    """Return what is drawn: numbers in the order of drawing, from ``n_unique`` on those of a repetition."""
    most = math.floor(repeat * n_unique + 1e-9)
    return np.arange(most if asked is None else min(asked, most))


def _tokens_of(
    pools: Sequence[Pool], candidates: Candidates, numbers: NDArray[np.int64], members: NDArray[np.int64]
) -> NDArray[np.int64]:
    tokens = np.zeros(len(numbers), dtype=np.int64)
    for member, pool in enumerate(pools):
        own = members == member
        tokens[own] = pool.tokens[np.searchsorted(pool.rows, candidates.rows[numbers[own], member])]
    return tokens


def _too_few_message(chosen: Chosen) -> str:
    """Return the message that a source has fewer conversations than asked for, with the rows lost to each rule."""
    source = chosen.source
    lost: Counter[str] = Counter(chosen.refused)
    for pool, repeated in zip(chosen.pools, chosen.repeated, strict=True):
        lost.update(pool.dropped)
        lost["duplicate"] += repeated
    losses = ", ".join(f"{rule} {count:,}" for rule, count in sorted(lost.items()) if count)
    n_rows = sum(pool.n_rows for pool in chosen.pools)
    asked = "at least one conversation" if chosen.asked is None else f"{chosen.asked:,} conversations"
    if chosen.budget is not None:
        asked = f"{chosen.budget:,} tokens"
    equal = " in equal shares" if source.blend else ""
    remedy = (
        "lower its count, loosen its filters, set repeat or allow_fewer: true"
        if chosen.n_taken
        else "loosen its filters, give other data, or remove the source"
    )
    return (
        f"the recipe asks for {asked} of source {source.name!r}, which has {chosen.n_taken:,}{equal} "
        f"({n_rows:,} rows, of which were left out: {losses or 'none'}); {remedy}"
    )
