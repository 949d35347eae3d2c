"""The charts: bars with intervals, spiders, scaling lines and the preference heat map, each with its table.

Plain SVG instead of a plotting library: nothing to run in the page, a few kilobytes each, the text's colour in
dark mode and print. Groups of shapes carry ``data-model``, so that the page's filter reaches the drawings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from evalsuite.report import svg
from evalsuite.report.chart import Chart, tick
from evalsuite.report.lines import line_chart
from evalsuite.report.tables import ModelFigures, TabTable
from evalsuite.report.texts import shorten, visible
from evalsuite.results.averages import AVERAGES
from evalsuite.results.reading import Comparison, ModelResult
from evalsuite.suites.figures import DASH, Column, Figure, shown

MAX_BARS, MAX_SPIDERS = 40, 12
_SPIDER_WIDTH, _SPIDER_HEIGHT = 290.0, 250.0


def charts_of(
    table: TabTable, models: Sequence[ModelResult], figures: ModelFigures
) -> list[tuple[str, Sequence[Chart]]]:
    """Return the charts of one tab under a title for each kind, those without any figure left out."""
    names = {line.number: _name(line.model) for line in table.lines}
    main = [column for column in table.columns if column.main]
    drawn = [
        bars(
            column,
            names,
            {model: figures[model][column.key] for model in names},
            f"{column.title} with 95 % intervals",
            f"{column.says}.",
        )
        for column in table.columns
        if column.key in table.shown
    ]
    against_size = [("mean", AVERAGES["paper"].title, "average.paper", 3)]
    against_size += [(column.key, column.title, column.key, column.digits) for column in main]
    scaling = [
        _scaling_chart(key, title, {model: figures[model][figure].value for model in names}, models, digits)
        for key, title, figure, digits in against_size
    ]
    kinds = {
        "Figures with intervals": drawn,
        "All benchmarks of a model": [_spiders(main, names, figures)],
        "Against training conversations": scaling,
    }
    return [(title, [chart for chart in charts if chart is not None]) for title, charts in kinds.items()]


def _name(model: ModelResult) -> str:
    return visible(model.name) + (" (imported)" if model.imported else "")


def bars(
    column: Column,
    names: Mapping[int, str],
    cells: Mapping[int, Figure],
    title: str,
    note: str,
    *,
    low: float = 0.0,
    head: str = "model",
    ordered: bool = True,
) -> Chart | None:
    """Draw one bar per name on a scale from ``low`` to ``column.top``; None without any value.

    The highest is first, or, if not ``ordered``, the first of ``cells``. Bars begin at 0. The length is cut at the ends
    of the scale; a figure without an interval gets no whisker. ``head`` says what the names are.
    """
    known = [number for number in cells if cells[number].value is not None]
    if ordered:
        known.sort(key=lambda number: -(cells[number].value or 0))
    if not known:
        return None
    drawn = known[:MAX_BARS]
    left, wide, step = 190.0, 300.0, 20.0

    def at(value: float) -> float:
        return left + wide * (min(max(value, low), column.top) - low) / (column.top - low)

    bottom = 10 + len(drawn) * step
    shapes = [
        svg.line(at(0.0), 8, at(0.0), bottom),
        *(
            svg.text(left + wide * share, bottom + 15, tick(low + (column.top - low) * share), "middle", 10)
            for share in (0, 0.5, 1)
        ),
    ]
    for row, model in enumerate(drawn):
        figure, value = cells[model], cells[model].value or 0.0
        start, end = sorted((at(0.0), at(value)))
        bar = [
            svg.name(left - 6, 12, names[model], 28, "end"),
            svg.area("rect", 0.28, x=start, y=3, width=end - start, height=11),
        ]
        if figure.ci95:
            first, last = (at(bound) for bound in figure.ci95)
            bar += [svg.line(first, 8.5, last, 8.5, 1.4)]
            bar += [svg.line(x, 5, x, 12, 1.4) for x in (first, last)]
        bar.append(svg.text(left + wide + 8, 12, f"{value:z.{column.digits}f}"))
        shapes.append(svg.tag("g", *bar, data_model=model, transform=f"translate(0 {10 + row * step:g})"))
    note += f" The {MAX_BARS} highest of {len(known)} are drawn." if len(known) > MAX_BARS else ""
    drawing = svg.picture(left + wide + 60, bottom + 22, title, *shapes)
    columns: tuple[str, ...] = (head, column.title, "low", "high", "n")
    rows = [_bar_row(names[model], cells[model], column.digits) for model in known]
    if all(row[2:] == [DASH, DASH, DASH] for row in rows):
        columns, rows = columns[:2], [row[:2] for row in rows]
    return Chart(f"bars-{column.key}", title, note, drawing, columns, rows)


def _bar_row(name: str, figure: Figure, digits: int) -> list[str]:
    ends = [f"{end:z.{digits}f}" for end in figure.ci95] if figure.ci95 else [DASH, DASH]
    return [name, f"{figure.value:z.{digits}f}", *ends, DASH if figure.n is None else str(figure.n)]


def _spiders(columns: Sequence[Column], names: Mapping[int, str], figures: ModelFigures) -> Chart | None:
    axes = [column for column in columns if any(figures[model][column.key].value is not None for model in names)]
    if len(axes) < 3:
        return None
    best = {column.key: max(figures[model][column.key].value or 0.0 for model in names) for column in axes}
    drawn = [model for model in names if any(figures[model][column.key].value is not None for column in axes)]
    title = "Spider over the benchmarks"
    note = "Solid: the model; dashed: the best of this tab on each axis. The rim is the best possible score."
    if len(drawn) > MAX_SPIDERS:
        note += f" The first {MAX_SPIDERS} of {len(drawn)} models are drawn."
        drawn = drawn[:MAX_SPIDERS]
    rows = [
        [name, *(shown(figures[model][column.key].value, column.digits) for column in axes)]
        for model, name in names.items()
    ]
    drawing = spiders([(names[model], figures[model]) for model in drawn], axes, best, drawn)
    head = ("model", *(column.title for column in axes))
    return Chart("spider", title, note, drawing, head, rows, wide=True)


def spiders(
    drawn: Sequence[tuple[str, Mapping[str, Figure]]],
    axes: Sequence[Column],
    best: Mapping[str, float],
    models: Sequence[int] = (),
) -> Markup:
    """Draw a spider for each (name, figures): solid, ``best`` dashed in each, the rim each axis' ``top``.

    ``models`` are the numbers of models that the drawings are of, for the page's filter.
    """
    return Markup("").join(
        svg.picture(
            _SPIDER_WIDTH,
            _SPIDER_HEIGHT,
            f"{name}: spider",
            _spider(axes, figures, best, name),
            **({"data_model": models[number]} if models else {}),
        )
        for number, (name, figures) in enumerate(drawn)
    )


def _spider(axes: Sequence[Column], figures: Mapping[str, Figure], best: Mapping[str, float], name: str) -> Markup:
    middle, centre, radius = _SPIDER_WIDTH / 2, _SPIDER_HEIGHT / 2 + 8, _SPIDER_HEIGHT / 2 - 52

    def at(number: int, share: float) -> tuple[float, float]:
        angle = 2 * math.pi * number / len(axes) - math.pi / 2
        reach = radius * min(max(share, 0.0), 1.0)
        return middle + reach * math.cos(angle), centre + reach * math.sin(angle)

    rings = [[at(number, ring) for number in range(len(axes))] for ring in (0.25, 0.5, 0.75, 1.0)]
    shapes = [svg.outline("polygon", points=svg.points(ring), stroke_opacity=0.18) for ring in rings]
    for number, column in enumerate(axes):
        x, y = at(number, 1.0)
        shapes.append(svg.line(middle, centre, x, y, 1, stroke_opacity=0.18))
        side = "middle" if abs(x - middle) < 8 else "start" if x > middle else "end"
        x, y = x + (x - middle) * 0.07, y + (y - centre) * 0.12 + 3
        # About five units a letter: a longer title would be cut at the edge of the drawing.
        room = _SPIDER_WIDTH if side == "middle" else x if side == "end" else _SPIDER_WIDTH - x
        shapes.append(svg.name(x, y, column.title, int(room / 5), side, 9))
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
    shapes.append(svg.name(middle, 15, name, 32, "middle", 12, font_weight=600))
    return Markup("").join(shapes)


def _scaling_chart(
    key: str, title: str, values: Mapping[int, float | None], models: Sequence[ModelResult], digits: int
) -> Chart | None:
    """Draw score against training size, one line for each base model and DGM (the form of the paper's Figure 2)."""
    series: dict[str, list[tuple[float, float]]] = {}
    groups: dict[str, str] = {}
    members: dict[str, list[int]] = {}
    for model, value in values.items():
        lineage = models[model].lineage
        if value is not None and lineage.size:
            name = " : ".join(visible(part) for part in (lineage.base, lineage.dgm) if part) or _name(models[model])
            series.setdefault(name, []).append((lineage.size, value))
            groups[name] = visible(lineage.base or "")
            members.setdefault(name, []).append(model)
    if all(len({size for size, _ in line}) < 2 for line in series.values()):
        return None
    heading = f"{title} against training conversations"
    note = "One line for each base model and DGM; logarithmic horizontal axis."
    head = ("base : DGM", "conversations", title)
    return line_chart(f"scaling-{key}", heading, note, head, series, digits, groups=groups, models=members)


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
    note = f"Percent of prompts where the row is preferred over the column; judge {visible(judge_names(comparison))}."
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
        shapes.append(svg.text(x, top - 8, shorten(name, 16), transform=f"rotate(-35 {x:g} {top - 8:g})"))
    for row, name in enumerate(rows):
        y = top + row * high
        shapes.append(svg.name(left - 8, y + high / 2 + 4, name, 24, "end"))
        for number, (text, shade) in enumerate(cells[row]):
            x, opacity = left + number * cell, 0.0 if shade is None else 0.04 + 0.36 * min(max(shade, 0.0), 1.0)
            border = {"stroke": "currentColor", "stroke_opacity": 0.25}
            shapes.append(svg.area("rect", opacity, x=x, y=y, width=cell, height=high, **border))
            shapes.append(svg.text(x + cell / 2, y + high / 2 + 4, text, "middle", 13))
    drawing = svg.picture(left + len(columns) * cell + 70, top + len(rows) * high + 10, title, *shapes)
    texts = [[name, *(text for text, _ in row)] for name, row in zip(rows, cells, strict=True)]
    return Chart(key, title, note, drawing, (corner, *columns), texts)


def judge_names(comparison: Comparison) -> str:
    judge = comparison.preferences.judge
    return "recorded ratings" if judge is None else judge.name


def _percent(rate: float | None) -> str:
    return DASH if rate is None else f"{100 * rate:.1f}"
