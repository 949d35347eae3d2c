"""The table's rows, once for the page and once for leaderboard.csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalsuite.report.figures import HIDDEN_AVERAGE, average_digits
from evalsuite.report.ranks import AVERAGE, Ranks, ranks_of
from evalsuite.report.significance import ColumnTests, Contexts, Marks, column_tests
from evalsuite.report.tabs import Tab
from evalsuite.results.averages import AVERAGES
from evalsuite.results.reading import ModelResult
from evalsuite.suites.figures import DASH, Column, Figure
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
    """One model's row of one tab; ``number`` is the model's in the list of models, ``rank`` its (best, worst) rank
    in the column that the table is sorted by, None without a figure.
    """

    number: int
    slug: str
    model: ModelResult
    cells: Mapping[str, Cell]
    averages: Mapping[str, Cell]
    n: int
    rank: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class TabTable:
    """One tab ready to be written.

    ``shown`` names the columns and averages (``average.<name>``) that are shown at first, ``sort`` the one that the
    lines are ordered by, ``ranks`` the ranks in each; ``missing`` holds (models, column, reason) for the dashes.
    """

    tab: Tab
    columns: Sequence[Column]
    lines: Sequence[Line]
    shown: frozenset[str]
    missing: Sequence[tuple[str, str, str]]
    best: Mapping[str, int]
    tests: Mapping[str, ColumnTests]
    sort: str
    ranks: Mapping[str, Ranks]

    @property
    def n_tested(self) -> int:
        """How many of the columns shown at first are tested together."""
        return sum(self.tests[key].best is not None for key in self.shown & self.tests.keys())

    def detectable(self, column: Column) -> str:
        """Return the difference that a column's comparisons detect with 80 % power; a dash where unknown."""
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
    """Lay out one tab, ordered by the first figure that there is, best marked where it is clear."""
    tests = {
        column.key: column_tests(
            {model: figures[model][column.key] for model in tab.members}, marks, contexts, column.items
        )
        for column in columns
    }
    shown = _shown(columns, figures, tab.members)
    best = stars({key: one.best for key, one in tests.items()}, shown)
    sort = _sort_key(columns, shown)
    ranks = ranks_of(tab.members, figures, columns, tests)

    def place(number: int) -> tuple[bool, float, str]:
        value = figures[number][sort].value if sort else None
        return value is None, -(value or 0.0), models[number].name

    ordered = sorted(tab.members, key=place)
    lines = [
        _line(number, slugs[number], models[number], columns, figures[number], best, ranks, sort) for number in ordered
    ]
    missing = _missing(lines, columns, figures, shown)
    return TabTable(tab, columns, lines, frozenset(shown), missing, best, tests, sort, ranks)


def _shown(columns: Sequence[Column], figures: ModelFigures, members: Sequence[int]) -> set[str]:
    """Return the columns and averages that are shown at first, of those in which a model has a figure.

    They are the main columns, others where a model has none in the main columns of the same suite, and the averages.
    """

    def has(number: int, key: str) -> bool:
        return figures[number][key].value is not None

    shown = {f"{AVERAGE}{name}" for name in AVERAGES if name != HIDDEN_AVERAGE}
    for column in columns:
        main = [other.key for other in columns if other.main and other.suite == column.suite]
        alone = [number for number in members if not any(has(number, key) for key in main)]
        if column.main or any(has(number, column.key) for number in alone):
            shown.add(column.key)
    return {key for key in shown if any(has(number, key) for number in members)}


def _sort_key(columns: Sequence[Column], shown: set[str]) -> str:
    """Return what a table is ordered by at first: the first average, else the first column; "" without figures."""
    keys = [*(f"{AVERAGE}{name}" for name in AVERAGES), *(column.key for column in columns)]
    return next((key for key in keys if key in shown), "")


def _line(
    number: int,
    slug: str,
    model: ModelResult,
    columns: Sequence[Column],
    figures: Mapping[str, Figure],
    best: Mapping[str, int],
    ranks: Mapping[str, Ranks],
    sort: str,
) -> Line:
    cells = {
        column.key: _cell(
            figures[column.key],
            column.digits,
            best=best.get(column.key) == number,
            ranks=ranks[column.key].get(number),
        )
        for column in columns
    }
    averages = {name: _cell(figures[f"{AVERAGE}{name}"], average_digits(name)) for name in AVERAGES}
    n = sum(figures[column.key].n or 0 for column in columns if column.main)
    return Line(number, slug, model, cells, averages, n, ranks.get(sort, {}).get(number))


def _cell(figure: Figure, digits: int, *, best: bool = False, ranks: tuple[int, int] | None = None) -> Cell:
    if figure.value is None:
        return Cell(DASH, "", figure.reason, None, best=False)
    spread, hint = "", []
    if figure.ci95:
        low, high = figure.ci95
        spread = f"±{(high - low) / 2:.{digits}f}"
        method = f" ({figure.method})" if figure.method else ""
        hint.append(f"95 % interval {low:z.{digits}f} to {high:z.{digits}f}{method}")
    if figure.n is not None:
        hint.append(f"n = {figure.n}")
    if figure.unscored:
        hint.append(f"{figure.unscored} unscored")
    if ranks is not None:
        hint.append(f"rank {ranks[0]}" if ranks[0] == ranks[1] else f"rank {ranks[0]} to {ranks[1]}")
    if best:
        hint.append("best, and significantly better than every other model")
    return Cell(f"{figure.value:z.{digits}f}", spread, "; ".join(hint), figure.value, best)


def _missing(
    lines: Sequence[Line], columns: Sequence[Column], figures: ModelFigures, shown: set[str]
) -> list[tuple[str, str, str]]:
    """List (models, column, reason) for each dash, models with the same reason together."""
    titles = {column.key: column.title for column in columns if column.main or column.key in shown}
    titles |= {f"{AVERAGE}{name}": average.title for name, average in AVERAGES.items()}
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
    return row + [figures[f"{AVERAGE}{name}"].value for name in AVERAGES]
