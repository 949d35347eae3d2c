"""Is the best really better? Differences between two models with their doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalsuite.suites.figures import NO_SPREAD, Z95, Figure
from judges.statistics import sign_test_exact

Marks = Mapping[str, Mapping[int, NDArray[np.float64]]]
"""Part name -> model number -> one mark per item."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A minus b with its standard error.

    ``n`` counts the items that both were marked on (None: not paired), ``df`` the degrees of freedom behind
    the standard error (None: many). A paired difference that is the same on all items has ``stderr`` 0.
    """

    value: float
    stderr: float
    n: int | None
    df: int | None = None

    @property
    def significant(self) -> bool:
        """Whether 0 lies outside the two-sided 95 % interval of Student's t.

        Without any spread there is no interval: then the exact sign test decides at 5 %.
        """
        if self.stderr > 0:
            return abs(self.value) > t95(self.df) * self.stderr
        return self.n is not None and self.value != 0 and sign_test_exact(self.n, 0) < 0.05


def t95(df: int | None) -> float:
    """Return the two-sided 95 % point of Student's t; of the normal distribution where ``df`` is None.

    >>> round(t95(1), 3), round(t95(10), 3)
    (12.706, 2.228)
    """
    if df is None:
        return Z95
    # Importing scipy costs a second, which only a report pays.
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.975))


def paired_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference | None:
    """Return the mean difference over items that both models were marked on; None with fewer than two.

    Source: Miller 2024 (arXiv 2411.00640), paired differences.
    """
    both = ~(np.isnan(a) | np.isnan(b))
    n = int(both.sum())
    if n < 2:
        return None
    differences = a[both] - b[both]
    mean = float(differences.mean())
    if np.ptp(differences) <= NO_SPREAD:
        return Difference(mean if abs(mean) > NO_SPREAD else 0.0, 0.0, n, n - 1)
    return Difference(mean, float(differences.std(ddof=1) / math.sqrt(n)), n, n - 1)


def column_difference(
    a: Figure, b: Figure, pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> Difference | None:
    """Compare two models in one column: paired by item where there are items, else by their standard errors.

    ``pairs`` holds both models' marks part by part. None where neither is possible. Not paired, the
    degrees of freedom are those of the smaller set, which claims too little rather than too much.
    """
    if pairs:
        joined = paired_difference(
            np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])
        )
        if joined is not None:
            return joined
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


def clear_best(figures: Mapping[int, Figure], marks: Marks, prefix: str) -> int | None:
    """Return the model that is best in a column and significantly better than the runner-up; None without one.

    ``figures`` maps a model's number to its cell; ``prefix`` picks the parts of ``marks`` that lie behind the column.
    """
    ranked = sorted((-value, model) for model, figure in figures.items() if (value := figure.value) is not None)
    if len(ranked) < 2:
        return None
    first, second = (model for _, model in ranked[:2])
    is_folder = prefix.endswith("/")
    parts = [marks[name] for name in marks if prefix and (name.startswith(prefix) if is_folder else name == prefix)]
    pairs = [(by_model[first], by_model[second]) for by_model in parts if first in by_model and second in by_model]
    difference = column_difference(figures[first], figures[second], pairs)
    return first if difference is not None and difference.value > 0 and difference.significant else None
