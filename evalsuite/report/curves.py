"""A training run as a curve: the scores of its checkpoints against the step, and the best against the last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalsuite.report.chart import Chart, ends_text
from evalsuite.report.index import Contents
from evalsuite.report.lines import line_chart
from evalsuite.report.significance import parts_behind, stacked
from evalsuite.report.texts import visible
from evalsuite.suites.figures import DASH, Column, Figure
from judges.selection import Corrected, against_reference

HEAD = ("step", "tokens", "learning rate", "score", "95 %", "n", "minus the last", "95 %, all together", "p, corrected")


@dataclass(frozen=True, slots=True)
class Point:
    """One checkpoint on a curve. ``against_last`` is None for the last and where no items are shared."""

    model: int
    at: Mapping[str, Any]
    figure: Figure
    against_last: Corrected | None = None

    @property
    def step(self) -> int:
        return int(self.at["step"])

    @property
    def value(self) -> float:
        return self.figure.value or 0.0


@dataclass(frozen=True, slots=True)
class Curve:
    """The checkpoints of a run in one column, in the order of their steps, two at least."""

    run: str
    column: Column
    points: Sequence[Point]

    @property
    def best(self) -> Point:
        """The checkpoint with the highest score, the latest of equal ones."""
        return max(self.points, key=lambda point: (point.value, point.step))

    @property
    def verdict(self) -> str:
        """Say which checkpoint is best, and whether it is better than the last."""
        best, last, digits = self.best, self.points[-1], self.column.digits
        if best is last and any(point.value == last.value for point in self.points[:-1]):
            return f"No checkpoint is better than the last, step {last.step:,}: {last.value:z.{digits}f}."
        if best is last:
            return f"The last checkpoint, step {last.step:,}, is the best: {last.value:z.{digits}f}."
        first, end = (f"{one.step:,}: {one.value:z.{digits}f}" for one in (best, last))
        said = f"Best at step {first}; at the last, {end}."
        test = best.against_last
        if test is None:
            return f"{said} There is no paired test: this figure has no marks per item, or they share too few."
        ends = "" if test.ci95 is None else f", 95 % {test.ci95[0]:+z.{digits}f} to {test.ci95[1]:+z.{digits}f}"
        n = len(self.points) - 1
        among = f", corrected for the choice among {n} (largest of their t statistics)" if n > 1 else ""
        return (
            f"{said} Paired over {test.difference.n} items: {test.difference.value:+z.{digits}f}{ends}, "
            f"p = {test.p_value:.2g}{among}."
        )


def curves_of(contents: Contents) -> list[Curve]:
    """Return a curve per training run and column, for runs of which two or more checkpoints have a figure.

    Checkpoints that were judged or asked differently are apart.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, model in enumerate(contents.models):
        if (at := model.scores.training_step) is not None and isinstance(at.get("step"), int):
            judge = None if model.judge is None else model.judge.key
            key = (at.get("run"), at.get("run_id"), model.scores.variant, judge, model.scores.data, model.scores.limit)
            groups.setdefault(key, []).append(number)
    curves = []
    for (run, _, variant, *_), members in groups.items():
        title = f"{run} ({variant})" if variant else str(run)
        for column in contents.columns:
            points = _points(column, members, contents)
            if len(points) > 1:
                curves.append(Curve(visible(title), column, _tested(points, column, contents)))
    return curves


def _points(column: Column, members: Sequence[int], contents: Contents) -> list[Point]:
    steps = {number: contents.models[number].scores.training_step or {} for number in members}
    points = [Point(number, step, contents.figures[number][column.key]) for number, step in steps.items()]
    return sorted((point for point in points if point.figure.value is not None), key=lambda point: point.step)


def _tested(points: Sequence[Point], column: Column, contents: Contents) -> list[Point]:
    """Return the points with their comparisons to the last one."""
    parts = parts_behind(column.items, contents.marks)
    stack = stacked([point.model for point in points], parts, contents.marks, contents.contexts)
    tests = None if stack is None else against_reference(stack[0], len(points) - 1, stack[1])
    return [replace(point, against_last=(tests or {}).get(number)) for number, point in enumerate(points)]


def curve_charts(curves: Sequence[Curve]) -> list[tuple[str, list[Chart]]]:
    """Return a set of charts per training run: a chart per column that is shown at first."""
    sets: dict[str, list[Chart]] = {}
    for curve in curves:
        if curve.column.main:
            sets.setdefault(f"Training run {curve.run}", []).append(_chart(curve))
    return list(sets.items())


def _chart(curve: Curve) -> Chart:
    column = curve.column
    line = [(float(point.step), point.value) for point in curve.points]
    spans = {float(point.step): point.figure.ci95 for point in curve.points}
    title = f"{column.title} against the training step"
    head, series = ("", HEAD[0], column.title), {column.title: line}
    drawn = line_chart(column.key, title, "", head, series, column.digits, spans=spans, logarithmic=False)
    note = f"{curve.verdict} Whiskers are 95 % intervals of each checkpoint alone."
    return Chart(column.key, title, note, drawn.drawing, HEAD, curve_rows(curve))


def curve_rows(curve: Curve) -> list[list[str]]:
    """Return a row of texts per checkpoint, under ``HEAD``."""
    digits = curve.column.digits
    rows = []
    for point in curve.points:
        tokens, rate, test = point.at.get("tokens"), point.at.get("learning_rate"), point.against_last
        rows.append(
            [
                f"{point.step:,}",
                f"{tokens:,}" if isinstance(tokens, int) else DASH,
                f"{rate:.3g}" if isinstance(rate, float) else DASH,
                f"{point.value:z.{digits}f}",
                ends_text(point.figure.ci95, digits),
                DASH if point.figure.n is None else str(point.figure.n),
                DASH if test is None else f"{test.difference.value:+z.{digits}f}",
                DASH if test is None else ends_text(test.ci95, digits, "+"),
                DASH if test is None else f"{test.p_value:.2g}",
            ]
        )
    return rows
