"""Figures as tables show them: a value with its doubt, the columns of a suite, the lines of a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Z95 = 1.959963984540054
NO_SPREAD = 1e-9
"""Below this, marks and figures differ by rounding only."""

DASH = "–"


@dataclass(frozen=True, slots=True)
class Figure:
    """One cell. Without a value, ``reason`` says why; ``n`` counts scored observations."""

    value: float | None = None
    stderr: float | None = None
    ci95: tuple[float, float] | None = None
    n: int | None = None
    unscored: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the report.

    ``suite`` is the key in scores.json whose object ``figure`` reads; ``top`` is the best possible value and
    ``digits`` how many are shown. ``judged`` says that the figure needs a judge; ``main`` columns are shown at first,
    the others can be switched on. ``items`` is the name of the report's part behind it, or with a final slash
    the beginning of the names of several.
    """

    key: str
    title: str
    says: str
    suite: str
    figure: Callable[[Mapping[str, Any]], Figure]
    top: float = 1.0
    digits: int = 3
    judged: bool = False
    main: bool = True
    items: str = ""


@dataclass(frozen=True, slots=True)
class ReportPart:
    """A part of a suite in the report: its title, its column, the metric that marks it and its best value.

    A mark times ``scale`` is on the column's scale.
    """

    title: str
    column: str
    metric: str = "score"
    top: float = 1.0
    scale: float = 1.0


class Line(NamedTuple):
    """One line of a terminal's table; ``note`` is printed below it."""

    suite: str
    score: str
    interval: str = ""
    normalised: str = ""
    n: str = ""
    unscored: str = ""
    note: str = ""


def scored_figure(scores: Mapping[str, Any], key: str = "score", stderr: str = "", n: str = "") -> Figure:
    """Read one figure of a suite's object, with the reasons where there is none.

    ``stderr`` and ``n`` are the fields of its standard error and count, "" for none. "score" has ``stderr``, ``ci95``
    and ``n_scored``; ``ci95`` is that of every figure with a standard error.
    """
    counted = scores.get(n)
    if key == "score":
        stderr, counted = "stderr", scores.get("n_scored", scores.get("n"))
    value, error = number(scores.get(key)), number(scores.get(stderr))
    reason = ""
    if value is None:
        reason = "; ".join(f"{name}: {why}" for name, why in as_object(scores.get("missing")).items())
        reason = reason or unscored_text(scores.get("unscored")) or "no item of it was scored"
    return Figure(
        value,
        error,
        interval_of(scores, value, error) if stderr else None,
        counted if isinstance(counted, int) else None,
        n_unscored(scores.get("unscored")),
        reason,
    )


def interval_of(scores: Mapping[str, Any], value: float | None, stderr: float | None) -> tuple[float, float] | None:
    """Return the object's ``ci95``, else one from the standard error; None if there is neither."""
    ci95 = scores.get("ci95")
    if isinstance(ci95, list) and len(ci95) == 2 and all(isinstance(end, int | float) for end in ci95):
        low, high = float(ci95[0]), float(ci95[1])
    elif value is None or stderr is None:
        return None
    else:
        low, high = value - Z95 * stderr, value + Z95 * stderr
    return (low, high) if high - low > NO_SPREAD else None


def number(value: Any) -> float | None:
    """Return a JSON number as a float, None for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def unscored_text(counts: Any) -> str:
    """Say which reasons left how many items unscored: ``no_rating 2, timeout 1``."""
    return ", ".join(f"{reason} {count}" for reason, count in as_object(counts).items() if count)


def n_unscored(counts: Any) -> int:
    return sum(value for value in as_object(counts).values() if isinstance(value, int))


def as_object(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def shown(value: Any, digits: int) -> str:
    """Print a number, a dash where there is none."""
    return f"{value:.{digits}f}" if isinstance(value, int | float) else DASH


def shown_error(error: Any, digits: int) -> str:
    return f"± {error:.{digits}f}" if isinstance(error, int | float) else ""


def shown_interval(interval: Any, digits: int) -> str:
    is_pair = isinstance(interval, list | tuple) and len(interval) == 2
    return f"[{shown(interval[0], digits)}, {shown(interval[1], digits)}]" if is_pair else ""


def shown_n(scores: Mapping[str, Any]) -> str:
    """Print how many items count: ``n``, or ``n_scored/n`` where some are unscored."""
    n, n_scored = scores.get("n", DASH), scores.get("n_scored", DASH)
    return str(n) if n_scored == n else f"{n_scored}/{n}"
