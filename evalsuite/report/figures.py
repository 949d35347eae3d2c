"""The figures of the table: the columns of every suite, and what they show of each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.results.averages import AVERAGES
from evalsuite.results.reading import ModelResult
from evalsuite.suites.figures import Column, Figure, number
from evalsuite.suites.registry import keys_of, suite_of_key, suites

HIDDEN_AVERAGE = "leaderboard_v2"
"""The average that a reader has to switch on; it alone is on 0-100."""


def columns_of(models: Sequence[ModelResult], faults: list[str]) -> list[Column]:
    """Return the columns of all suites in their order, those that are shown at first before the others.

    A suite that ``run`` does not run by default has columns only where a model has its figures. Figures
    whose suite is not installed here, and columns that cannot be made, add a sentence to ``faults``.
    """
    scores: dict[str, list[Mapping[str, Any]]] = {}
    for model in models:
        for key, suite_scores in model.suites.items():
            scores.setdefault(key, []).append(suite_scores)
    faults += [
        f"the figures of {key!r}: no suite of that name is installed here; install its package"
        for key in scores
        if suite_of_key(key) is None
    ]
    columns: list[Column] = []
    for suite in suites().values():
        if suite.in_default or any(key in scores for key in keys_of(suite)):
            try:
                columns += suite.columns(scores)
            except Exception as error:  # a suite of another package may raise anything; the other columns stay
                faults.append(f"the columns of {suite.name}: {type(error).__name__}: {error}; upgrade its package")
    return sorted(columns, key=lambda column: not column.main)


def figures_of(model: ModelResult, columns: Sequence[Column]) -> dict[str, Figure]:
    """Read every column's figure of a model, averages under ``average.<name>``."""
    figures = {column.key: figure_in(model.suites, column) for column in columns}
    return figures | {f"average.{name}": average_figure(model.scores.average, name) for name in AVERAGES}


def figure_in(suites: Mapping[str, Mapping[str, Any]], column: Column) -> Figure:
    """Return a column's figure from the suites of scores.json; one of a suite that was not run says so."""
    scores = suites.get(column.suite)
    return column.figure(scores) if scores else Figure(reason=f"{column.suite} was not run")


def average_figure(average: Mapping[str, Any], name: str) -> Figure:
    """Return an average of scores.json; one with a missing part is empty and names the parts that are there."""
    value = number(average.get(name))
    if value is not None:
        return Figure(value)
    partial = (average.get("partial") or {}).get(name) or {}
    parts = partial.get("parts") or []
    if not parts:
        return Figure(reason="all of its parts are missing")
    return Figure(reason=f"some parts are missing; over {', '.join(parts)} the mean is {partial['mean']:.4f}")


def average_digits(name: str) -> int:
    """Return how many digits of an average the table shows; the one on 0-100 needs fewer."""
    return 1 if name == HIDDEN_AVERAGE else 3
