"""The table's rows, once for the page and once for leaderboard.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalsuite.report.columns import AVERAGES, COLUMNS, EXTRA_COLUMNS, Column, Figure, average_figure
from evalsuite.report.reading import ModelResult
from evalsuite.report.significance import Marks, clear_best
from evalsuite.report.tabs import Tab

ALL_COLUMNS = (*COLUMNS, *EXTRA_COLUMNS)


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure as words; ``value`` sorts, ``hint`` is read on hover, ``best`` marks a clear winner."""

    words: str
    spread: str
    hint: str
    value: float | None
    best: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One model's row of one tab."""

    place: int
    model: ModelResult
    cells: Mapping[str, Cell]
    averages: Mapping[str, Cell]
    n: int


@dataclass(frozen=True, slots=True)
class TabTable:
    """One tab ready to be written.

    ``shown`` names the columns that stand at first, ``missing`` holds (models, column, reason) for the dashes.
    """

    tab: Tab
    lines: Sequence[Line]
    shown: frozenset[str]
    missing: Sequence[tuple[str, str, str]]
    best: Mapping[str, int]


def figures_of(model: ModelResult) -> dict[str, Figure]:
    """Read every column's figure of a model, averages under ``average.<name>``."""
    figures = {column.key: column.read(model.suites) for column in ALL_COLUMNS}
    average = model.scores.get("average") or {}
    return figures | {f"average.{name}": average_figure(average, name) for name in AVERAGES}


def table_of(
    tab: Tab, models: Sequence[ModelResult], figures: Sequence[Mapping[str, Figure]], marks: Marks
) -> TabTable:
    """Lay out one tab, ordered by the paper's mean (then by what there is of it), best marked where it is clear."""
    best = {
        column.key: winner
        for column in ALL_COLUMNS
        if (winner := clear_best({place: figures[place][column.key] for place in tab.members}, marks, column.items))
        is not None
    }
    ordered = sorted(tab.members, key=lambda place: _rank(models[place]))
    lines = [_line(place, models[place], figures[place], best) for place in ordered]
    shown = {column.key for column in COLUMNS}
    if any(
        figures[p]["alpaca_eval"].value is None and figures[p]["alpaca_win_rate"].value is not None for p in ordered
    ):
        shown.add("alpaca_win_rate")
    if any(figures[place]["mixeval_hard"].value is not None for place in ordered):
        shown.add("mixeval_hard")
    return TabTable(tab, lines, frozenset(shown), _missing(lines, figures, shown), best)


def _rank(model: ModelResult) -> tuple[int, float]:
    average = model.scores.get("average") or {}
    for place, name in enumerate(("paper", "nine")):
        if isinstance(value := average.get(name), int | float):
            return place, -value
    partial = (average.get("partial") or {}).get("nine") or {}
    return 2, -float(partial.get("mean") or 0.0)


def _line(place: int, model: ModelResult, figures: Mapping[str, Figure], best: Mapping[str, int]) -> Line:
    cells = {
        column.key: _cell(figures[column.key], column, best=best.get(column.key) == place) for column in ALL_COLUMNS
    }
    averages = {
        name: _average_cell(figures[f"average.{name}"], 1 if name == "leaderboard_v2" else 3) for name in AVERAGES
    }
    n = sum(figures[column.key].n or 0 for column in COLUMNS)
    return Line(place, model, cells, averages, n)


def _cell(figure: Figure, column: Column, *, best: bool) -> Cell:
    if figure.value is None:
        return Cell("–", "", figure.reason, None, best=False)
    digits = column.digits
    spread, hint = "", []
    if figure.ci95:
        low, high = figure.ci95
        spread = f"±{(high - low) / 2:.{digits}f}"
        hint.append(f"95 % interval {low:.{digits}f} to {high:.{digits}f}")
    if figure.n is not None:
        hint.append(f"n = {figure.n}")
    if figure.unscored:
        hint.append(f"{figure.unscored} unscored")
    if best:
        hint.append("best, and significantly better than the next")
    return Cell(f"{figure.value:.{digits}f}", spread, "; ".join(hint), figure.value, best)


def _average_cell(figure: Figure, digits: int) -> Cell:
    if figure.value is None:
        return Cell("–", "", figure.reason, None, best=False)
    return Cell(f"{figure.value:.{digits}f}", "", "", figure.value, best=False)


def _missing(
    lines: Sequence[Line], figures: Sequence[Mapping[str, Figure]], shown: set[str]
) -> list[tuple[str, str, str]]:
    """List (models, column, reason) for each dash, models with the same reason together."""
    together: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        for column in ALL_COLUMNS:
            figure = figures[line.place][column.key]
            if column.key in shown and figure.value is None:
                together.setdefault((column.title, figure.reason), []).append(line.model.name)
        for name, (title, _) in AVERAGES.items():
            figure = figures[line.place][f"average.{name}"]
            if figure.value is None:
                together.setdefault((title, figure.reason), []).append(line.model.name)
    return [(", ".join(names), title, reason) for (title, reason), names in together.items()]


def csv_of(tables: Sequence[TabTable], figures: Sequence[Mapping[str, Figure]]) -> str:
    """Return leaderboard.csv: one row a model and tab, full precision, empty cells with their reasons."""
    out = io.StringIO()
    keys = [column.key for column in ALL_COLUMNS]
    head = ["tab", "model", "folder", "data", "limit", "judge", "judge_fingerprint", "imported", "base", "dgm"]
    head += ["training_size"]
    for key in keys:
        head += [
            key,
            f"{key}_stderr",
            f"{key}_ci_low",
            f"{key}_ci_high",
            f"{key}_n",
            f"{key}_unscored",
            f"{key}_missing",
        ]
    head += [f"average_{name}" for name in AVERAGES]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for number, table in enumerate(tables, 1):
        for line in table.lines:
            writer.writerow(_csv_row(number, line, figures[line.place], keys))
    return out.getvalue()


def _csv_row(number: int, line: Line, figures: Mapping[str, Figure], keys: Sequence[str]) -> list[object]:
    model, judge = line.model, line.model.judge or {}
    lineage = model.lineage
    row: list[object] = [number, _plain(model.name), model.slug, model.scores["data"], model.scores.get("limit")]
    row += [_plain(judge.get("name") or ""), judge.get("fingerprint"), model.imported]
    row += [_plain(lineage.base or ""), _plain(lineage.dgm or ""), lineage.size]
    for key in keys:
        figure = figures[key]
        low, high = figure.ci95 or (None, None)
        row += [figure.value, figure.stderr, low, high, figure.n, figure.unscored, _plain(figure.reason)]
    return row + [figures[f"average.{name}"].value for name in AVERAGES]


def _plain(text: str) -> str:
    """Keep a spreadsheet from taking foreign text for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
