"""The models' figures on the items that are not in the training data, beside those on all items."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import fmean, variance
from typing import Any, NamedTuple

from evalsuite.analysis.document import Column, Table, cell
from evalsuite.contamination.index import words_of
from evalsuite.errors import EvalsuiteError
from evalsuite.records.rows import Row
from evalsuite.results.reading import ModelResult
from evalsuite.suites.types import CheckedItem
from judges.statistics import mean_ci, student_ci
from judges.types import user_texts

Found = Mapping[str, Collection[str]]
"""The ids of the items that the data contain, by the name that they are counted under."""
_TOGETHER = (("narrative", "question"), ("context", "prompt"))
"""Fields that the check reads as one text."""


class _Marked(NamedTuple):
    mark: float
    is_found: bool


def clean_table(models: Sequence[ModelResult], items: Sequence[CheckedItem], found: Found) -> Table | None:
    """Return every model's figures on all checked items and on those that the data do not contain.

    An item of a model's records is known by its words. ``difference`` is the figure on all items minus the one on the
    clean items among them; its interval is from the spread within both kinds. None where no model has a checked item.
    """
    is_found: dict[str, bool] = {}
    for item in items:
        text = _key(item.turns[0])
        is_found[text] = is_found.get(text, False) or item.id in found.get(item.suite, ())
    rows = [
        {"model": model.name, "figure": figure, **_figures(marked)}
        for model in models
        for figure, marked in _marked(model, is_found).items()
    ]
    if not rows:
        return None
    columns = (
        Column("model", "Model"),
        Column("figure", "Figure"),
        Column("all", "All items", "float3"),
        Column("n", "n", "int"),
        Column("clean", "Not in the data", "float3"),
        Column("n_clean", "n", "int"),
        Column("difference", "All minus these", "signed3"),
    )
    notes = (
        "Means of the items' marks; a figure with its own formula, such as a length-controlled rate, differs.",
        "Protected items cannot be told apart and are left out, as are items without a mark.",
    )
    return Table("clean", "Figures on items that are not in the data", columns, rows, notes=notes)


def _marked(model: ModelResult, is_found: Mapping[str, bool]) -> dict[str, list[_Marked]]:
    """Return the marks of a model's checked items by the column that they belong to."""
    marked: dict[str, list[_Marked]] = {}
    for key in model.suites:
        try:
            records = model.records(key)
            rows = [] if records is None else records.rows()
        except EvalsuiteError:
            # A folder whose records cannot be read is named by the report.
            continue
        for row in rows:
            assert records is not None
            facts = records.suite.report_part(key, row.part)
            mark, known = row.mark(facts.metric), next((text for text in _texts(row) if text in is_found), None)
            if mark is not None and known is not None:
                marked.setdefault(facts.column, []).append(_Marked(mark * facts.scale, is_found[known]))
    return marked


def _texts(row: Row) -> Iterator[str]:
    """Yield what an item may have been asked as in the check, in the form of :func:`_key`."""
    fields = {str(name): str(text) for name, text in row.facts.get("fields") or ()}
    fields |= {name: text for name, text in row.facts.items() if isinstance(text, str)}
    for names in _TOGETHER:
        if all(fields.get(name) for name in names):
            yield _key("\n".join(fields[name] for name in names))
    yield from map(_key, user_texts(row.prompt or ())[:1])
    yield from map(_key, fields.values())


def _key(text: str) -> str:
    return " ".join(words_of(text))


def _figures(marked: Sequence[_Marked]) -> dict[str, Any]:
    clean = [one.mark for one in marked if not one.is_found]
    rest = [one.mark for one in marked if one.is_found]
    everything = fmean(one.mark for one in marked)
    figures: dict[str, Any] = {"all": everything, "n": len(marked), "clean": None, "n_clean": len(clean)}
    if not clean:
        return {**figures, "clean_why": "all items are in the data", "difference": None}
    figures |= cell("clean", fmean(clean), mean_ci(clean))
    if not rest:
        return {**figures, "difference": 0.0}
    # The mean of all minus the clean ones' is this share of what sets the others apart.
    share = len(rest) / len(marked)
    difference = share * (fmean(rest) - fmean(clean))
    if min(len(clean), len(rest)) < 2:
        return {**figures, "difference": difference}
    stderr = share * math.sqrt(variance(clean) / len(clean) + variance(rest) / len(rest))
    interval = student_ci(difference, stderr, min(len(clean), len(rest)) - 1)
    return {**figures, **cell("difference", difference, interval)}
