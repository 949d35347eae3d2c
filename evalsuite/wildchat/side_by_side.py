"""The published tables with your figures side by side, cell by cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from evalsuite.analysis.document import Analysis, Column, Table
from evalsuite.errors import DataError
from evalsuite.results.reading import Comparison, Results, read_results_folder
from evalsuite.suites.figures import Figure
from evalsuite.wildchat.figures import cells
from evalsuite.wildchat.own_results import (
    Match,
    RowMap,
    analysis_figure,
    comparison_figure,
    judge_of,
    judged_alike,
    match_rows,
    read_analyses,
    row_names,
    score_figure,
)
from evalsuite.wildchat.published import PublishedColumn, PublishedTable, Value, published_tables

Verdict = Literal["same", "within", "outside", "no interval", "missing"]
_MEANING: Mapping[Verdict, str] = {
    "same": "equal as printed",
    "within": "the published figure is within your 95 % interval",
    "outside": "it is outside",
    "no interval": "it differs, and your figure has no interval",
    "missing": "you have no figure",
}
_ANALYSED = ("style", "similarity")
_Row = Mapping[str, Figure]
"""Your figures of one row by the key of their column."""


def verdict(published: Value, own: Figure) -> Verdict:
    """Compare your figure with a printed one, which is known to half a unit of its last digit only."""
    if own.value is None:
        return "missing"
    slack = published.rounding + 1e-9
    if abs(own.value - published.number) <= slack:
        return "same"
    if own.ci95 is None:
        return "no interval"
    low, high = own.ci95
    return "within" if low - slack <= published.number <= high + slack else "outside"


def paper_analysis(results: Path, row_map: RowMap | None = None, only: Sequence[str] = ()) -> Analysis:
    """Return the published tables with your figures below each row.

    Raises DataError without a results folder, and for an unknown table. ``only`` names tables, as in ``table4``; by
    default they are the paper's, without leaderboards.
    """
    row_map = row_map or RowMap()
    names = [table.id for table in published_tables()]
    if unknown := sorted(set(only) - set(names)):
        raise DataError(f"unknown table {unknown[0]!r}; known: {', '.join(names)}")
    tables = [table for table in published_tables() if (table.id in only if only else not table.judge)]
    found = read_results_folder(results)
    shown, rows = [], []
    faults = [*found.faults]
    for table in tables:
        matches = match_rows(table, found, row_map)
        own, unreadable = _own_figures(table, matches, found.comparisons, results)
        faults += unreadable
        shown.append(_shown(table, matches, own, found))
        rows += _cell_rows(table, own)
    of_paper = not any(table.judge for table in tables)
    return Analysis(
        kind="paper",
        name="wildchat-50m" if of_paper else "-".join(only),
        title="WILDCHAT-50M with your figures" if of_paper else "Published figures with yours",
        about="Published tables, and your figure and the difference under each row that has one. Rows are matched by "
        "base model, DGM and training size, or by a map; those of a leaderboard by the model's name.",
        provenance={
            **({"paper": "arXiv 2501.18511"} if of_paper else {"sources": [table.source for table in tables]}),
            "models": {model.name: model.scores.model.fingerprint for model in found.models},
            "map": {"models": dict(row_map.models), "aliases": dict(row_map.aliases)},
            "verdicts": dict(Counter(row["verdict"] for row in rows)),
            "unreadable": faults,
            "versions": {"evalsuite": metadata.version("evalsuite")},
        },
        tables=[*shown, *_cells_table(rows, "WILDCHAT-50M" if of_paper else None)],
    )


def _own_figures(
    table: PublishedTable, matches: Mapping[str, Match], comparisons: Sequence[Comparison], results: Path
) -> tuple[dict[str, _Row], list[str]]:
    """Return your figures by row and column, and what could not be read."""
    analyses, faults = read_analyses(results, table.kind) if table.kind in _ANALYSED else ([], [])

    def figure(label: str, column: PublishedColumn) -> Figure:
        match = matches[label]
        if table.kind in _ANALYSED:
            return analysis_figure(table, column, row_names(label, matches), analyses)
        if table.kind == "plain":
            return Figure(reason="a mix's own counts are in its mix.json")
        if table.kind == "preferences" and column.own is None and match.name is not None:
            return comparison_figure(column, match.name, matches, comparisons)
        return Figure(reason=match.why) if match.model is None else score_figure(match.model, column, table.requires)

    return {
        label: {column.key: figure(label, column) for column in table.columns if column.key in values}
        for label, values in table.rows.items()
    }, faults


def _shown(table: PublishedTable, matches: Mapping[str, Match], own: Mapping[str, _Row], found: Results) -> Table:
    """Lay out a published table, each row with a row of your figures and one of differences where there are any."""
    groups: list[list[dict[str, Any]]] = []
    whose = f"published, judge {table.judge}" if table.judge else "paper"
    for label, values in table.rows.items():
        group: list[dict[str, Any]] = [{"row": label, "whose": whose}]
        for key, value in values.items():
            group[0] |= cells(key, Figure(value.number, ci95=value.ci95))
        groups.append(group)
        figures = {key: figure for key, figure in own[label].items() if figure.value is not None}
        if not figures:
            continue
        model = matches[label].model
        mine: dict[str, Any] = {"row": "", "whose": model.name if model else "own"}
        for key, figure in own[label].items():
            mine |= cells(key, figure)
        verdicts = [verdict(values[key], figure) for key, figure in figures.items()]
        agrees = f"{sum(one in ('same', 'within') for one in verdicts)} of {len(verdicts)}"
        difference = {key: (figure.value or 0.0) - values[key].number for key, figure in figures.items()}
        group += [mine, {"row": "", "whose": "difference", **difference, "agrees": agrees}]
    if table.judge:
        first = table.columns[0].key
        groups = sorted([*groups, *_unlisted(table, matches, found)], key=lambda group: -float(group[0][first]))
    rows = [row for group in groups for row in group]
    columns = [Column("row", "Row"), Column("whose", "whose")]
    columns += [Column(column.key, column.label, column.format) for column in table.columns]
    columns += [Column("agrees", "agree")] if any("agrees" in row for row in rows) else []
    return Table(table.id, table.title, columns, rows, table.source, [*table.notes, *_notes(table, matches, found)])


def _unlisted(table: PublishedTable, matches: Mapping[str, Match], found: Results) -> list[list[dict[str, Any]]]:
    """Return a row for each of your models that the leaderboard's judge judged and that it does not list."""
    listed = [match.model for match in matches.values()]
    rows = []
    for model in judged_alike(table, found.models):
        figure = score_figure(model, table.columns[0], table.requires)
        if figure.value is not None and model not in listed:
            rows.append(
                [{"row": model.name, "whose": f"own, judge {table.judge}", **cells(table.columns[0].key, figure)}]
            )
    return rows


def _notes(table: PublishedTable, matches: Mapping[str, Match], found: Results) -> list[str]:
    """Name your models that were run on a part of the data, rows that nearly have a match, and models kept apart."""
    notes = _kept_apart(table, found)
    for label, match in matches.items():
        model = match.model
        if model is not None and (model.scores.data != "full" or model.scores.limit):
            part = f"limit {model.scores.limit}" if model.scores.limit else "mini data"
            notes.append(f"{model.name} ({label}) was run on a part of the data ({part})")
        elif model is None and found.models and "--map" in match.why:
            notes.append(f"{label}: {match.why}")
    return notes


def _kept_apart(table: PublishedTable, found: Results) -> list[str]:
    """Name your models with figures that do not stand beside a leaderboard's: of another judge or protocol."""
    if not table.judge:
        return []
    alike, column = judged_alike(table, found.models), table.columns[0]
    notes = []
    for model in found.models:
        figure = score_figure(model, column, table.requires if model in alike else None)
        if model not in alike and figure.value is not None:
            judge = judge_of(table, model) or "no judge"
            notes.append(f"{model.name} is not shown beside them: its judge is {judge}, theirs is {table.judge}")
        elif model in alike and figure.value is None and "the published one" in figure.reason:
            notes.append(f"{model.name} is not shown beside them: {figure.reason}")
    return notes


def _cell_rows(table: PublishedTable, own: Mapping[str, _Row]) -> list[dict[str, Any]]:
    rows = []
    labels = {column.key: column.label for column in table.columns}
    for label, figures in own.items():
        for key, figure in figures.items():
            value = table.rows[label][key]
            row = {"table": table.id, "row": label, "column": labels[key], "published": value.number}
            row |= cells("own", figure if figure.value is not None or figure.reason else Figure(reason="no own model"))
            row["difference"] = None if figure.value is None else figure.value - value.number
            rows.append({**row, "verdict": verdict(value, figure)})
    return rows


def _cells_table(rows: Sequence[Mapping[str, Any]], source: str | None) -> list[Table]:
    """Return a table of every cell with your figure, none without any; missing ones are only counted."""
    present = [row for row in rows if row["own"] is not None]
    if not present:
        return []
    counts = Counter(row["verdict"] for row in rows)
    columns = [Column(key, key.capitalize()) for key in ("table", "row", "column")]
    columns += [Column(key, key, "float3") for key in ("published", "own", "difference")]
    columns.append(Column("verdict", "verdict"))
    notes = [f"{name}: {meaning} ({counts[name]} cells)" for name, meaning in _MEANING.items() if counts[name]]
    return [Table("cells", "Cell by cell", columns, present, source, notes)]
