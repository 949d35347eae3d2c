"""Verdicts on labelled pairs that others recorded, in both orders: a test bed for judge cards.

    {"input": "...", "output_1": "...", "output_2": "...", "label": 1, "as_listed": 1, "swapped": 2}
    {..., "results": [{"swap = False": {"winner": "1"}, "swap = True": {"winner": "2"}}]}              LLMBar

A verdict names the output that it prefers (1 or 2, whatever the order), "tie", or null for none. Of several of LLMBar's
results the last one counts, which its statistics are made of too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalsuite.comparison.answer_rows import read_rows
from evalsuite.comparison.pairs import pairs_of
from evalsuite.errors import DataError
from evalsuite.fingerprint import files_sha256
from judges.card import LabelledPair
from judges.types import Unscored
from judges.verdicts import Game

_OWN, _LLMBAR = ("as_listed", "swapped"), ("swap = False", "swap = True")
_WINNERS: Mapping[str, float | None] = {"1": 1.0, "output_1": 1.0, "2": 0.0, "output_2": 0.0, "tie": 0.5, "none": None}
"""The preference for output 1 by what a file says of the winner."""

BothOrders = tuple[Game | Unscored, Game | Unscored]


def read_recorded_verdicts(path: Path) -> tuple[list[LabelledPair], list[BothOrders], dict[str, Any]]:
    """Return the pairs, both games of each, and the file's pin; raises DataError that names the row."""
    rows = read_rows(path)
    pin = {"name": path.name, "sha256": files_sha256([path]), "source": "recorded", "pinned": False}
    pairs: list[LabelledPair] = []
    games: list[BothOrders] = []
    for number, row in enumerate(rows, 1):
        where = f"{path.name} row {number}"
        found = pairs_of(row, number, path.name)
        if len(found) != 1:
            raise DataError(f"{where} has {len(found)} pairs; expected one pair per row")
        pairs += found
        games.append(_games(row, where))
    return pairs, games, pin


def _games(row: Mapping[str, Any], where: str) -> BothOrders:
    if all(name in row for name in _OWN):
        given = {order: row[name] for order, name in enumerate(_OWN)}
    else:
        results = row.get("results")
        last = results[-1] if isinstance(results, list) and results else None
        if not isinstance(last, Mapping) or not all(isinstance(last.get(name), Mapping) for name in _LLMBAR):
            raise DataError(f"{where} has no recorded verdicts; expected as_listed and swapped, or LLMBar's results")
        given = {order: last[name].get("winner") for order, name in enumerate(_LLMBAR)}
    as_listed, swapped = (_preference(given[order], where) for order in (0, 1))
    return (
        Unscored("no_verdict") if as_listed is None else Game(as_listed),
        Unscored("no_verdict") if swapped is None else Game(1 - swapped),
    )


def _preference(winner: Any, where: str) -> float | None:
    key = str(winner).lower()
    if key not in _WINNERS:
        raise DataError(f"{where} has the verdict {winner!r}; expected 1, 2, 'tie' or null")
    return _WINNERS[key]
