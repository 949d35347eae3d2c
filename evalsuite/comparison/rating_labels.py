"""Answers that people rated, for the card of a judge that rates.

{"id": "1", "prompt": "Say hello.", "answer": "Hello!", "ratings": {"warmth": [4, 5], "truth": 3}}

``ratings`` are numbers by factor, on any scale; of several people a list, whose mean counts. ``messages`` may replace
``prompt`` and ``answer``, ``system``, ``reference`` and ``rubric`` are shown to the judge, ``category`` has a row of
its own, and answers with the same ``group`` (by default the same prompt) are one observation of the intervals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from evalsuite.comparison.answer_rows import answer_texts, read_rows
from evalsuite.comparison.requests import dialogue_of, group_of, grouped
from evalsuite.conversations.scores import finite
from evalsuite.errors import DataError
from judges.verdicts import Request

_REMEDY = 'give "ratings": {"factor": number, ...}; for several raters, a list of numbers'


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer with people's ratings by factor."""

    id: str
    request: Request
    answers: tuple[str, ...]
    people: Mapping[str, float]
    category: str | None = None
    group: str = ""


def read_labels(path: Path) -> list[Labelled]:
    """Read a .json or .jsonl file of rated answers; raises DataError that names the row at fault."""
    found: dict[str, Labelled] = {}
    groups = []
    for number, row in enumerate(read_rows(path), 1):
        where = f"{path} row {number}"
        asked = dialogue_of(row, where)
        answers = () if asked is None else asked.replies or answer_texts(row)
        if asked is None or not answers or len(answers) != len(asked.request.turns):
            raise DataError(f"{where} has no prompt with an answer to each turn; give 'prompt' and 'answer'")
        identity, category = str(row.get("id", number)), row.get("category")
        if identity in found:
            raise DataError(f"{where}: duplicate id {identity!r}; give every answer its own")
        people = _ratings(row, where)
        found[identity] = Labelled(identity, asked.request, answers, people, str(category) if category else None)
        groups.append((identity, asked.request, group_of(row)))
    # Copies of a prompt are one group, which needs no note: several answers to one prompt are what is expected.
    names, _ = grouped(groups)
    return [replace(row, group=name) for row, name in zip(found.values(), names, strict=True)]


def _ratings(row: Mapping[str, Any], where: str) -> dict[str, float]:
    given = row.get("ratings")
    if not isinstance(given, Mapping) or not given:
        raise DataError(f"{where} has no ratings; {_REMEDY}")
    found = {}
    for factor, value in given.items():
        numbers = [finite(one) for one in (value if isinstance(value, list) else [value])]
        known = [one for one in numbers if one is not None]
        if len(known) < len(numbers) or not known:
            raise DataError(f"{where} has the rating {value!r} of {factor}; {_REMEDY}")
        found[str(factor)] = fmean(known)
    return found
