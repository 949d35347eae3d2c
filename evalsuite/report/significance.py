"""Which model is significantly best in a column of the report, and the column's minimum detectable effect."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median

import numpy as np
from numpy.typing import NDArray

from evalsuite.suites.figures import NO_SPREAD, Z95, Figure
from judges.paired import Difference, best_of, p_values, paired_differences, rank_intervals

Marks = Mapping[str, Mapping[int, NDArray[np.float64]]]
"""Part name -> model number -> one mark per item."""
Contexts = Mapping[str, NDArray[np.intp]]
"""Part name -> a number per item, equal where items share a context."""


@dataclass(frozen=True, slots=True)
class ColumnTests:
    """What the comparisons of a column's models say.

    ``best`` is the model with the highest figure and the p-value of "better than every other". ``ranks`` holds
    each model's possible ranks, and ``detectable`` the difference that a comparison of two of the models, the median
    one, shows with 80 % power. ``differences`` holds the comparisons themselves by the models, a below b.
    """

    best: tuple[int, float] | None = None
    ranks: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    detectable: float | None = None
    differences: Mapping[tuple[int, int], Difference | None] = field(default_factory=dict)


def column_tests(figures: Mapping[int, Figure], marks: Marks, contexts: Contexts, prefix: str) -> ColumnTests:
    """Compare all models of a column pairwise.

    ``figures`` maps a model's number to its cell; ``prefix`` picks the parts of ``marks`` that lie behind the column.
    """
    values = {model: figure.value for model, figure in figures.items() if figure.value is not None}
    paired = _paired(sorted(values), parts_behind(prefix, marks), marks, contexts)
    differences = {
        pair: paired.get(pair) or unpaired_difference(figures[pair[0]], figures[pair[1]])
        for pair in combinations(sorted(values), 2)
    }
    tested = p_values(differences)
    known = [effect for one in differences.values() if one is not None and (effect := one.detectable) is not None]
    ranks = rank_intervals(values, tested) if len(values) > 1 else {}
    return ColumnTests(best_of(values, tested), ranks, median(known) if known else None, differences)


def parts_behind(prefix: str, marks: Marks) -> list[str]:
    """Return the parts whose items lie behind a column."""
    is_folder = prefix.endswith("/")
    return [name for name in marks if prefix and (name.startswith(prefix) if is_folder else name == prefix)]


def _paired(
    models: Sequence[int], parts: Sequence[str], marks: Marks, contexts: Contexts
) -> dict[tuple[int, int], Difference | None]:
    """Compare models item by item over all parts behind a column."""
    if (stack := stacked(models, parts, marks, contexts)) is None:
        return {}
    found = paired_differences(*stack)
    return {(models[a], models[b]): difference for (a, b), difference in found.items()}


def stacked(
    models: Sequence[int], parts: Sequence[str], marks: Marks, contexts: Contexts
) -> tuple[NDArray[np.float64], NDArray[np.intp]] | None:
    """Return the marks of all items of some parts (models by items) and the items' contexts; None without a part.

    A part that a model lacks is unmarked (NaN).
    """
    parts = [name for name in parts if any(model in marks[name] for model in models)]
    if not parts:
        return None
    lengths = [len(next(iter(marks[name].values()))) for name in parts]
    rows = [
        np.concatenate(
            [marks[name].get(model, np.full(length, np.nan)) for name, length in zip(parts, lengths, strict=True)]
        )
        for model in models
    ]
    owners: list[NDArray[np.intp]] = []
    for name, length in zip(parts, lengths, strict=True):
        numbers = contexts.get(name, np.arange(length))
        owners.append(numbers + (owners[-1].max() + 1 if owners and len(owners[-1]) else 0))
    return np.stack(rows), np.concatenate(owners)


def unpaired_difference(a: Figure, b: Figure) -> Difference | None:
    """Compare two figures by their standard errors; None where one has none.

    The degrees of freedom are those of the smaller set, which claims too little rather than too much.
    """
    a_error, b_error = _stderr(a), _stderr(b)
    if a.value is None or b.value is None or a_error is None or b_error is None:
        return None
    df = None if a.n is None or b.n is None else max(1, min(a.n, b.n) - 1)
    return Difference(a.value - b.value, math.hypot(a_error, b_error), None, df)


def _stderr(figure: Figure) -> float | None:
    """Return a figure's standard error; where all its items are alike, one as wide as its interval, else None."""
    if figure.stderr is None or figure.stderr > NO_SPREAD:
        return figure.stderr
    low, high = figure.ci95 or (0.0, 0.0)
    return (high - low) / 2 / Z95 if high > low else None
