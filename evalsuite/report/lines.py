"""Line charts: lines with their names at their ends, in small drawings side by side where there are many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evalsuite.report import svg
from evalsuite.report.chart import Chart, round_ticks, tick

_MAX_LINES = 8
"""Lines of one drawing, for which there are colours; more are drawn in several, one per group."""

_WIDTH, _HEIGHT, _LABELS = 480.0, 286.0, 150.0
_LABEL_STEP = 13.0

Line = tuple[str, list[tuple[float, float]]]
Spans = Mapping[float, tuple[float, float] | None]


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where sizes and values are in a drawing; all drawings of a chart share it."""

    sizes: Sequence[float]
    ticks: Sequence[float]
    logarithmic: bool = True
    left: float = 52.0
    top: float = 24.0
    right: float = _WIDTH - _LABELS
    bottom: float = _HEIGHT - 46

    def at(self, size: float, value: float) -> tuple[float, float]:
        low, high = self.ticks[0], self.ticks[-1]
        first, last = self.sizes[0], self.sizes[-1]
        share = math.log(size / first) / math.log(last / first) if self.logarithmic else (size - first) / (last - first)
        x = self.left + (self.right - self.left) * share
        return x, self.bottom - (self.bottom - self.top) * (value - low) / (high - low)


def line_chart(
    key: str,
    title: str,
    note: str,
    head: tuple[str, str, str],
    series: Mapping[str, list[tuple[float, float]]],
    digits: int,
    *,
    groups: Mapping[str, str] | None = None,
    models: Mapping[str, Sequence[int]] | None = None,
    spans: Spans | None = None,
    logarithmic: bool = True,
) -> Chart:
    """Draw one line per name over two or more sizes, above 0 for a logarithmic axis.

    ``head`` names lines, sizes and values; that of the sizes is written under their axis. ``groups`` names the drawing
    of a line where there are too many for one, ``models`` the models behind it. ``spans`` are the intervals of a single
    line's points, by size.
    """
    lines: list[Line] = [(name, sorted(line)) for name, line in sorted(series.items())]
    sizes = sorted({size for _, line in lines for size, _ in line})
    whiskers = {size: span for size, span in (spans or {}).items() if span is not None}
    known = [value for _, line in lines for _, value in line] + [end for span in whiskers.values() for end in span]
    scale = _Scale(sizes, round_ticks(min(known), max(known)), logarithmic)
    panels = _panels(lines, groups or {})
    drawing = Markup("").join(
        svg.picture(
            _WIDTH,
            _HEIGHT,
            f"{title}: {name}" if name else title,
            *_whiskers(whiskers, scale),
            *_shapes(name, panel, scale, models or {}),
            svg.text((scale.left + scale.right) / 2, _HEIGHT - 8, head[1], "middle", 11),
        )
        for name, panel in panels
    )
    rows = [
        [name, f"{size:,}" if isinstance(size, int) else f"{size:,g}", f"{value:.{digits}f}"]
        for name, line in lines
        for size, value in line
    ]
    return Chart(key, title, note, drawing, head, rows, wide=len(panels) > 1)


def _whiskers(spans: Mapping[float, tuple[float, float]], scale: _Scale) -> list[Markup]:
    ends = [(scale.at(size, low), scale.at(size, high)) for size, (low, high) in spans.items()]
    return [svg.line(x, low, x, high, 1, stroke_opacity=0.45) for (x, low), (_, high) in ends]


def _panels(lines: Sequence[Line], groups: Mapping[str, str]) -> list[tuple[str, Sequence[Line]]]:
    """Divide lines into drawings: one if they are few, else one per group, in pieces where that has too many."""
    if len(lines) <= _MAX_LINES:
        return [("", lines)]
    by_group: dict[str, list[Line]] = {}
    for line in lines:
        by_group.setdefault(groups.get(line[0], ""), []).append(line)
    return [
        (name, group[first : first + _MAX_LINES])
        for name, group in by_group.items()
        for first in range(0, len(group), _MAX_LINES)
    ]


def _shapes(name: str, lines: Sequence[Line], scale: _Scale, models: Mapping[str, Sequence[int]]) -> list[Markup]:
    shapes = [svg.name(scale.left, 14, name, 60, size=12, font_weight=600)] if name else []
    for value in scale.ticks:
        y = scale.at(scale.sizes[0], value)[1]
        shapes.append(svg.line(scale.left, y, scale.right, y, 1, stroke_opacity=0.18))
        shapes.append(svg.text(scale.left - 6, y + 4, tick(value), "end", 10))
    last_x = -math.inf
    for size in scale.sizes:
        x = scale.at(size, scale.ticks[0])[0]
        shapes.append(svg.line(x, scale.bottom, x, scale.bottom + 4))
        # Sizes that lie close together would be written over each other.
        if x - last_x >= 44:
            shapes.append(svg.text(x, scale.bottom + 17, tick(size), "middle", 10))
            last_x = x
    ends = [scale.at(*line[-1]) for _, line in lines]
    label_ys = _spread([y for _, y in ends], scale.top, scale.bottom)
    for number, (label, line) in enumerate(lines):
        colour = svg.COLOURS[number % len(svg.COLOURS)]
        where = [scale.at(size, value) for size, value in line]
        (x, y), label_y = ends[number], label_ys[number]
        short = label.removeprefix(f"{name} : ") if name else label
        drawn = [
            svg.tag("polyline", points=svg.points(where), fill="none", stroke=colour, stroke_width=1.8),
            *(svg.marker(number, *point, colour=colour) for point in where),
            svg.tag("line", x1=x + 5, y1=y, x2=scale.right + 12, y2=label_y, stroke=colour, stroke_opacity=0.5),
            svg.name(scale.right + 15, label_y + 4, short, 21, size=11),
        ]
        known = ",".join(map(str, models.get(label, ())))
        shapes.append(svg.tag("g", *drawn, **({"data_model": known} if known else {})))
    return shapes


def _spread(ys: Sequence[float], top: float, bottom: float) -> list[float]:
    """Move labels apart so that none covers another, in the order of the lines' ends."""
    order = sorted(range(len(ys)), key=lambda number: ys[number])
    placed = dict.fromkeys(range(len(ys)), 0.0)
    y = top - _LABEL_STEP
    for number in order:
        y = max(ys[number], y + _LABEL_STEP)
        placed[number] = y
    limit = bottom + _LABEL_STEP / 2
    for number in reversed(order):
        placed[number] = min(placed[number], limit)
        limit = placed[number] - _LABEL_STEP
    return [placed[number] for number in range(len(ys))]
