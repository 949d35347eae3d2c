"""An analysis on the terminal: its tables with intervals, its notes, and its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table as RichTable

from evalsuite.analysis.document import Analysis, Column, Table, written
from evalsuite.terminal import Console
from evalsuite.text import plural

_MAX_ROWS = 60
_MAX_COLUMNS, _MAX_SIDEWAYS = 9, 6


def print_analysis(console: Console, analysis: Analysis, folder: Path) -> None:
    """Print every table (the first rows of a long one) and the folder of the whole analysis."""
    for table in analysis.tables:
        _print_table(console, table)
    console.print(f"written to {folder}/", highlight=False, markup=False)


def _print_table(console: Console, table: Table) -> None:
    title = f"{table.title} ({table.source})" if table.source else table.title
    console.print(title, style="bold", highlight=False, markup=False)
    empty = [column for column in table.columns[1:] if all(row.get(column.key) in (None, 0) for row in table.rows)]
    columns = [column for column in table.columns if column not in empty]
    rows = table.rows[:_MAX_ROWS]
    if table.rows:
        sideways = len(columns) > _MAX_COLUMNS and len(rows) <= _MAX_SIDEWAYS
        console.print(_sideways(columns, rows) if sideways else _upright(columns, rows))
    if len(table.rows) > _MAX_ROWS:
        console.print(
            f"  {plural(len(table.rows) - _MAX_ROWS, 'more row')} in {table.id}.csv", highlight=False, markup=False
        )
    left_out = [f"all 0 or missing: {', '.join(column.label for column in empty)}"] if empty and rows else []
    for note in [*table.notes, *left_out, *_reasons(table)]:
        console.print(f"  {note}", style="dim", highlight=False, markup=False)


def _upright(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> RichTable:
    shown = RichTable(header_style="bold")
    for column in columns:
        shown.add_column(column.label, justify="left" if column.format == "text" else "right", overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(row, column) for column in columns))
    return shown


def _sideways(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> RichTable:
    """Transpose a wide table of a few rows: its columns become lines."""
    shown = RichTable(header_style="bold")
    shown.add_column(columns[0].label)
    for row in rows:
        shown.add_column(written(row.get(columns[0].key), columns[0].format), justify="right", overflow="fold")
    for column in columns[1:]:
        shown.add_row(column.label, *(_cell(row, column).replace("\n", "  ") for row in rows))
    return shown


def _cell(row: Mapping[str, Any], column: Column) -> str:
    text = escape(written(row.get(column.key), column.format))
    interval = row.get(f"{column.key}_ci95")
    if not interval:
        return text
    low, high = (written(end, column.format) for end in interval)
    return f"{text}\n[dim]{low} to {high}[/]"


def _reasons(table: Table) -> list[str]:
    """Return each reason of a missing figure once."""
    reasons = [str(row[f"{c.key}_why"]) for row in table.rows for c in table.columns if row.get(f"{c.key}_why")]
    return [f"–: {reason}" for reason in dict.fromkeys(reasons)][:5]
