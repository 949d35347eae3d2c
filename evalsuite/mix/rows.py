"""Reading and filtering the rows of a mix's sources, which are kept in memory as 64-bit keys, not as texts.

A conversation is three 64-bit numbers: the key by which it is drawn, the key of the text by which duplicates are found,
and its row index; in a blend, where it is drawn by its prompts, also the key of its content. With a million rows, the
probability that any two different ones share a key is below one in ten million.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.conversations.fields import fields_of
from evalsuite.conversations.formats import (
    READ_COLUMNS,
    Conversation,
    Format,
    Thinking,
    conversation_of,
    detect_format,
    with_thoughts,
)
from evalsuite.conversations.scores import Scores, finite, read_scores
from evalsuite.conversations.source import Rows, open_source
from evalsuite.conversations.words import plain, texts_of
from evalsuite.errors import DataError
from evalsuite.fingerprint import key_of
from evalsuite.mix.filters import RowFilter
from evalsuite.mix.tokens import TokenCount
from evalsuite.progress import Progress
from evalsuite.recipes.recipe import Best, Source, Text
from evalsuite.text import well_formed
from judges.types import Message, Unscored, user_texts

_PROGRESS_EVERY = 500
_MAX_EXAMPLES = 3
_EXAMPLE_CHARS = 160


@dataclass(frozen=True, slots=True)
class Stream:
    """One member of a source: its rows, their format, and the DGM that answered."""

    rows: Rows
    layout: Format
    dgm: str | None
    thinking: Thinking = "keep"
    scores: Scores | None = None

    def conversations(
        self, progress: Progress, task: str, wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[int, Conversation | Unscored]]:
        """Yield every row's index and conversation, in the source's order; of ``wanted`` rows only, if given."""
        for index, row in self.numbered(progress, task):
            if wanted is None or (index < len(wanted) and wanted[index]):
                yield index, self.read(row)

    def read(self, row: Mapping[str, Any]) -> Conversation | Unscored:
        read = conversation_of(row, self.layout)
        return read if isinstance(read, Unscored) else with_thoughts(read, self.thinking)

    def numbered(self, progress: Progress, task: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Yield every row with its index."""
        progress.begin(task, self.rows.n_rows)
        n_rows = 0
        for index, row in enumerate(self.rows):
            yield index, row
            n_rows = index + 1
            if n_rows % _PROGRESS_EVERY == 0:
                progress.advance(task, _PROGRESS_EVERY)
        progress.advance(task, n_rows % _PROGRESS_EVERY)


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows of one member that pass the filters: arrays of equal length, in the source's order.

    ``keys`` order the draw, ``texts`` identify duplicates, ``contents`` cover everything of a conversation
    that the mix contains (equal to the keys unless in a blend), ``rows`` are the row indices. ``dropped``
    counts the other rows by the rule that dropped them, with a few ``examples``, ``changed`` those that are read with a
    change. ``tokens`` counts each row's if the source has a budget of tokens, else it is empty.
    """

    n_rows: int
    dropped: Mapping[str, int]
    changed: Mapping[str, int]
    keys: NDArray[np.uint64]
    texts: NDArray[np.uint64]
    contents: NDArray[np.uint64]
    rows: NDArray[np.int64]
    tokens: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    examples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    n_scored: int | None = None
    """Rows that can be read and have joined scores, None where none are joined."""


def open_streams(source: Source, thinking: Thinking = "keep") -> tuple[Stream, ...]:
    """Open every member of a source; raises DataError for one that cannot be opened or read, or lacks a column."""
    streams = []
    named = {*source.filters.where, *([source.best.by] if source.best is not None else [])}
    scores = None if source.scores is None else read_scores(source.scores)
    named -= set() if scores is None else set(scores.columns)
    for spec, dgm, layout in source.members:
        rows = open_source(spec, READ_COLUMNS | named)
        if rows.n_rows is not None and (missing := sorted(named - set(rows.columns))):
            columns = ", ".join((*rows.columns, *(scores.columns if scores is not None else ())))
            raise DataError(f"{spec} has no column {missing[0]!r}, which its filters need; its columns are {columns}")
        streams.append(Stream(rows, layout or detect_format(rows.columns, spec), dgm, thinking, scores))
    return tuple(streams)


def scan(
    stream: Stream,
    source: Source,
    on: Text,
    count_tokens: TokenCount | None,
    progress: Progress,
    *,
    budget: bool = False,
) -> Pool:
    """Read a member once: count the rows that the filters drop, and keep the keys of the rest.

    In a blend a conversation is drawn by its user turns, so that only one DGM answers it. With ``budget`` every row's
    tokens are counted. Raises DataError if no row has the given format.
    """
    kept = _Kept(source, on, count_tokens if budget else None)
    row_filter = RowFilter(source.filters, count_tokens)
    n_rows = n_scored = 0
    for index, row in stream.numbered(progress, f"reading {source.name}"):
        n_rows += 1
        conversation = stream.read(row)
        if isinstance(conversation, Unscored):
            kept.drop(conversation.reason, index, conversation.detail)
            continue
        if stream.scores is not None:
            found = stream.scores.of(conversation.messages)
            n_scored += bool(found)
            row = {**row, **dict.fromkeys(stream.scores.columns), **found}  # noqa: PLW2901
        score = 0.0 if source.best is None else finite(row.get(source.best.by))
        rule = row_filter.failed_rule(row, conversation)
        if rule is not None or score is None:
            kept.drop(rule or "no_score", index, conversation.messages[-1].content)
        else:
            kept.add(index, conversation, score)
    if n_rows and kept.dropped["malformed_row"] == n_rows:
        why = kept.examples["malformed_row"][0]["text"]
        raise DataError(
            f"no row of {stream.rows.spec} can be read as {stream.layout} ({why}); its columns are "
            f"{', '.join(stream.rows.columns)}: give another format, or none to detect it"
        )
    if stream.scores is None:
        return kept.pool(n_rows)
    if n_rows and not n_scored:
        raise DataError(
            f"no row of {stream.rows.spec} has a score in {stream.scores.name}: scores are matched by the hash of a "
            "conversation's roles and texts; rate exactly these answers"
        )
    return replace(kept.pool(n_rows), n_scored=n_scored)


class _Kept:
    """The rows of a member that are kept so far, and what became of the others."""

    def __init__(self, source: Source, on: Text, count_tokens: TokenCount | None) -> None:
        self._source, self._on, self._count_tokens = source, on, count_tokens
        self.dropped: Counter[str] = Counter()
        self.examples: dict[str, list[dict[str, Any]]] = {}
        self._changed: Counter[str] = Counter()
        self._prompts, self._texts, self._contents = array("Q"), array("Q"), array("Q")
        self._rows, self._tokens, self._scores = array("q"), array("q"), array("d")

    def drop(self, rule: str, row: int, text: str) -> None:
        self.dropped[rule] += 1
        if len(shown := self.examples.setdefault(rule, [])) < _MAX_EXAMPLES:
            shown.append({"row": row, "text": well_formed(text[:_EXAMPLE_CHARS])})

    def add(self, row: int, conversation: Conversation, score: float) -> None:
        self._changed["empty_system_left_out"] += conversation.had_empty_system
        self._contents.append(key_of(content(conversation)))
        if self._source.blend or self._source.best is not None:
            self._prompts.append(key_of(compared_text(conversation, "prompts")))
        self._texts.append(key_of(compared_text(conversation, self._on)))
        self._rows.append(row)
        if self._source.best is not None:
            self._scores.append(score)
        if self._count_tokens is not None:
            self._tokens.append(self._count_tokens(conversation))

    def pool(self, n_rows: int) -> Pool:
        # Views, not copies, of what can be most of the memory that a mix takes.
        contents, prompts, texts = (
            np.frombuffer(each, dtype=np.uint64) for each in (self._contents, self._prompts, self._texts)
        )
        pool = Pool(
            n_rows,
            dict(sorted(self.dropped.items())),
            dict(+self._changed),
            prompts if self._source.blend else contents,
            texts,
            contents,
            np.frombuffer(self._rows, dtype=np.int64),
            np.frombuffer(self._tokens, dtype=np.int64),
            self.examples,
        )
        best = self._source.best
        return pool if best is None else _best_of(pool, best, np.array(self._scores), prompts)


def _best_of(pool: Pool, best: Best, scores: NDArray[np.float64], prompts: NDArray[np.uint64]) -> Pool:
    """Return the best rows of a pool; of equal scores those with the smallest content keys, so in any order of rows."""
    order = np.lexsort((pool.contents, scores if best.lowest else -scores))
    if best.share is not None:
        kept = order[: math.ceil(best.share * len(order))]
    else:
        by_prompt = order[np.argsort(prompts[order], kind="stable")]
        starts = (
            np.flatnonzero(np.r_[True, np.diff(prompts[by_prompt]) != 0]) if len(order) else np.zeros(0, dtype=np.int64)
        )
        place = np.arange(len(by_prompt)) - np.repeat(starts, np.diff(np.r_[starts, len(by_prompt)]))
        kept = by_prompt[place < (best.per_prompt or 1)]
    kept = np.sort(kept)
    dropped = {**pool.dropped, "best": len(order) - len(kept)} if len(kept) < len(order) else pool.dropped
    arrays = {name: getattr(pool, name)[kept] for name in ("keys", "texts", "contents", "rows")}
    return replace(pool, dropped=dropped, tokens=pool.tokens[kept] if len(pool.tokens) else pool.tokens, **arrays)


def compared_text(conversation: Conversation, on: Text) -> str:
    """Return the normalised text by which two conversations are compared."""
    if on == "prompts":
        return plain("\n\n".join(user_texts(conversation.messages)))
    turns = ("\n".join([message.role, *texts_of(message)]) for message in conversation.messages)
    return plain("\n\n".join(turns))


def content(conversation: Conversation) -> str:
    """Return everything of a conversation that the mix contains, as canonical JSON."""
    turns = [_fields(message) for message in conversation.messages]
    tools = [] if conversation.tools is None else [conversation.tools]
    return json.dumps([conversation.hash, turns, *tools], ensure_ascii=False, separators=(",", ":"))


def _fields(message: Message) -> list[Any]:
    fields = fields_of(message)
    return [fields.pop("role"), fields.pop("content"), *([fields] if fields else [])]
