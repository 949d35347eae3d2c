"""Variants of one checkpoint that differ in how it thinks: scores against thinking tokens, and paired differences.

Thinking on and off, or two budgets, are different policies and are in separate tabs. Here the variants of one
checkpoint are side by side, on the same data and by the same judge, compared item by item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.report.chart import Chart, ends_text
from evalsuite.report.index import Contents
from evalsuite.report.lines import line_chart
from evalsuite.report.significance import column_tests
from evalsuite.report.texts import visible
from evalsuite.results.reading import ModelResult
from evalsuite.suites.figures import DASH, Column, Figure

_HEAD = ("variant", "budget", "tokens per answer", "thoughts closed", "score", "95 %", "minus the first", "p")


def thinking_charts(contents: Contents) -> list[tuple[str, list[Chart]]]:
    """Return a set of charts per checkpoint with several variants of thinking: a chart per column with figures."""
    models, groups = contents.models, dict[tuple[Any, ...], list[int]]()
    for number, model in enumerate(models):
        if model.scores.reasoning is not None:
            judge = None if model.judge is None else model.judge.key
            data = (model.scores.model.fingerprint, judge, model.scores.data, model.scores.limit)
            groups.setdefault(data, []).append(number)
    sets = []
    for members in groups.values():
        if len({_policy(models[number]) for number in members}) > 1:
            ordered = sorted(members, key=lambda number: (_tokens(models[number], None) or 0.0, models[number].name))
            drawn = [_chart(column, ordered, contents) for column in contents.columns if column.main]
            title = f"How {visible(models[members[0]].scores.model.name)} thinks"
            sets.append((title, [chart for chart in drawn if chart is not None]))
    return [(title, charts) for title, charts in sets if charts]


def _policy(model: ModelResult) -> tuple[Any, ...]:
    reasoning = model.scores.reasoning or {}
    return tuple(reasoning.get(name) for name in ("thinking", "thinks", "budget", "sampling"))


def _tokens(model: ModelResult, suite: str | None) -> float | None:
    """Return the mean tokens of thought and answer, over all suites if none is named."""
    answers = model.scores.answers
    counts = list(answers.values()) if suite is None else [answers[suite]] if suite in answers else []
    total = sum(one["n"] for one in counts)
    if not total:
        return None
    thoughts = sum(one.get("thoughts", 0) * (one.get("thought_tokens") or 0) for one in counts)
    answered = sum(one["n"] * (one.get("answer_tokens") or 0) for one in counts)
    return float((thoughts + answered) / total)


def _chart(column: Column, members: Sequence[int], contents: Contents) -> Chart | None:
    models, cells = contents.models, {number: contents.figures[number][column.key] for number in members}
    known = [number for number in members if cells[number].value is not None]
    if len(known) < 2:
        return None
    shown = {number: cells[number] for number in known}
    tests = column_tests(shown, contents.marks, contents.contexts, column.items)
    rows, points, spans = [], {}, {}
    for number in known:
        rows.append(_row(column, number, known[0], models[number], cells[number], tests.differences))
        tokens = _tokens(models[number], column.suite)
        value = cells[number].value
        if tokens and value is not None:
            points[round(tokens, 1)] = value
            spans[round(tokens, 1)] = cells[number].ci95
    moved = [one for one in tests.differences.values() if one is None or one.value or one.stderr]
    if len(points) < 2 or not moved:
        # Choices, which have no place for a thought, say nothing here.
        return None
    title = f"{column.title} against tokens per answer"
    note = "Thought and answer together, with 95 % intervals; differences are paired by item."
    head, series = ("", "tokens per answer", column.title), {column.title: list(points.items())}
    drawn = line_chart(column.key, title, note, head, series, column.digits, spans=spans)
    return Chart(column.key, title, note, drawn.drawing, _HEAD, rows)


def _row(
    column: Column,
    number: int,
    first: int,
    model: ModelResult,
    figure: Figure,
    differences: Mapping[tuple[int, int], Any],
) -> list[str]:
    reasoning, counts = model.scores.reasoning or {}, model.scores.answers.get(column.suite, {})
    pair = (min(first, number), max(first, number))
    difference = differences.get(pair)
    sign = 1 if pair == (number, first) else -1
    tokens, thoughts = _tokens(model, column.suite), counts.get("thoughts")
    return [
        visible(model.scores.variant or "default"),
        f"{reasoning['budget']:,}" if reasoning.get("thinks") else "no thought",
        DASH if tokens is None else f"{tokens:,.0f}",
        f"{counts.get('closed', 0)} of {thoughts}" if thoughts else DASH,
        f"{figure.value:z.{column.digits}f}",
        ends_text(figure.ci95, column.digits),
        DASH if difference is None else f"{sign * difference.value:+z.{column.digits}f}",
        DASH if difference is None else f"{difference.p_value:.3g}",
    ]
