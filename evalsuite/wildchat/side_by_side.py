"""The published tables with one's own figures beside them, cell by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from evalsuite.analysis.document import Analysis, Column, Table
from evalsuite.errors import DataError
from evalsuite.report.reading import ModelResult, Results, read_results_folder
from evalsuite.wildchat.own_results import (
    OwnCell,
    RowMap,
    analysis_cell,
    chosen_names,
    find_model,
    preference_cell,
    read_analyses,
    row_names,
    score_cell,
)
from evalsuite.wildchat.published import PublishedColumn, PublishedTable, Value, published_tables

Verdict = Literal["same", "within", "outside", "no interval", "missing"]
_MEANING = {
    "same": "equal as printed",
    "within": "the published figure lies in the own 95 % interval",
    "outside": "it lies outside",
    "no interval": "it differs, and the own figure has no interval",
    "missing": "there is no own figure",
}
_NOTHING = Results((), (), {}, ())
Cells = Mapping[str, OwnCell]


def verdict(published: Value, own: OwnCell) -> Verdict:
    """Say how an own figure stands to a printed one, which is known to half a unit of its last digit only."""
    if own.value is None:
        return "missing"
    slack = published.rounding + 1e-9
    if abs(own.value - published.number) <= slack:
        return "same"
    if own.ci95 is None:
        return "no interval"
    low, high = own.ci95
    return "within" if low - slack <= published.number <= high + slack else "outside"


def paper_analysis(results: Path, chosen: RowMap | None = None, only: Sequence[str] = ()) -> Analysis:
    """Put one's own figures beside the published tables; raises DataError for an unknown table.

    Without a results folder the tables stand alone. ``only`` names tables, as in ``table4``.
    """
    chosen = chosen or RowMap()
    tables = published_tables()
    if unknown := sorted(set(only) - {table.id for table in tables}):
        known = ", ".join(table.id for table in tables)
        raise DataError(f"the paper has no {unknown[0]!r} here; known: {known}")
    found = read_results_folder(results) if results.is_dir() else _NOTHING
    shown, cells = [], []
    faults = list(found.faults)
    for table in (each for each in tables if not only or each.id in only):
        models = {label: find_model(table, label, found, chosen) for label in table.rows}
        own, broken = _own_cells(table, models, found, chosen, results)
        faults += broken
        shown.append(_shown(table, models, own, found))
        cells += _cell_rows(table, own)
    counted = Counter(row["verdict"] for row in cells)
    return Analysis(
        kind="paper",
        name="wildchat-50m",
        title="WILDCHAT-50M, beside one's own figures",
        about="The paper's published tables, and one's own figure and difference under each row that has one. "
        "Rows are matched by base model, DGM and training size, or by a map.",
        provenance={
            "paper": "arXiv 2501.18511",
            "models": {model.name: model.scores["model"].get("fingerprint") for model in found.models},
            "map": {"models": dict(chosen.models), "aliases": dict(chosen.aliases)},
            "verdicts": dict(counted),
            "unreadable": faults,
            "versions": {"evalsuite": metadata.version("evalsuite")},
        },
        tables=[*shown, *_cells_tables(cells)],
    )


def _own_cells(
    table: PublishedTable,
    models: Mapping[str, tuple[ModelResult | None, str]],
    found: Results,
    chosen: RowMap,
    results: Path,
) -> tuple[dict[str, Cells], list[str]]:
    """Return one's own figures by row and column, and what could not be read."""
    names = chosen_names(table, {label: model for label, (model, _) in models.items()}, chosen)
    analyses, faults = read_analyses(results, table.kind) if table.kind in {"style", "similarity"} else ([], [])

    def cell(label: str, column: PublishedColumn) -> OwnCell:
        model, why = models[label]
        if table.kind in {"style", "similarity"}:
            return analysis_cell(table, column, row_names(label, names), analyses)
        if table.kind == "plain":
            return OwnCell(why="a mix's own counts stand in its mix.json")
        if table.kind == "preferences" and column.own is None and label in names:
            return preference_cell(column, names[label], names, found)
        if model is None:
            return OwnCell(why=why)
        return score_cell(model, column)

    return {
        label: {column.key: cell(label, column) for column in table.columns if column.key in values}
        for label, values in table.rows.items()
    }, faults


def _shown(
    table: PublishedTable,
    models: Mapping[str, tuple[ModelResult | None, str]],
    own: Mapping[str, Cells],
    found: Results,
) -> Table:
    rows: list[dict[str, Any]] = []
    for label, values in table.rows.items():
        rows.append({"row": label, "whose": "paper"} | {key: value.number for key, value in values.items()})
        cells = own[label]
        if all(cell.value is None for cell in cells.values()):
            continue
        model, _ = models[label]
        mine: dict[str, Any] = {"row": "", "whose": model.name if model else "own"}
        difference: dict[str, Any] = {"row": "", "whose": "difference"}
        for key, cell in cells.items():
            mine[key] = cell.value
            if cell.value is None:
                mine[f"{key}_why"] = cell.why
                continue
            difference[key] = cell.value - values[key].number
            if cell.ci95:
                mine[f"{key}_ci95"] = list(cell.ci95)
        judged = Counter(verdict(values[key], cell) for key, cell in cells.items() if cell.value is not None)
        difference["agrees"] = f"{judged['same'] + judged['within']} of {sum(judged.values())}"
        rows += [mine, difference]
    columns = [
        Column("row", "Row"),
        Column("whose", "whose"),
        *(Column(column.key, column.label, column.format) for column in table.columns),
    ]
    if any("agrees" in row for row in rows):
        columns.append(Column("agrees", "agree"))
    return Table(table.id, table.title, columns, rows, table.source, [*table.notes, *_model_notes(models, found)])


def _model_notes(models: Mapping[str, tuple[ModelResult | None, str]], found: Results) -> list[str]:
    """Name what makes own figures hard to compare, and rows that were nearly matched."""
    notes = []
    for label, (model, why) in models.items():
        if model is not None and (model.scores["data"] != "full" or model.scores.get("limit")):
            part = f"limit {model.scores['limit']}" if model.scores.get("limit") else "mini data"
            notes.append(f"{model.name} ({label}) was run on a part of the data ({part})")
        elif model is None and found.models and "--map" in why:
            notes.append(f"{label}: {why}")
    return notes


def _cell_rows(table: PublishedTable, own: Mapping[str, Cells]) -> list[dict[str, Any]]:
    rows = []
    for label, cells in own.items():
        for column in table.columns:
            if column.key not in cells:
                continue
            cell, value = cells[column.key], table.rows[label][column.key]
            row: dict[str, Any] = {
                "table": table.id,
                "row": label,
                "column": column.label,
                "published": value.number,
                "own": cell.value,
                "difference": None if cell.value is None else cell.value - value.number,
                "verdict": verdict(value, cell),
            }
            if cell.value is None:
                row["own_why"] = cell.why or "no own model"
            elif cell.ci95:
                row["own_ci95"] = list(cell.ci95)
            rows.append(row)
    return rows


def _cells_tables(cells: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Return every cell that has an own figure, the long way, where there is any; what is missing is counted only."""
    there = [row for row in cells if row["own"] is not None]
    if not there:
        return []
    counted = Counter(row["verdict"] for row in cells)
    columns = [
        Column("table", "Table"),
        Column("row", "Row"),
        Column("column", "Column"),
        Column("published", "published", "float3"),
        Column("own", "own", "float3"),
        Column("difference", "difference", "float3"),
        Column("verdict", "verdict"),
    ]
    notes = [f"{name}: {_MEANING[name]} ({counted[name]} cells)" for name in _MEANING if counted[name]]
    return [Table("cells", "Cell by cell", columns, there, "WILDCHAT-50M", notes)]
