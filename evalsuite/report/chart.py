"""A chart of the page, and the numbers on its axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from evalsuite.suites.figures import DASH

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing (one svg or several) with the table of everything that is drawn; ``wide`` takes the page's width."""

    key: str
    title: str
    note: str
    drawing: Markup
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    wide: bool = False


def tick(value: float) -> str:
    """Write a value on an axis: three digits below 1,000, whole from there."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ends_text(interval: tuple[float, float] | None, digits: int, sign: str = "") -> str:
    """Write the ends of an interval, a dash without one."""
    return DASH if interval is None else f"{interval[0]:{sign}z.{digits}f} to {interval[1]:{sign}z.{digits}f}"


def round_ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round numbers that span ``low`` to ``high``: multiples of 1, 2, 2.5 or 5 times a power of ten.

    >>> round_ticks(0.21, 0.902)
    [0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low if high > low else abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(one * power for one in _STEPS if span / (one * power) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]
