"""The table's rows, once for the page and once for leaderboard.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalsuite.report.figures import average_digits
from evalsuite.report.significance import ColumnTests, Contexts, Marks, column_tests
from evalsuite.report.tabs import Tab
from evalsuite.results.averages import AVERAGES
from evalsuite.results.reading import ModelResult
from evalsuite.suites.figures import DASH, Column, Figure
from evalsuite.suites.registry import suite_of_key
from evalsuite.text import csv_text
from judges.paired import stars

_CSV_PARTS = ("stderr", "ci_low", "ci_high", "n", "unscored", "missing")

ModelFigures = Sequence[Mapping[str, Figure]]
"""The figures of each model by column; averages under ``average.<name>``."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure as text; ``value`` sorts, ``hint`` is read on hover, ``best`` marks a clear winner."""

    text: str
    spread: str
    hint: str
    value: float | None
    best: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One model's row of one tab; ``number`` is the model's in the list of models."""

    number: int
    slug: str
    model: ModelResult
    cells: Mapping[str, Cell]
    averages: Mapping[str, Cell]
    n: int


@dataclass(frozen=True, slots=True)
class TabTable:
    """One tab ready to be written.

    ``shown`` names the columns that are shown at first, ``missing`` holds (models, column, reason) for the dashes.
    """

    tab: Tab
    columns: Sequence[Column]
    lines: Sequence[Line]
    shown: frozenset[str]
    missing: Sequence[tuple[str, str, str]]
    best: Mapping[str, int]
    tests: Mapping[str, ColumnTests]

    @property
    def n_tested(self) -> int:
        """How many of the columns shown at first are tested together."""
        return sum(self.tests[key].best is not None for key in self.shown)

    def detectable(self, column: Column) -> str:
        """Return the smallest difference that a column's comparisons show with 80 % power; a dash where unknown."""
        effect = self.tests[column.key].detectable
        return DASH if effect is None else f"{effect:.{column.digits}f}"


def table_of(
    tab: Tab,
    models: Sequence[ModelResult],
    slugs: Sequence[str],
    columns: Sequence[Column],
    figures: ModelFigures,
    marks: Marks,
    contexts: Contexts,
) -> TabTable:
    """Lay out one tab, ordered by the paper's mean (then by what there is of it), best marked where it is clear."""
    tests = {
        column.key: column_tests(
            {model: figures[model][column.key] for model in tab.members}, marks, contexts, column.items
        )
        for column in columns
    }
    shown = {column.key for column in columns if _is_shown(column, columns, models, figures, tab.members)}
    best = stars({key: one.best for key, one in tests.items()}, shown)
    ordered = sorted(tab.members, key=lambda number: _rank(models[number]))
    lines = [_line(number, slugs[number], models[number], columns, figures[number], best, tests) for number in ordered]
    return TabTable(tab, columns, lines, frozenset(shown), _missing(lines, columns, figures, shown), best, tests)


def _is_shown(
    column: Column,
    columns: Sequence[Column],
    models: Sequence[ModelResult],
    figures: ModelFigures,
    members: Sequence[int],
) -> bool:
    """Whether a column is shown at first.

    One that is not main is, where a model has its figure and none in the main columns of the same suite.
    """
    if column.main:
        suite = suite_of_key(column.suite)
        is_default = suite is not None and suite.in_default
        return is_default or any(column.suite in models[number].suites for number in members)
    main = [other.key for other in columns if other.main and other.suite == column.suite]
    return any(
        figures[number][column.key].value is not None and all(figures[number][key].value is None for key in main)
        for number in members
    )


def _rank(model: ModelResult) -> tuple[int, float]:
    average = model.scores.average
    for rank, name in enumerate(("paper", "nine")):
        if isinstance(value := average.get(name), int | float):
            return rank, -value
    partial = (average.get("partial") or {}).get("nine") or {}
    return 2, -float(partial.get("mean") or 0.0)


def _line(
    number: int,
    slug: str,
    model: ModelResult,
    columns: Sequence[Column],
    figures: Mapping[str, Figure],
    best: Mapping[str, int],
    tests: Mapping[str, ColumnTests],
) -> Line:
    cells = {
        column.key: _cell(
            figures[column.key],
            column.digits,
            best=best.get(column.key) == number,
            ranks=tests[column.key].ranks.get(number),
        )
        for column in columns
    }
    averages = {name: _cell(figures[f"average.{name}"], average_digits(name)) for name in AVERAGES}
    n = sum(figures[column.key].n or 0 for column in columns if column.main)
    return Line(number, slug, model, cells, averages, n)


def _cell(figure: Figure, digits: int, *, best: bool = False, ranks: tuple[int, int] | None = None) -> Cell:
    if figure.value is None:
        return Cell(DASH, "", figure.reason, None, best=False)
    spread, hint = "", []
    if figure.ci95:
        low, high = figure.ci95
        spread = f"±{(high - low) / 2:.{digits}f}"
        hint.append(f"95 % interval {low:.{digits}f} to {high:.{digits}f}")
    if figure.n is not None:
        hint.append(f"n = {figure.n}")
    if figure.unscored:
        hint.append(f"{figure.unscored} unscored")
    if ranks is not None:
        hint.append(f"rank {ranks[0]}" if ranks[0] == ranks[1] else f"rank {ranks[0]} to {ranks[1]}")
    if best:
        hint.append("best, and significantly better than every other model")
    return Cell(f"{figure.value:.{digits}f}", spread, "; ".join(hint), figure.value, best)


def _missing(
    lines: Sequence[Line], columns: Sequence[Column], figures: ModelFigures, shown: set[str]
) -> list[tuple[str, str, str]]:
    """List (models, column, reason) for each dash, models with the same reason together."""
    titles = {column.key: column.title for column in columns if column.key in shown}
    titles |= {f"average.{name}": average.title for name, average in AVERAGES.items()}
    names: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        for key, title in titles.items():
            figure = figures[line.number][key]
            if figure.value is None:
                names.setdefault((title, figure.reason), []).append(line.model.name)
    return [(", ".join(models), title, reason) for (title, reason), models in names.items()]


def csv_of(tables: Sequence[TabTable], columns: Sequence[Column], figures: ModelFigures) -> str:
    """Return leaderboard.csv: one row per model and tab, full precision, empty cells with their reasons."""
    head = ["tab", "model", "folder", "data", "limit", "judge", "judge_fingerprint", "imported", "base", "dgm"]
    head += ["training_size"]
    for column in columns:
        head += [column.key, *(f"{column.key}_{part}" for part in _CSV_PARTS)]
    head += [f"average_{name}" for name in AVERAGES]
    rows = (
        _csv_row(number, line, figures[line.number], columns)
        for number, table in enumerate(tables, 1)
        for line in table.lines
    )
    return csv_text([head, *rows])


def _csv_row(tab: int, line: Line, figures: Mapping[str, Figure], columns: Sequence[Column]) -> list[object]:
    model, lineage = line.model, line.model.lineage
    row: list[object] = [tab, model.name, model.slug, model.scores.data, model.scores.limit]
    row += ["", None] if model.judge is None else [model.judge.name, model.judge.fingerprint]
    row += [model.imported, lineage.base or "", lineage.dgm or "", lineage.size]
    for column in columns:
        figure = figures[column.key]
        low, high = figure.ci95 or (None, None)
        row += [figure.value, figure.stderr, low, high, figure.n, figure.unscored, figure.reason]
    return row + [figures[f"average.{name}"].value for name in AVERAGES]
