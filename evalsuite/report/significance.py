"""Is the best really better? Differences between two models with their doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalsuite.report.columns import Figure

Z95 = 1.959963984540054
Marks = Mapping[str, Mapping[int, NDArray[np.float64]]]
"""Part name to model place to one mark an item."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A minus b with its standard error; ``n`` counts the items that both were marked on (None: not paired)."""

    value: float
    stderr: float
    n: int | None

    @property
    def significant(self) -> bool:
        """Whether 0 lies outside the two-sided 95 % interval."""
        return abs(self.value) > Z95 * self.stderr


def paired_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference | None:
    """Return the mean difference over items that both models were marked on; None with fewer than two.

    Source: Miller 2024 (arXiv 2411.00640), paired differences.
    """
    both = ~(np.isnan(a) | np.isnan(b))
    n = int(both.sum())
    if n < 2:
        return None
    differences = a[both] - b[both]
    return Difference(float(differences.mean()), float(differences.std(ddof=1) / math.sqrt(n)), n)


def column_difference(
    a: Figure, b: Figure, pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> Difference | None:
    """Compare two models in one column: paired by item where items are there, else by their standard errors.

    ``pairs`` holds both models' marks part by part. None where neither way is open.
    """
    if pairs:
        joined = paired_difference(
            np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])
        )
        if joined is not None:
            return joined
    if a.value is None or b.value is None or a.stderr is None or b.stderr is None:
        return None
    return Difference(a.value - b.value, math.hypot(a.stderr, b.stderr), None)


def clear_best(figures: Mapping[int, Figure], marks: Marks, prefix: str) -> int | None:
    """Return the model that is best in a column and significantly better than the runner-up; None without one.

    ``figures`` maps a model's place to its cell; ``prefix`` picks the parts of ``marks`` that lie behind the column.
    """
    ranked = sorted((place for place in figures if figures[place].value is not None), key=lambda p: -_value(figures[p]))
    if len(ranked) < 2:
        return None
    first, second = ranked[:2]
    parts = [by_model for name, by_model in marks.items() if prefix and _belongs(name, prefix)]
    pairs = [(by_model[first], by_model[second]) for by_model in parts if first in by_model and second in by_model]
    difference = column_difference(figures[first], figures[second], pairs)
    return first if difference is not None and difference.value > 0 and difference.significant else None


def _belongs(part: str, prefix: str) -> bool:
    return part.startswith(prefix) if prefix.endswith("/") else part == prefix


def _value(figure: Figure) -> float:
    return -math.inf if figure.value is None else figure.value
