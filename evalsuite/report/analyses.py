"""The view of analyses: every document under results/analyses/ as tables and charts, of any kind.

Nothing here knows a single analysis: a document says which columns it has and which charts to draw of them
(:mod:`evalsuite.analysis.document`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import Analysis, Format, Table, analysis_files, read_analysis, table_csv, written
from evalsuite.analysis.document import Chart as Drawn
from evalsuite.analysis.document import Column as TableColumn
from evalsuite.errors import DataError
from evalsuite.report.chart import Chart
from evalsuite.report.charts import MAX_SPIDERS, bars, heatmap, spiders
from evalsuite.report.lines import line_chart
from evalsuite.report.ratings import read_ratings
from evalsuite.report.texts import visible, without_folders
from evalsuite.suites.figures import DASH, Column, Figure
from evalsuite.text import well_formed

MAX_ROWS = 200
"""Max rows of a table in the page; the CSV has all."""

_MAX_HEATMAP_ROWS = 60


@dataclass(frozen=True, slots=True)
class Box:
    """One cell: its text, its interval, the value behind it, why there is none, and the examples it opens."""

    text: str
    spread: str = ""
    value: Any = None
    why: str = ""
    example: str = ""
    number: bool = False


@dataclass(frozen=True, slots=True)
class ShownTable:
    """A table as the page has it; ``hidden`` counts rows that only the CSV has."""

    table: Table
    rows: Sequence[Sequence[Box]]
    hidden: int


@dataclass(frozen=True, slots=True)
class ShownAnalysis:
    """An analysis as the page has it. ``folder`` is its name in results/analyses/."""

    folder: str
    analysis: Analysis
    tables: Sequence[ShownTable]
    charts: Sequence[Chart]
    provenance: str

    @property
    def csv(self) -> dict[str, str]:
        """The CSV of each table by its id, as ``evalsuite analyze`` wrote it."""
        return {table.id: table_csv(table) for table in self.analysis.tables}


def read_analyses(results: Path, faults: list[str]) -> list[ShownAnalysis]:
    """Read the analyses and ratings of a results folder; one that cannot be read adds a sentence to ``faults``."""
    shown = []
    for path in analysis_files(results):
        try:
            analysis = read_analysis(path)
        except DataError as error:
            faults.append(str(error))
            continue
        shown.append(show_analysis(well_formed(path.parent.name), analysis))
    return shown + [show_analysis(folder, analysis) for folder, analysis in read_ratings(results, faults)]


def show_analysis(folder: str, analysis: Analysis) -> ShownAnalysis:
    """Make cells and drawings of a document; a chart that has nothing to draw is left out."""
    tables = {table.id: table for table in analysis.tables}
    charts = [chart for drawn in analysis.charts for chart in _charts(drawn, tables[drawn.table])]
    provenance = json.dumps(without_folders(dict(analysis.provenance)), indent=1, ensure_ascii=False, default=str)
    folded = {drawn.table for drawn in analysis.charts if drawn.kind == "histogram"}
    shown = []
    for table in analysis.tables:
        if table.id in folded:
            continue
        rows = [[_box(row, column, analysis.examples) for column in table.columns] for row in table.rows[:MAX_ROWS]]
        shown.append(ShownTable(table, rows, max(0, len(table.rows) - MAX_ROWS)))
    return ShownAnalysis(folder, analysis, shown, charts, provenance)


def _box(row: Mapping[str, Any], column: TableColumn, examples: Mapping[str, Any]) -> Box:
    value = row.get(column.key)
    text = visible(written(value, column.format))
    interval = row.get(f"{column.key}_ci95")
    spread = " to ".join(written(end, column.format) for end in interval) if interval else ""
    why = visible(row.get(f"{column.key}_why") or "") if value is None else ""
    example = str(value) if column.format == "text" and str(value) in examples else ""
    return Box(text, spread, value, why, example, number=column.format != "text")


def _charts(drawn: Drawn, table: Table) -> list[Chart]:
    columns = {column.key: column for column in table.columns}
    values = [columns[key] for key in drawn.values]
    if drawn.kind in ("bars", "histogram"):
        charts = [_bar_chart(drawn, table, column) for column in values]
    elif drawn.kind == "lines":
        charts = [_line_chart(drawn, table, columns)]
    else:
        charts = [(_heatmap_chart if drawn.kind == "heatmap" else _spider_chart)(drawn, table, values)]
    return [chart for chart in charts if chart is not None]


def _scale(form: Format) -> tuple[float, int]:
    """Return the factor and the digits that a format is drawn with."""
    return (100.0, 1) if form == "percent1" else (1.0, int(form[-1]) if form[-1].isdigit() else 0)


def _value(row: Mapping[str, Any], column: TableColumn) -> float | None:
    value = row.get(column.key)
    return None if value is None or isinstance(value, str) else float(value) * _scale(column.format)[0]


def _figure(row: Mapping[str, Any], column: TableColumn) -> Figure:
    value, interval = _value(row, column), row.get(f"{column.key}_ci95")
    factor = _scale(column.format)[0]
    n = row.get("n")
    return Figure(
        value=value,
        ci95=(interval[0] * factor, interval[1] * factor) if interval else None,
        n=n if isinstance(n, int) else None,
    )


def _axis(column: TableColumn, values: Sequence[float]) -> Column:
    """Return a column as the charts know it, its top a round number from the highest of ``values`` on."""
    top = _round_up(max([*values, 0.0]))
    unit = ", %" if column.format == "percent1" else ""
    return Column(column.key, visible(column.label) + unit, "", "", lambda _: Figure(), top, _scale(column.format)[1])


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 2.5, 4, 5 and 10 times a power of ten; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 4, 5, 10, 20) if step * power >= value * (1 - 1e-9))


def _note(drawn: Drawn, note: str) -> str:
    return " ".join(part for part in (note, f"Compare {drawn.source}." if drawn.source else "") if part)


def _bar_chart(drawn: Drawn, table: Table, column: TableColumn) -> Chart | None:
    cells = {number: _figure(row, column) for number, row in enumerate(table.rows)}
    names = {number: visible(row.get(drawn.label)) for number, row in enumerate(table.rows)}
    ends = [cell.value for cell in cells.values() if cell.value is not None]
    ends += [end for cell in cells.values() for end in cell.ci95 or ()]
    if not any(ends):
        return None
    several = len(drawn.values) > 1
    title = visible(f"{drawn.title}: {column.label}" if several else drawn.title)
    note = _note(drawn, "Whiskers are 95 % intervals." if any(cell.ci95 for cell in cells.values()) else "")
    # Where some values are negative, 0 is in the middle.
    signed = min(ends) < 0
    axis = _axis(column, [abs(end) for end in ends] if signed else ends)
    low, label = -axis.top if signed else 0.0, next(one.label for one in table.columns if one.key == drawn.label)
    chart = bars(axis, names, cells, title, note, low=low, head=visible(label), ordered=drawn.kind == "bars")
    return None if chart is None else replace(chart, key=f"{drawn.id}-{column.key}" if several else drawn.id)


def _heatmap_chart(drawn: Drawn, table: Table, values: Sequence[TableColumn]) -> Chart | None:
    rows = table.rows[:_MAX_HEATMAP_ROWS]
    known = {column.key: [value for row in rows if (value := _value(row, column)) is not None] for column in values}
    all_values = [value for column in known.values() for value in column]
    if not all_values:
        return None
    # Columns of different units are shaded each by itself.
    by_column = len({column.format for column in values}) > 1

    def cell(row: Mapping[str, Any], column: TableColumn) -> tuple[str, float | None]:
        value = _value(row, column)
        if value is None:
            return DASH, None
        others = known[column.key] if by_column else all_values
        low, high = min(others), max(others)
        shade = (value - low) / (high - low) if high > low else 0.5
        return f"{value:z.{_scale(column.format)[1]}f}", shade

    cells = [[cell(row, column) for column in values] for row in rows]
    names = [visible(row.get(drawn.label)) for row in rows]
    heads = [visible(column.label) for column in values]
    note = "Darker is higher within its column." if by_column else "The darker, the higher."
    if len(table.rows) > len(rows):
        note += f" The first {len(rows)} rows are drawn."
    return heatmap(drawn.id, visible(drawn.title), _note(drawn, note), "", names, heads, cells)


def _spider_chart(drawn: Drawn, table: Table, values: Sequence[TableColumn]) -> Chart | None:
    highest = {column.key: [v for row in table.rows if (v := _value(row, column))] for column in values}
    axes = [_axis(column, highest[column.key]) for column in values if any(v > 0 for v in highest[column.key])]
    rows = table.rows[:MAX_SPIDERS]
    if len(axes) < 3 or not rows:
        return None
    by_key = {column.key: column for column in values}
    best = {axis.key: max(highest[axis.key]) for axis in axes}
    axes = [replace(axis, top=best[axis.key]) for axis in axes]
    shown = [
        (visible(row.get(drawn.label)), {axis.key: _figure(row, by_key[axis.key]) for axis in axes}) for row in rows
    ]
    drawing = spiders(shown, axes, best)
    texts = [
        [visible(row.get(drawn.label)), *(written(row.get(axis.key), by_key[axis.key].format) for axis in axes)]
        for row in table.rows
    ]
    note = "Each axis has its own scale, whose rim is the maximum over all rows; figures are in the table."
    head = ("", *(axis.title for axis in axes))
    return Chart(f"{drawn.id}-spider", visible(drawn.title), _note(drawn, note), drawing, head, texts, wide=True)


def _line_chart(drawn: Drawn, table: Table, columns: Mapping[str, TableColumn]) -> Chart | None:
    across = columns[drawn.x or drawn.label]
    series: dict[str, list[tuple[float, float]]] = {}
    for row in table.rows:
        x = _value(row, across)
        for column in [columns[key] for key in drawn.values]:
            value = _value(row, column)
            if x is not None and x > 0 and value is not None:
                name = visible(row.get(drawn.label) if drawn.x else column.label)
                series.setdefault(name, []).append((x, value))
    if len({x for line in series.values() for x, _ in line}) < 2:
        return None
    value_column = columns[drawn.values[0]]
    head = ("line", visible(across.label), visible(value_column.label))
    note = _note(drawn, "Logarithmic horizontal axis.")
    return line_chart(drawn.id, visible(drawn.title), note, head, series, _scale(value_column.format)[1])
