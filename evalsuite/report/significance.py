"""Who is really best in a column of the report, and what difference the column could have shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import median

import numpy as np
from numpy.typing import NDArray

from evalsuite.suites.figures import NO_SPREAD, Z95, Figure
from judges.paired import Difference, best_of, paired_difference, rank_intervals

Marks = Mapping[str, Mapping[int, NDArray[np.float64]]]
"""Part name -> model number -> one mark per item."""
Contexts = Mapping[str, NDArray[np.intp]]
"""Part name -> a number per item, equal where items share a context."""


@dataclass(frozen=True, slots=True)
class ColumnTests:
    """What the comparisons of a column's models say.

    ``best`` is the model with the highest figure and the p-value of "better than every other". ``ranks`` holds
    each model's possible ranks, and ``detectable`` the difference that a comparison of two of the models, the median
    one, shows with 80 % power.
    """

    best: tuple[int, float] | None = None
    ranks: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    detectable: float | None = None


def column_tests(figures: Mapping[int, Figure], marks: Marks, contexts: Contexts, prefix: str) -> ColumnTests:
    """Compare all models of a column two by two.

    ``figures`` maps a model's number to its cell; ``prefix`` picks the parts of ``marks`` that lie behind the column.
    """
    values = {model: figure.value for model, figure in figures.items() if figure.value is not None}
    differences = {
        pair: difference_of(figures, marks, contexts, prefix, *pair) for pair in combinations(sorted(values), 2)
    }
    p_values = {pair: one.p_value for pair, one in differences.items() if one is not None}
    known = [effect for one in differences.values() if one is not None and (effect := one.detectable) is not None]
    ranks = rank_intervals(values, p_values) if len(values) > 1 else {}
    return ColumnTests(best_of(values, p_values), ranks, median(known) if known else None)


PairOfMarks = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp] | None]


def difference_of(
    figures: Mapping[int, Figure], marks: Marks, contexts: Contexts, prefix: str, a: int, b: int
) -> Difference | None:
    """Return how much better model ``a`` is than ``b`` in the column with these items, as :func:`column_difference`."""
    shared = [name for name in parts_behind(prefix, marks) if a in marks[name] and b in marks[name]]
    pairs = [(marks[name][a], marks[name][b], contexts.get(name)) for name in shared]
    return column_difference(figures[a], figures[b], pairs)


def parts_behind(prefix: str, marks: Marks) -> list[str]:
    """Return the parts whose items lie behind a column."""
    is_folder = prefix.endswith("/")
    return [name for name in marks if prefix and (name.startswith(prefix) if is_folder else name == prefix)]


def column_difference(a: Figure, b: Figure, pairs: Sequence[PairOfMarks]) -> Difference | None:
    """Compare two models in one column: paired by item where there are items, else by their standard errors.

    ``pairs`` holds both models' marks and the items' contexts part by part. None where neither is possible. Not
    paired, the degrees of freedom are those of the smaller set, which claims too little rather than too much.
    """
    if pairs:
        owner = [_numbered(pair[2], len(pair[0])) for pair in pairs]
        clusters = [(part, int(one)) for part, numbers in enumerate(owner) for one in numbers]
        joined = paired_difference(
            np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs]), clusters
        )
        if joined is not None:
            return joined
    a_error, b_error = _stderr(a), _stderr(b)
    if a.value is None or b.value is None or a_error is None or b_error is None:
        return None
    df = None if a.n is None or b.n is None else max(1, min(a.n, b.n) - 1)
    return Difference(a.value - b.value, math.hypot(a_error, b_error), None, df)


def _numbered(contexts: NDArray[np.intp] | None, n: int) -> NDArray[np.intp]:
    return np.arange(n) if contexts is None else contexts


def _stderr(figure: Figure) -> float | None:
    """Return a figure's standard error; where all its items are alike, one as wide as its interval, else None."""
    if figure.stderr is None or figure.stderr > NO_SPREAD:
        return figure.stderr
    low, high = figure.ci95 or (0.0, 0.0)
    return (high - low) / 2 / Z95 if high > low else None
