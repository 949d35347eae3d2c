"""A few SVG shapes as escaped markup, drawn in the text's colour so that dark mode and print work."""

from __future__ import annotations

from markupsafe import Markup, escape

from evalsuite.report.texts import shorten


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return one element; attribute names take ``_`` for ``-``, children and values are escaped."""
    listed = "".join(f' {key.replace("_", "-")}="{escape(_short(value))}"' for key, value in attributes.items())
    inside = "".join(str(child) if isinstance(child, Markup) else str(escape(child)) for child in children)
    # Everything from outside is escaped just above; Markup's own formatting takes ten times as long.
    return Markup(f"<{name}{listed}>{inside}</{name}>")  # noqa: S704


def text(x: float, y: float, content: object, anchor: str = "start", size: float = 11, **more: object) -> Markup:
    return tag("text", content, x=x, y=y, text_anchor=anchor, font_size=size, fill="currentColor", **more)


def name(
    x: float, y: float, content: str, length: int, anchor: str = "start", size: float = 11, **more: object
) -> Markup:
    """Return a text cut in its middle to ``length``; the whole is read on hover."""
    short = shorten(content, length)
    whole = [] if short == content else [tag("title", content)]
    return tag("text", short, *whole, x=x, y=y, text_anchor=anchor, font_size=size, fill="currentColor", **more)


def line(x1: float, y1: float, x2: float, y2: float, width: float = 1, **more: object) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke="currentColor", stroke_width=width, **more)


def outline(name: str, /, **more: object) -> Markup:
    return tag(name, fill="none", stroke="currentColor", **more)


def area(name: str, opacity: float, /, **more: object) -> Markup:
    return tag(name, fill="currentColor", fill_opacity=opacity, **more)


def picture(width: float, height: float, title: str, *children: object, **more: object) -> Markup:
    """Return a drawing that scales with its surroundings and names itself to screen readers."""
    return tag(
        "svg",
        tag("title", title),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=width,
        height=height,
        role="img",
        font_family="system-ui, sans-serif",
        **more,
    )


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8f6a00", "#7b5ea7", "#2e86a0", "#b84a58")
"""Colours that colour-blind readers can tell apart (after Okabe and Ito), 3:1 on light and on dark paper."""


def marker(shape: int, x: float, y: float, r: float = 4, colour: str = "currentColor") -> Markup:
    """Return one of six point shapes, so that lines can be told apart without colour."""
    filled = shape % 2 == 0
    style = {"fill": colour if filled else "none", "stroke": colour, "stroke_width": 1.5}
    kind = (shape // 2) % 3
    if kind == 0:
        return tag("circle", cx=x, cy=y, r=r, **style)
    if kind == 1:
        return tag("rect", x=x - r, y=y - r, width=2 * r, height=2 * r, **style)
    return tag("polygon", points=points([(x, y - r), (x + r, y + r), (x - r, y + r)]), **style)


def points(pairs: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def _short(value: object) -> object:
    return f"{value:z.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
