"""Selecting the conversations of each source in the order of drawing, without duplicates and contaminated ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
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
    """The conversations drawn from one source: ``rows`` maps, per member, row index to (key, order of drawing).

    ``refused`` counts, by rule, candidates that were checked and rejected while drawing.
    """

    source: Source
    streams: tuple[Stream, ...]
    pools: tuple[Pool, ...]
    repeated: tuple[int, ...]
    n_available: int
    asked: int | None
    rows: tuple[Mapping[int, tuple[int, int]], ...]
    refused: Mapping[str, int]

    @property
    def n_taken(self) -> int:
        return sum(len(rows) for rows in self.rows)


@dataclass(frozen=True, slots=True)
class _Checked:
    """The result of checking a row's text: its sketch, and whether it contains a benchmark item."""

    sketch: Any | None = None
    contaminated: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """A candidate's row in one member: the candidate's number and the sketch of its text."""

    candidate: int
    sketch: Any | None


_Offer = dict[int, _Row]
"""A conversation that can be drawn once: the row of each member that can provide it.

The rows are those of one candidate or of near-duplicates, any of which a member can provide.
"""


class Selector:
    """Draws the sources one after the other; rows of earlier sources are duplicates for later ones.

    With ``meter``, every conversation that contains a benchmark item is rejected.
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

        Raises DataError, with the number of rows that each rule dropped, if there are too few and the
        recipe does not allow fewer.
        """
        on = self._duplicates.on
        pools = tuple(scan(stream, source, on, count_tokens, self._progress) for stream in streams)
        candidates = candidates_of(pools, self._seed, exact=self._duplicates.exact)
        refused: Counter[str] = Counter()
        drawn = self._draw(source, streams, candidates, asked, refused)
        rows: list[dict[int, tuple[int, int]]] = [{} for _ in streams]
        for number, (offer, member) in enumerate(drawn):
            candidate = offer[member].candidate
            rows[member][int(candidates.rows[candidate, member])] = (int(candidates.keys[candidate]), number)
            if self._duplicates.exact:
                self._texts.add(int(candidates.texts[candidate, member]))
            if self._near is not None:
                self._near.add(offer[member].sketch)
        repeated, n_available, rejected = candidates.repeated, len(candidates), dict(sorted(refused.items()))
        chosen = Chosen(source, streams, pools, repeated, n_available, asked, tuple(rows), rejected)
        too_few = chosen.n_taken < (1 if asked is None else asked)
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
    ) -> list[tuple[_Offer, int]]:
        """Return the drawn offers, each with the member that provides it, in the order of drawing."""
        members = len(streams)
        single = members == 1
        offers = _Offers(self._duplicates.near, members)
        # A blend is allocated from all its candidates, so that a larger draw contains a smaller one.
        for batch in batches(len(candidates), asked if single else None):
            if single and len(offers.all) == asked:
                break
            checked = self._check(source, streams, candidates, batch)
            for candidate in batch:
                if single and len(offers.all) == asked:
                    break
                if (rule := self._offer(candidates, candidate, checked, offers)) is not None:
                    refused[rule] += 1
        if single:
            return [(offer, 0) for offer in offers.all]
        # An offer's key is that of its first candidate.
        keys = (int(candidates.keys[next(iter(offer.values())).candidate]) for offer in offers.all)
        order = blend_order([(key, tuple(sorted(offer))) for key, offer in zip(keys, offers.all, strict=True)], members)
        # Without a count, a blend is complete rounds only, so that its shares are equal.
        wanted = len(order) // members * members if asked is None else asked
        return [(offers.all[number], member) for number, member in order[:wanted]]

    def _offer(
        self, candidates: Candidates, candidate: int, checked: Mapping[tuple[int, int], _Checked], offers: _Offers
    ) -> str | None:
        """Offer a candidate with the members that can provide it; return the rule that rejects it if there are none."""
        new: _Offer = {}
        similar: _Offer = {}
        rule = ""
        for member, row in enumerate(candidates.rows[candidate].tolist()):
            if row < 0:
                continue
            check = checked.get((member, row), _Checked())
            if self._duplicates.exact and int(candidates.texts[candidate, member]) in self._texts:
                rule = "duplicate_of_earlier_source"
            elif check.contaminated:
                rule = "contaminated"
            elif self._near is not None and self._near.contains(check.sketch):
                rule = "near_duplicate"
            elif offers.similar_to(check.sketch):
                rule = "near_duplicate"
                similar[member] = _Row(candidate, check.sketch)
            else:
                new[member] = _Row(candidate, check.sketch)
        if new:
            offers.add(new)
            return None
        offers.join(similar)
        return rule

    def _check(
        self, source: Source, streams: tuple[Stream, ...], candidates: Candidates, batch: range
    ) -> dict[tuple[int, int], _Checked]:
        """Read the rows of a batch of candidates again if their texts are needed."""
        if self._near is None and self._meter is None:
            return {}
        checked: dict[tuple[int, int], _Checked] = {}
        for member, stream in enumerate(streams):
            wanted = set(candidates.rows[batch.start : batch.stop, member].tolist())
            for row, conversation in stream.conversations(self._progress, f"comparing {source.name}"):
                if row in wanted and not isinstance(conversation, Unscored):
                    sketch = sketch_of(compared_text(conversation, self._duplicates.on)) if self._near else None
                    contaminated = bool(self._meter and self._meter.overlaps(conversation))
                    if sketch is not None or contaminated:
                        checked[member, row] = _Checked(sketch, contaminated)
        return checked


class _Offers:
    """The offers of a source so far, drawn or not; no row is a near-duplicate of another offer's."""

    def __init__(self, threshold: float | None, members: int) -> None:
        self.all: list[_Offer] = []
        # One index per member, as rows of two members in one offer may be near-duplicates.
        self._near = [] if threshold is None else [NearDuplicates(threshold) for _ in range(members)]
        self._offer_of: list[list[int]] = [[] for _ in range(members)]

    def similar_to(self, sketch: Any | None) -> set[int]:
        """Return the numbers of the offers with a near-duplicate of a text."""
        if sketch is None:
            return set()
        return {
            offer_of[number]
            for near, offer_of in zip(self._near, self._offer_of, strict=False)
            for number in near.matches(sketch)
        }

    def add(self, rows: _Offer) -> None:
        self.all.append({})
        self._put(len(self.all) - 1, rows)

    def join(self, rows: _Offer) -> None:
        """Add near-duplicates to the offer they resemble, for the members that it does not have yet.

        Rows that resemble several offers are left out, as they would be near-duplicates of the others.
        """
        similar = set().union(*(self.similar_to(row.sketch) for row in rows.values()))
        if len(similar) == 1:
            (number,) = similar
            self._put(number, {member: row for member, row in rows.items() if member not in self.all[number]})

    def _put(self, number: int, rows: _Offer) -> None:
        self.all[number] |= rows
        for member, row in rows.items():
            if self._near and row.sketch is not None:
                self._near[member].add(row.sketch)
                self._offer_of[member].append(number)


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
    equal = " in equal shares" if source.blend else ""
    remedy = (
        "lower its count, loosen its filters, or set allow_fewer: true"
        if chosen.n_taken
        else "loosen its filters, give other data, or remove the source"
    )
    return (
        f"the recipe asks for {asked} of source {source.name!r}, which has {chosen.n_taken:,}{equal} "
        f"({n_rows:,} rows, of which were left out: {losses or 'none'}); {remedy}"
    )
