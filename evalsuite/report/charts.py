"""The charts: bars with intervals, spiders, scaling lines and the preference heat map, each with its table.

Plain SVG instead of a plotting library: nothing to run in the page, a few kilobytes each, the text's colour in
dark mode and print, and shapes instead of colours to tell lines apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evalsuite.report import svg
from evalsuite.report.tables import ModelFigures, TabTable
from evalsuite.report.texts import visible
from evalsuite.results.averages import AVERAGES
from evalsuite.results.reading import Comparison, ModelResult
from evalsuite.suites.figures import DASH, Column, Figure, shown

MAX_BARS, MAX_SPIDERS = 40, 12
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 4", "1 3")


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing with the table of everything that is drawn."""

    key: str
    title: str
    note: str
    drawing: Markup
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


def charts_of(table: TabTable, models: Sequence[ModelResult], figures: ModelFigures) -> list[Chart]:
    """Return the charts of one tab, those without any figure left out."""
    names = {line.number: _name(line.model) for line in table.lines}
    main = [column for column in table.columns if column.main]
    charts = [_spiders(main, names, figures)]
    for column in table.columns:
        if column.key in table.shown:
            cells = {model: figures[model][column.key] for model in names}
            charts.append(bars(column, names, cells, f"{column.title} with 95 % intervals", f"{column.says}."))
    against_size = [("mean", AVERAGES["paper"].title, "average.paper", 3)]
    against_size += [(column.key, column.title, column.key, column.digits) for column in main]
    for key, title, figure, digits in against_size:
        values = {model: figures[model][figure].value for model in names}
        charts.append(_scaling_chart(key, title, values, models, digits))
    return [chart for chart in charts if chart is not None]


def _name(model: ModelResult) -> str:
    return visible(model.name) + (" (imported)" if model.imported else "")


def tick(value: float) -> str:
    """Write a value on an axis: three digits below 1,000, whole from there."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def clip(text: str, length: int) -> str:
    """Cut a text to a length, with an ellipsis where something is left out."""
    return text if len(text) <= length else text[: length - 1] + "…"


def bars(
    column: Column, names: Mapping[int, str], cells: Mapping[int, Figure], title: str, note: str, *, low: float = 0.0
) -> Chart | None:
    """Draw one bar per name on a scale from ``low`` to ``column.top``, the highest first; None without any value.

    Bars begin at 0. The length is cut at the ends of the scale; a figure without an interval gets no whisker.
    """
    known = sorted((m for m in cells if cells[m].value is not None), key=lambda m: -(cells[m].value or 0))
    if not known:
        return None
    drawn = known[:MAX_BARS]
    left, wide, step = 190.0, 300.0, 20.0

    def at(value: float) -> float:
        return left + wide * (min(max(value, low), column.top) - low) / (column.top - low)

    shapes: list[Markup] = []
    for row, model in enumerate(drawn):
        figure, y = cells[model], 10 + row * step
        value = figure.value or 0.0
        start, end = sorted((at(0.0), at(value)))
        shapes.append(svg.text(left - 6, y + 12, clip(names[model], 28), "end"))
        shapes.append(svg.area("rect", 0.28, x=start, y=y + 3, width=end - start, height=11))
        if figure.ci95:
            first, last = (at(bound) for bound in figure.ci95)
            shapes += [svg.line(first, y + 8.5, last, y + 8.5, 1.4)]
            shapes += [svg.line(x, y + 5, x, y + 12, 1.4) for x in (first, last)]
        shapes.append(svg.text(left + wide + 8, y + 12, f"{value:.{column.digits}f}"))
    bottom = 10 + len(drawn) * step
    shapes.append(svg.line(at(0.0), 8, at(0.0), bottom))
    for share in (0, 0.5, 1):
        shapes.append(svg.text(left + wide * share, bottom + 15, tick(low + (column.top - low) * share), "middle", 10))
    note += f" The {MAX_BARS} highest of {len(known)} are drawn." if len(known) > MAX_BARS else ""
    drawing = svg.picture(left + wide + 60, bottom + 22, title, *shapes)
    rows = [_bar_row(names[model], cells[model], column.digits) for model in known]
    return Chart(f"bars-{column.key}", title, note, drawing, ("model", column.title, "low", "high", "n"), rows)


def _bar_row(name: str, figure: Figure, digits: int) -> list[str]:
    ends = [f"{end:.{digits}f}" for end in figure.ci95] if figure.ci95 else [DASH, DASH]
    return [name, f"{figure.value:.{digits}f}", *ends, DASH if figure.n is None else str(figure.n)]


def _spiders(columns: Sequence[Column], names: Mapping[int, str], figures: ModelFigures) -> Chart | None:
    axes = [column for column in columns if any(figures[model][column.key].value is not None for model in names)]
    if len(axes) < 3:
        return None
    best = {column.key: max(figures[model][column.key].value or 0.0 for model in names) for column in axes}
    drawn = list(names)[:MAX_SPIDERS]
    title = "Spider over the benchmarks"
    note = "Solid: the model; dashed: the best of this tab on each axis. The rim is the best possible score."
    if len(names) > MAX_SPIDERS:
        note += f" The first {MAX_SPIDERS} of {len(names)} models are drawn."
    rows = [
        [name, *(shown(figures[model][column.key].value, column.digits) for column in axes)]
        for model, name in names.items()
    ]
    drawing = spiders([(names[model], figures[model]) for model in drawn], axes, best, title)
    return Chart("spider", title, note, drawing, ("model", *(column.title for column in axes)), rows)


def spiders(
    drawn: Sequence[tuple[str, Mapping[str, Figure]]], axes: Sequence[Column], best: Mapping[str, float], title: str
) -> Markup:
    """Draw (name, figures) as a grid of spiders: solid, ``best`` dashed in each, the rim each axis' ``top``."""
    across, size = min(4, len(drawn)), 250.0
    cells = []
    for number, (name, figures) in enumerate(drawn):
        x, y = size * (number % across), size * (number // across)
        cells.append(svg.tag("g", _spider(axes, figures, best, name, size), transform=f"translate({x:g} {y:g})"))
    return svg.picture(size * across, size * math.ceil(len(drawn) / across), title, *cells)


def _spider(
    axes: Sequence[Column], figures: Mapping[str, Figure], best: Mapping[str, float], name: str, size: float
) -> Markup:
    middle, radius = size / 2, size / 2 - 52

    def at(number: int, share: float) -> tuple[float, float]:
        angle = 2 * math.pi * number / len(axes) - math.pi / 2
        reach = radius * min(max(share, 0.0), 1.0)
        return middle + reach * math.cos(angle), middle + 8 + reach * math.sin(angle)

    rings = [[at(number, ring) for number in range(len(axes))] for ring in (0.25, 0.5, 0.75, 1.0)]
    shapes = [svg.outline("polygon", points=svg.points(ring), stroke_opacity=0.18) for ring in rings]
    for number, column in enumerate(axes):
        x, y = at(number, 1.0)
        shapes.append(svg.line(middle, middle + 8, x, y, 1, stroke_opacity=0.18))
        side = "middle" if abs(x - middle) < 8 else "start" if x > middle else "end"
        shapes.append(svg.text(x + (x - middle) * 0.07, y + (y - middle - 8) * 0.12 + 3, column.title, side, 9))
    ideal = [at(number, best[column.key] / column.top) for number, column in enumerate(axes)]
    shapes.append(svg.outline("polygon", points=svg.points(ideal), stroke_dasharray="3 3"))
    points = [
        at(number, value / column.top)
        for number, column in enumerate(axes)
        if (value := figures[column.key].value) is not None
    ]
    if len(points) >= 3:
        shapes.append(svg.area("polygon", 0.16, points=svg.points(points), stroke="currentColor", stroke_width=2))
    shapes += [svg.tag("circle", cx=x, cy=y, r=2.4, fill="currentColor") for x, y in points]
    shapes.append(svg.text(middle, 15, clip(name, 32), "middle", 12, font_weight=600))
    return Markup("").join(shapes)


def _scaling_chart(
    key: str, title: str, values: Mapping[int, float | None], models: Sequence[ModelResult], digits: int
) -> Chart | None:
    """Draw score against training size, one line for each base model and DGM (the form of the paper's Figure 2)."""
    series: dict[str, list[tuple[float, float]]] = {}
    for model, value in values.items():
        lineage = models[model].lineage
        if value is not None and lineage.size:
            name = " : ".join(visible(part) for part in (lineage.base, lineage.dgm) if part) or _name(models[model])
            series.setdefault(name, []).append((lineage.size, value))
    if all(len({size for size, _ in line}) < 2 for line in series.values()):
        return None
    heading = f"{title} against training conversations"
    note = "One line for each base model and DGM; logarithmic horizontal axis."
    return line_chart(f"scaling-{key}", heading, note, ("base : DGM", "conversations", title), series, digits)


def line_chart(
    key: str, title: str, note: str, head: Sequence[str], series: Mapping[str, list[tuple[float, float]]], digits: int
) -> Chart:
    """Draw one line per name over two or more sizes above 0, on a logarithmic axis."""
    lines = [(name, sorted(line)) for name, line in sorted(series.items())]
    sizes = sorted({size for _, line in lines for size, _ in line})
    drawing = svg.picture(620, 300, title, *_line_shapes(lines, sizes, digits))
    rows = [
        [name, f"{size:,}" if isinstance(size, int) else f"{size:,g}", f"{value:.{digits}f}"]
        for name, line in lines
        for size, value in line
    ]
    return Chart(key, title, note, drawing, head, rows)


def _line_shapes(
    lines: Sequence[tuple[str, list[tuple[float, float]]]], sizes: Sequence[float], digits: int
) -> list[Markup]:
    left, right, top, bottom = 60.0, 440.0, 15.0, 255.0
    known = [value for _, line in lines for _, value in line]
    low, high = min(known), max(known)
    low, high = (low - 0.05 * (high - low or 1), high + 0.05 * (high - low or 1))
    span = math.log(sizes[-1] / sizes[0])

    def at(size: float, value: float) -> tuple[float, float]:
        x = left + (right - left) * math.log(size / sizes[0]) / span
        return x, bottom - (bottom - top) * (value - low) / (high - low)

    shapes = [svg.line(left, bottom, right, bottom), svg.line(left, top, left, bottom)]
    for size in sizes:
        x = at(size, low)[0]
        shapes += [svg.line(x, bottom, x, bottom + 4), svg.text(x, bottom + 18, tick(size), "middle", 10)]
    for share in (0.0, 0.5, 1.0):
        value = low + share * (high - low)
        shapes.append(svg.text(left - 6, at(sizes[0], value)[1] + 4, f"{value:.{digits}f}", "end", 10))
    for number, (name, line) in enumerate(lines):
        where = [at(size, value) for size, value in line]
        dash = _DASHES[number % len(_DASHES)] or "none"
        shapes.append(svg.outline("polyline", points=svg.points(where), stroke_width=1.6, stroke_dasharray=dash))
        shapes += [svg.marker(number, x, y) for x, y in where]
        y = top + 8 + number * 18
        shapes += [svg.marker(number, right + 20, y), svg.text(right + 32, y + 4, clip(name, 26))]
    return shapes


def preference_chart(comparison: Comparison, number: int) -> Chart | None:
    """Draw how often the model of each row is preferred over the model of each column, in percent."""
    names = comparison.preferences.models
    pairs = comparison.preferences.pairs
    rates = {(pair.a, pair.b): pair.rate_a for pair in pairs} | {(pair.b, pair.a): pair.rate_b for pair in pairs}
    if len(names) < 2 or all(rate is None for rate in rates.values()):
        return None
    cells = [
        [("·", None) if a == b else (_percent(rates.get((a, b))), rates.get((a, b))) for b in names] for a in names
    ]
    title = f"Preferences: {visible(comparison.name)}"
    note = f"How often the row is preferred over the column, in percent; judge {visible(judge_names(comparison))}."
    shown_names = [visible(name) for name in names]
    return heatmap(f"preferences-{number}", title, note, "preferred", shown_names, shown_names, cells)


def heatmap(
    key: str,
    title: str,
    note: str,
    corner: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[tuple[str, float | None]]],
) -> Chart:
    """Draw a matrix; a cell is its text and its shade from 0 to 1, None for a cell without a value."""
    left, top, cell, high = 170.0, 92.0, 62.0, 62.0 if len(rows) <= 8 else 30.0
    shapes: list[Markup] = []
    for number, name in enumerate(columns):
        x = left + number * cell + cell / 2
        shapes.append(svg.text(x, top - 8, clip(name, 16), transform=f"rotate(-35 {x:g} {top - 8:g})"))
    for row, name in enumerate(rows):
        y = top + row * high
        shapes.append(svg.text(left - 8, y + high / 2 + 4, clip(name, 24), "end"))
        for number, (text, shade) in enumerate(cells[row]):
            x, opacity = left + number * cell, 0.0 if shade is None else 0.04 + 0.36 * min(max(shade, 0.0), 1.0)
            border = {"stroke": "currentColor", "stroke_opacity": 0.25}
            shapes.append(svg.area("rect", opacity, x=x, y=y, width=cell, height=high, **border))
            shapes.append(svg.text(x + cell / 2, y + high / 2 + 4, text, "middle", 13))
    drawing = svg.picture(left + len(columns) * cell + 70, top + len(rows) * high + 10, title, *shapes)
    texts = [[name, *(text for text, _ in row)] for name, row in zip(rows, cells, strict=True)]
    return Chart(key, title, note, drawing, (corner, *columns), texts)


def judge_names(comparison: Comparison) -> str:
    """Return the name of a comparison's judge."""
    judge = comparison.preferences.judge
    return "recorded ratings" if judge is None else judge.name


def _percent(rate: float | None) -> str:
    return DASH if rate is None else f"{100 * rate:.1f}"
