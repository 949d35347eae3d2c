"""The report's tables as Markdown, LaTeX and CSV: figures with their intervals, a star at each clear best."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from evalsuite.report.figures import HIDDEN_AVERAGE
from evalsuite.report.index import Contents
from evalsuite.report.ranks import AVERAGE
from evalsuite.report.tables import Cell, TabTable
from evalsuite.results.averages import AVERAGES
from evalsuite.text import printable

TableFormat = Literal["markdown", "latex"]


def table_frame(table: TabTable, *, star: str) -> pd.DataFrame:
    """Return one tab as texts: a row per model in the table's order, the columns that are shown at first."""
    columns = [(column.key, column.title) for column in table.columns if column.key in table.shown]
    averages = [name for name in AVERAGES if f"{AVERAGE}{name}" in table.shown and name != HIDDEN_AVERAGE]
    rows = [
        {
            "#": "" if line.rank is None else "–".join(map(str, sorted({*line.rank}))),
            "model": printable(line.model.name),
            **{title: _text(line.cells[key], star) for key, title in columns},
            **{AVERAGES[name].title: _text(line.averages[name], star) for name in averages},
            "n": str(line.n),
        }
        for line in table.lines
    ]
    return pd.DataFrame(rows, dtype=str)


def tables_text(contents: Contents, form: TableFormat) -> str:
    """Return all tabs in one document, each under its title."""
    return "\n".join(_one(table, form) for table in contents.tables)


def _one(table: TabTable, form: TableFormat) -> str:
    title = printable(table.tab.title)
    if form == "markdown":
        frame = table_frame(table, star=" ★").map(_markdown_cell).rename(columns=_markdown_cell)
        # Figures are texts, which tabulate would read as numbers and write again.
        return f"## {_markdown_cell(title)}\n\n{frame.to_markdown(index=False, disable_numparse=True)}\n"
    frame = table_frame(table, star="*").map(_latex_cell).rename(columns=_latex_cell)
    return frame.to_latex(
        index=False, escape=False, caption=_latex_cell(title), column_format="rl" + "r" * (frame.shape[1] - 2)
    )


def _text(cell: Cell, star: str) -> str:
    spread = f" ± {cell.spread.removeprefix('±')}" if cell.spread else ""
    return f"{cell.text}{spread}{star if cell.best else ''}"


def _markdown_cell(text: str) -> str:
    for sign in "\\|`*_<>[]":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("\n", " ")


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
_LATEX |= {"±": r"$\pm$", "–": "--", "*": "$^\\star$", "\n": " "}


def _latex_cell(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
