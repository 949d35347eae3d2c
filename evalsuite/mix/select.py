"""Choosing the conversations of one source: in the order of drawing, less duplicates and contaminated ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalsuite.errors import DataError
from evalsuite.mix.draw import Candidates, batches, blend_order, candidates_of
from evalsuite.mix.duplicates import NearDuplicates, sketch_of
from evalsuite.mix.rows import Pool, Stream, TokenCount, compared_text, scan
from evalsuite.progress import Progress
from evalsuite.recipes.recipe import Duplicates, Source
from judges.types import Unscored

if TYPE_CHECKING:
    from evalsuite.contamination.measure import Meter


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was drawn from one source: for each member, place -> (key, place in the order of drawing).

    ``refused`` counts, by rule, candidates that were looked at and turned down while drawing.
    """

    source: Source
    streams: tuple[Stream, ...]
    pools: tuple[Pool, ...]
    repeated: tuple[int, ...]
    n_available: int
    asked: int | None
    places: tuple[Mapping[int, tuple[int, int]], ...]
    refused: Mapping[str, int]

    @property
    def n_taken(self) -> int:
        return sum(len(own) for own in self.places)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look at a row's text said: its sketch, and whether a benchmark's item stands in it."""

    sketch: Any | None = None
    contaminated: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """A candidate's row in one member: the candidate's number, and the sketch of its text."""

    candidate: int
    sketch: Any | None


_Offer = dict[int, _Row]
"""What may be drawn once: the row of each member that may give it.

The rows are of one candidate, or of near-duplicates: then whichever member has need of it gives its own.
"""


class Selector:
    """Draws one source after the other; what an earlier source gave is a duplicate for a later one.

    ``meter``, where given, turns down every conversation that holds an item of a benchmark.
    """

    def __init__(self, duplicates: Duplicates, seed: int, meter: Meter | None, progress: Progress) -> None:
        self._duplicates = duplicates
        self._seed = seed
        self._meter = meter
        self._progress = progress
        self._texts: set[int] = set()
        self._near = NearDuplicates(duplicates.near) if duplicates.near is not None else None

    def choose(
        self, source: Source, streams: tuple[Stream, ...], asked: int | None, count_tokens: TokenCount | None
    ) -> Chosen:
        """Draw ``asked`` conversations (None: all) from a source.

        Raises DataError when there are too few and the recipe does not allow it, naming how many rows
        each rule dropped.
        """
        on = self._duplicates.on
        pools = tuple(scan(stream, source, on, count_tokens, self._progress) for stream in streams)
        candidates = candidates_of(pools, self._seed, exact=self._duplicates.exact)
        refused: Counter[str] = Counter()
        drawn = self._draw(source, streams, candidates, asked, refused)
        places: list[dict[int, tuple[int, int]]] = [{} for _ in streams]
        for number, (offer, member) in enumerate(drawn):
            at = offer[member].candidate
            places[member][int(candidates.places[at, member])] = (int(candidates.keys[at]), number)
            if self._duplicates.exact:
                self._texts.add(int(candidates.texts[at, member]))
            if self._near is not None:
                self._near.add(offer[member].sketch)
        chosen = Chosen(
            source,
            streams,
            pools,
            candidates.repeated,
            len(candidates),
            asked,
            tuple(places),
            dict(sorted(refused.items())),
        )
        short = chosen.n_taken < (1 if asked is None else asked)
        if short and (chosen.n_taken == 0 or not source.allow_fewer):
            raise DataError(too_few(chosen))
        return chosen

    def _draw(
        self,
        source: Source,
        streams: tuple[Stream, ...],
        candidates: Candidates,
        asked: int | None,
        refused: Counter[str],
    ) -> list[tuple[_Offer, int]]:
        """Return the offers that are drawn, each with the member that gives it, in the order of drawing."""
        members = len(streams)
        single = members == 1
        offers = _Offers(self._duplicates.near, members)
        # What a blend's members get depends on all that they have, so that it is the same for every number asked.
        for batch in batches(len(candidates), asked if single else None):
            if single and len(offers.all) == asked:
                break
            seen = self._look(source, streams, candidates, batch)
            for at in batch:
                if single and len(offers.all) == asked:
                    break
                if (rule := self._offer(candidates, at, seen, offers)) is not None:
                    refused[rule] += 1
        if single:
            return [(offer, 0) for offer in offers.all]
        order = blend_order(_keyed(offers.all, candidates), members)
        # All of a blend are whole rounds, so that its shares are equal.
        wanted = len(order) // members * members if asked is None else asked
        return [(offers.all[number], member) for number, member in order[:wanted]]

    def _offer(
        self,
        candidates: Candidates,
        at: int,
        seen: Mapping[tuple[int, int], _Seen],
        offers: _Offers,
    ) -> str | None:
        """Offer a candidate with the members that may give it; return the rule by which none may."""
        new: _Offer = {}
        alike: _Offer = {}
        rule = ""
        for member, place in enumerate(candidates.places[at].tolist()):
            if place < 0:
                continue
            look = seen.get((member, place), _Seen())
            if self._duplicates.exact and int(candidates.texts[at, member]) in self._texts:
                rule = "duplicate_of_earlier_source"
            elif look.contaminated:
                rule = "contaminated"
            elif self._near is not None and self._near.knows(look.sketch):
                rule = "near_duplicate"
            elif offers.like(look.sketch):
                rule = "near_duplicate"
                alike[member] = _Row(at, look.sketch)
            else:
                new[member] = _Row(at, look.sketch)
        if new:
            offers.add(new)
            return None
        offers.join(alike)
        return rule

    def _look(
        self, source: Source, streams: tuple[Stream, ...], candidates: Candidates, batch: range
    ) -> dict[tuple[int, int], _Seen]:
        """Read the rows of a batch of candidates again, where their texts are needed."""
        if self._near is None and self._meter is None:
            return {}
        seen: dict[tuple[int, int], _Seen] = {}
        for member, stream in enumerate(streams):
            wanted = set(candidates.places[batch.start : batch.stop, member].tolist())
            for place, conversation in stream.conversations(self._progress, f"comparing {source.name}"):
                if place in wanted and not isinstance(conversation, Unscored):
                    sketch = sketch_of(compared_text(conversation, self._duplicates.on)) if self._near else None
                    contaminated = bool(self._meter and self._meter.overlaps(conversation))
                    if sketch is not None or contaminated:
                        seen[member, place] = _Seen(sketch, contaminated)
        return seen


class _Offers:
    """What a source has offered so far, drawn in the end or not; no row is a near-duplicate of another offer's."""

    def __init__(self, threshold: float | None, members: int) -> None:
        self.all: list[_Offer] = []
        # A set holds no two that are alike, as two members' rows of one offer may be.
        self._near = [] if threshold is None else [NearDuplicates(threshold) for _ in range(members)]
        self._offer_of: list[list[int]] = [[] for _ in range(members)]

    def like(self, sketch: Any | None) -> set[int]:
        """Return the numbers of the offers of which a text is a near-duplicate."""
        if sketch is None:
            return set()
        return {
            offer_of[number]
            for near, offer_of in zip(self._near, self._offer_of, strict=False)
            for number in near.alike(sketch)
        }

    def add(self, rows: _Offer) -> None:
        self.all.append({})
        self._put(len(self.all) - 1, rows)

    def join(self, rows: _Offer) -> None:
        """Let the members of near-duplicates give these in the place of an offer that they do not have.

        Rows that are like several offers could stand for none of them without being like another one.
        """
        like = set().union(*(self.like(row.sketch) for row in rows.values()))
        if len(like) == 1:
            (number,) = like
            self._put(number, {member: row for member, row in rows.items() if member not in self.all[number]})

    def _put(self, number: int, rows: _Offer) -> None:
        self.all[number] |= rows
        for member, row in rows.items():
            if self._near and row.sketch is not None:
                self._near[member].add(row.sketch)
                self._offer_of[member].append(number)


def _keyed(offers: Sequence[_Offer], candidates: Candidates) -> list[tuple[int, tuple[int, ...]]]:
    """Return each offer's key, that of the candidate with which it began, and its members."""
    return [(int(candidates.keys[next(iter(offer.values())).candidate]), tuple(sorted(offer))) for offer in offers]


def too_few(chosen: Chosen) -> str:
    """Say in one sentence that a source gives less than the recipe asks for, and where its rows went."""
    source = chosen.source
    lost: Counter[str] = Counter(chosen.refused)
    for pool, repeated in zip(chosen.pools, chosen.repeated, strict=True):
        lost.update(pool.dropped)
        lost["duplicate"] += repeated
    rules = ", ".join(f"{rule} {count:,}" for rule, count in sorted(lost.items()) if count)
    n_rows = sum(pool.n_rows for pool in chosen.pools)
    asked = "at least one conversation" if chosen.asked is None else f"{chosen.asked:,} conversations"
    equal = " in equal shares" if source.blend else ""
    remedy = (
        "lower its count, loosen its filters, or set allow_fewer: true"
        if chosen.n_taken
        else "loosen its filters, give other data, or drop the source"
    )
    return (
        f"the recipe asks source {source.name!r} for {asked} and it can give {chosen.n_taken:,}{equal} "
        f"(of {n_rows:,} rows were left out: {rules or 'none'}); {remedy}"
    )
