"""Pairs of a comparison's answers, drawn where labels tell most, on one offline page that names no model.

A pair is drawn with a chance that grows with the judge's doubt, and the chance is saved with the label:
``compare --human`` weighs by it. The draw is systematic in a random order, so that exactly ``n`` are drawn with these
chances (Madow 1949, Annals of Mathematical Statistics 20, 333-354).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from evalsuite.comparison_documents import VerdictRow, read_verdict_rows
from evalsuite.errors import DataError
from evalsuite.files import write_text
from evalsuite.labelling.settings import LabelConfig
from evalsuite.report.page import render_page
from evalsuite.store import content_key

LEAST_DOUBT = 0.1
"""Of a pair that the judge is sure of, against 1 for one at 0.5: a sure judge is sometimes wrong too."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One pair to be judged, and the chance with which it was drawn."""

    row: VerdictRow
    chance: float
    is_turned: bool


def write_sheet(config: LabelConfig) -> int:
    """Write the page, and return how many pairs it has; raises DataError where the comparison has none to judge."""
    path = config.comparison / "verdicts.jsonl"
    if not path.is_file():
        raise DataError(f"{config.comparison} has no verdicts.jsonl; give the folder of a comparison")
    drawn = draw(read_verdict_rows(path), config.n, config.seed)
    if not drawn:
        raise DataError(f"{path}: no pair has two different answers and a verdict; compare other models")
    # The comparison's name is not shown: it names the models.
    sheet = content_key({"name": config.comparison.resolve().name, "items": [_saved(one) for one in drawn]})
    items = [_shown(one) for one in drawn]
    page = render_page("label.html.jinja", {}, scripts=("dom.js", "label.js"), sheet=sheet[:16], items=items)
    write_text(config.out, page)
    return len(drawn)


def draw(rows: Sequence[VerdictRow], n: int, seed: int) -> list[Drawn]:
    """Draw ``n`` pairs (all where there are no more), in a random order, with chances by the judges' doubt."""
    by_pair: dict[tuple[str, str, str], list[VerdictRow]] = {}
    for row in rows:
        if row.winner is not None and not row.identical and row.answer_a is not None and row.answer_b is not None:
            by_pair.setdefault((row.prompt_id, row.a, row.b), []).append(row)
    same = list(by_pair.values())
    chances = _chances([_doubt(each) for each in same], n)
    drawn_by = random.Random(f"{seed}")
    order = drawn_by.sample(range(len(same)), len(same))
    start, total, drawn = drawn_by.random(), 0.0, []
    for position in order:
        before, total = total, total + chances[position]
        # A chance of 1 is always drawn, whatever rounding says.
        if chances[position] >= 1 or int(before + start) < int(total + start):
            drawn.append(Drawn(same[position][0], chances[position], drawn_by.random() < 0.5))
    return drawn


def _doubt(rows: Sequence[VerdictRow]) -> float:
    """Return 1 for judges at 0.5 on average, LEAST_DOUBT for judges who are sure."""
    preference = fmean(0.5 if row.preference_a is None else row.preference_a for row in rows)
    return LEAST_DOUBT + (1 - LEAST_DOUBT) * 4 * preference * (1 - preference)


def _chances(doubts: Sequence[float], n: int) -> list[float]:
    """Return chances in proportion to the doubts, at most 1, whose sum is n."""
    if n >= len(doubts):
        return [1.0] * len(doubts)
    certain: set[int] = set()
    while True:
        left = n - len(certain)
        total = sum(doubt for rank, doubt in enumerate(doubts) if rank not in certain)
        over = {rank for rank, doubt in enumerate(doubts) if rank not in certain and doubt * left >= total}
        if not over:
            return [1.0 if rank in certain else doubt * left / total for rank, doubt in enumerate(doubts)]
        certain |= over


def _shown(one: Drawn) -> dict[str, Any]:
    first, second = one.row.answer_a, one.row.answer_b
    left, right = (second, first) if one.is_turned else (first, second)
    return {"prompt": one.row.prompt, "left": left, "right": right, "turned": one.is_turned, "saved": _saved(one)}


def _saved(one: Drawn) -> Mapping[str, Any]:
    """Return the line of labels.jsonl without its label."""
    return {"prompt_id": one.row.prompt_id, "a": one.row.a, "b": one.row.b, "chance": round(one.chance, 6)}
