"""Figures as tables show them: a value with its uncertainty, the columns of a suite, the lines of a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from evalsuite.records.rows import Row

Z95 = 1.959963984540054
NO_SPREAD = 1e-9
"""Below this, marks and figures differ by rounding only."""

DASH = "–"


@dataclass(frozen=True, slots=True)
class Figure:
    """One cell. Without a value, ``reason`` says why; ``n`` counts scored observations.

    ``method`` names the interval where it was made here ("Wilson", "normal"); "" for one that was recorded.
    """

    value: float | None = None
    stderr: float | None = None
    ci95: tuple[float, float] | None = None
    n: int | None = None
    unscored: int = 0
    reason: str = ""
    method: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the report.

    ``suite`` is the key in scores.json whose object ``figure`` reads; ``top`` is the best possible value and
    ``digits`` how many are shown. ``judged`` says that the figure needs a judge; ``main`` columns are shown at first,
    the others can be switched on. ``items`` is the name of the report's part behind it, or with a final slash
    the beginning of the names of several. ``low`` is the worst possible value.
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
    low: float = 0.0


def range_of(column: Column) -> float:
    """Return the width of a column's scale."""
    return column.top - column.low


@dataclass(frozen=True, slots=True)
class ReportPart:
    """A part of a suite in the report: its title, its column, the metric that marks it and its best value.

    A mark times ``scale`` is on the column's scale. ``weight`` is the metric of an item's weight, where the figure is a
    weighted mean of the marks.
    """

    title: str
    column: str
    metric: str = "score"
    top: float = 1.0
    scale: float = 1.0
    weight: str = ""


class Line(NamedTuple):
    """One line of a terminal's table; ``note`` is printed below it."""

    suite: str
    score: str
    interval: str = ""
    normalised: str = ""
    n: str = ""
    unscored: str = ""
    note: str = ""


def scored_figure(
    scores: Mapping[str, Any], key: str = "score", stderr: str = "", n: str = "", *, top: float | None = 1.0
) -> Figure:
    """Read one figure of a suite's object, with the reasons if there is none.

    ``stderr`` and ``n`` are the fields of its standard error and count, "" for none. "score" has ``stderr``, ``ci95``
    and ``n_scored``; ``ci95`` is that of every figure with a standard error. ``top`` is the best possible
    value of a figure that begins at 0, None for another scale.
    """
    counted = scores.get(n)
    if key == "score":
        stderr, counted = "stderr", scores.get("n_scored", scores.get("n"))
    value, error = number(scores.get(key)), number(scores.get(stderr))
    reason = ""
    if value is None:
        reason = missing_text(scores) or unscored_text(scores.get("unscored")) or "no item of it was scored"
    n_items = counted if isinstance(counted, int) else None
    figure = Figure(value, error, None, n_items, n_unscored(scores.get("unscored")), reason)
    if not stderr or (not error and scores.get("ci95", ...) is None):
        # A suite that gives no interval where all items are alike means it: their spread is unknown, not 0.
        return replace(figure, stderr=error or None)
    return replace(with_interval(figure, scores.get("ci95"), top), stderr=error or None)


def other_figure(scores: Mapping[str, Any], key: str, *, top: float | None = 1.0) -> Figure:
    """Read a further figure of a suite's object, with what the object's "uncertainty" says of it."""
    figure, about = scored_figure(scores, key, top=top), doubt_of(scores, key)
    n, stderr, interval = about.get("n"), number(about.get("stderr")), about.get("ci95")
    figure = replace(figure, n=n if isinstance(n, int) else None, stderr=stderr or None)
    return figure if interval is None else with_interval(figure, interval, top)


def doubt_of(scores: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return {"score", "stderr", "ci95", "n"} of a further figure; empty where an older evalsuite wrote none."""
    return as_object(as_object(scores.get("uncertainty")).get(key))


def with_interval(figure: Figure, recorded: Any = None, top: float | None = 1.0) -> Figure:
    """Return a figure with its recorded interval, else one from its standard error; without any if there is neither.

    The interval of a share of ``top`` is Wilson's, which stays within 0 and ``top``: on ``n`` where the standard error
    is that of ``n`` rights and wrongs, else on the number of such items that would give the same standard error.
    """
    value, stderr = figure.value, figure.stderr
    is_pair = isinstance(recorded, list | tuple) and len(recorded) == 2
    if is_pair and all(isinstance(end, int | float) for end in recorded):
        low, high, method = float(recorded[0]), float(recorded[1]), ""
    elif value is None or stderr is None:
        return figure
    elif top is not None and 0 <= value <= top:
        # Importing numpy takes a tenth of a second, which only figures pay.
        from judges.statistics import wilson_ci

        n = _binomial_n(value / top, stderr / top, figure.n)
        if n is None:
            return figure
        low, high = (end * top for end in wilson_ci(value / top * n, n))
        method = "Wilson"
    else:
        low, high, method = value - Z95 * stderr, value + Z95 * stderr, "normal"
    return replace(figure, ci95=(low, high), method=method) if high - low > NO_SPREAD else figure


def stderr_of(interval: Any) -> float | None:
    """Return the standard error of a recorded interval that is about normal; None without one."""
    return (interval[1] - interval[0]) / 2 / Z95 if isinstance(interval, list) and len(interval) == 2 else None


def _binomial_n(share: float, stderr: float, n: int | None) -> float | None:
    """Return how many rights and wrongs have this standard error; None where nothing says it."""
    variance = share * (1 - share)
    if stderr <= NO_SPREAD or variance <= NO_SPREAD:
        # Where all items are alike the standard error says nothing.
        return n if n and variance <= NO_SPREAD else None
    same = variance / stderr**2
    return n if n and n - 1.5 <= same <= n + 0.5 else max(1.0, same)


def doubt(rows: Iterable[Row], context_of: Callable[[Row], str]) -> dict[str, Any]:
    """Return {"stderr", "ci95"} of the mean score; None for no scores, no interval where one is not in 0..1.

    Items that share a context are one cluster. Source: Miller 2024 (arXiv 2411.00640), clustered standard errors.
    """
    from judges.statistics import clustered_stderr, mean_and_stderr, proportion_ci

    scored = [
        (mark, context_of(row) or (row.part, row.item_id))
        for row in rows
        for mark in row.marks.get("score", ())
        if mark is not None
    ]
    if not scored:
        return {"stderr": None, "ci95": None}
    marks, clusters = [mark for mark, _ in scored], [cluster for _, cluster in scored]
    alone = len(set(clusters)) == len(marks)
    stderr = mean_and_stderr(marks)[1] if alone else clustered_stderr(marks, clusters)
    interval = proportion_ci(marks, clusters) if all(0 <= mark <= 1 for mark in marks) else None
    return {"stderr": stderr, "ci95": list(interval) if interval else None}


def number(value: object) -> float | None:
    """Return a JSON number as a float, None for anything else."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def unscored_text(counts: object) -> str:
    """Say which reasons left how many items unscored: ``no_rating 2, timeout 1``."""
    return ", ".join(f"{reason} {count}" for reason, count in as_object(counts).items() if count)


def missing_text(scores: Mapping[str, Any]) -> str:
    """Say which parts a score lacks and why, "" if none: ``free_form: no items of this split were given``."""
    return "; ".join(f"{name}: {why}" for name, why in as_object(scores.get("missing")).items())


def n_unscored(counts: object) -> int:
    return sum(value for value in as_object(counts).values() if isinstance(value, int))


def as_object(value: object) -> Mapping[str, Any]:
    """Return a JSON object, an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def shown(value: object, digits: int) -> str:
    """Print a number, a dash if there is none."""
    return f"{value:z.{digits}f}" if isinstance(value, int | float) else DASH


def shown_error(error: Any, digits: int) -> str:
    return f"± {error:.{digits}f}" if isinstance(error, int | float) else ""


def shown_interval(interval: Any, digits: int) -> str:
    is_pair = isinstance(interval, list | tuple) and len(interval) == 2
    return f"[{shown(interval[0], digits)}, {shown(interval[1], digits)}]" if is_pair else ""


def score_line(title: str, scores: Mapping[str, Any], digits: int, interval_digits: int) -> Line:
    """Return the line of a suite's "score" with its interval, its count and what is unscored."""
    return Line(
        title,
        shown(scores.get("score"), digits),
        shown_interval(scores.get("ci95"), interval_digits),
        n=shown_n(scores),
        unscored=unscored_text(scores.get("unscored")),
    )


def shown_n(scores: Mapping[str, Any]) -> str:
    """Print how many items count: ``n``, or ``n_scored/n`` where some are unscored."""
    n, n_scored = scores.get("n", DASH), scores.get("n_scored", DASH)
    return str(n) if n_scored == n else f"{n_scored}/{n}"
