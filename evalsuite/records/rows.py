"""The row of a run: one benchmark item with its answers, its verdicts and its marks.

    {"item_id": "9002", "prompt": [{"role": "user", "content": "A bakery sells ..."}, ...],
     "facts": {"category": "math"},
     "draws": [{"turns": [{"text": "8 euros.", "answer_tokens": 4}, {"text": "6 euros.", "answer_tokens": 4}]}],
     "verdicts": [{"judge": "j-1a2b3c4d", "value": 8.0, "turn": 1, "text": "Correct. Rating: [[8]]"}, ...]}

Rows are values: nothing changes one in place. What cannot be scored holds an
:class:`~judges.types.Unscored` where the value would be.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from evalsuite.assets.asset import Pin
from judges.types import Message, Unscored

SCHEMA = 1
"""The version of the records files; a newer one is refused, an older one converted."""

Order = Literal["", "ab", "ba"]


class Reply(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One assistant turn.

    ``text`` is the answer alone, None where ``unscored`` says why there is none. ``finish`` is "stop", or
    "length" where the answer was cut by its own bound. ``thought`` is what was thought before it; ``thought_closed``
    says that it was closed from outside (its budget was used up, or the model stopped in it), ``thought_short`` that
    the context left less than the budget. ``choices`` holds (log-likelihood, is greedy) per choice of a log-likelihood
    item; such a reply has no text.
    """

    text: str | None = None
    thought: str | None = None
    finish: str = "stop"
    thought_closed: bool = False
    thought_short: bool = False
    prompt_tokens: int = 0
    thought_tokens: int = 0
    answer_tokens: int = 0
    choices: tuple[tuple[float, bool], ...] = ()
    unscored: Unscored | None = None


class Draw(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One answer to the whole item: a reply per turn. ``repeat`` 0 is the first draw."""

    turns: tuple[Reply, ...] = ()
    repeat: int = 0


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What one judge said of one turn of one draw.

    ``judge`` is a key of :attr:`Header.judges`. ``value`` is a rating, a preference in [1, 2] or an option's letter,
    as the suite defines it; None where ``unscored`` says why. ``text`` is the judgment in words.
    ``recorded`` keeps a peer's own number untouched (-1, 11), for exports and for ``--as-published``.
    ``closed_by_guide`` says that the text had no verdict and the judge closed it under guided output, ``contradicts``
    that the text named another one.
    """

    judge: str = ""
    value: float | str | None = None
    turn: int = 1
    repeat: int = 0
    order: Order = ""
    text: str = ""
    thought: str | None = None
    label_logprobs: Mapping[str, float] = {}
    recorded: Any = None
    unscored: Unscored | None = None
    closed_by_guide: bool = False
    contradicts: bool = False


class Row(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One item of one part of a suite.

    ``prompt`` is what the model was asked, without few-shot examples; None for protected text. ``facts`` is what the
    suite needs to mark and show the item (category, reference, options). ``content`` tells items of the same
    id on different data apart across models (a hash; "" where the id does). ``marks`` maps a metric to one value
    per repeat, None where unscored; ``unscored`` says why.
    """

    item_id: str
    part: str = ""
    content: str = ""
    prompt: tuple[Message, ...] | None = ()
    facts: Mapping[str, Any] = {}
    draws: tuple[Draw, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    marks: Mapping[str, tuple[float | None, ...]] = {}
    unscored: tuple[Unscored, ...] = ()

    def mark(self, metric: str) -> float | None:
        """Return the mean over its draws of one metric; None where none of them has a mark."""
        marks = self.marks.get(metric, ())
        if len(marks) == 1:
            return marks[0]
        values = [value for value in marks if value is not None]
        return sum(values) / len(values) if values else None

    @property
    def replies(self) -> tuple[Reply, ...]:
        """The turns of the first draw; empty where the item was not answered."""
        return self.draws[0].turns if self.draws else ()

    def verdict(self, turn: int = 1) -> Verdict | None:
        """Return the first draw's verdict on a turn (the first judge's in the row), None without one."""
        return next((one for one in self.verdicts if one.turn == turn and one.repeat == 0), None)


class JudgeRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who a judge is: its name, "" where a file does not tell it, and the fingerprint of a model that was served."""

    name: str = ""
    fingerprint: str | None = None


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line of a records file.

    ``options`` are the suite's resolved options, ``pins`` its data pins by asset, ``judges`` describes each
    judge by its key, ``missing`` names the parts that are not there with the reason. ``document`` is lm-eval's own
    results document, whose aggregates stay its own.
    """

    suite: str
    n_items: int
    schema: int = msgspec.field(default=SCHEMA, name="schema")
    evalsuite: str = ""
    options: Mapping[str, Any] = {}
    pins: Mapping[str, Pin] = {}
    judges: Mapping[str, JudgeRef] = {}
    missing: Mapping[str, str] = {}
    document: Any = None


def replaced(row: Row, **fields: Any) -> Row:
    """Return ``row`` with other ``fields``."""
    return msgspec.structs.replace(row, **fields)


def for_judge(row: Row, judge: str | None) -> Row:
    """Return ``row`` with the verdicts of one judge only (None: without verdicts)."""
    if all(verdict.judge == judge for verdict in row.verdicts):
        return row
    return replaced(row, verdicts=tuple(verdict for verdict in row.verdicts if verdict.judge == judge))


def merged(old: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """Add rows to rows of the same items: the draws and marks of ``new``, and the verdicts of both.

    A judge of ``new`` is taken from there alone. Other judges' verdicts stay where the answers are the same; a changed
    answer loses them. ``new`` is the whole suite: rows that it lacks are dropped.
    """
    known = {(row.part, row.item_id): row for row in old}
    return [_merged_row(known.get((row.part, row.item_id)), row) for row in new]


def _merged_row(old: Row | None, new: Row) -> Row:
    if old is None or not old.verdicts or answer_texts(old) != answer_texts(new):
        return new
    judged = {verdict.judge for verdict in new.verdicts}
    kept = tuple(verdict for verdict in old.verdicts if verdict.judge not in judged)
    return replaced(new, verdicts=(*kept, *new.verdicts)) if kept else new


def answer_texts(row: Row) -> Sequence[tuple[str | None, ...]]:
    """Return the answers of each draw, a text a turn."""
    return [tuple(reply.text for reply in draw.turns) for draw in row.draws]
