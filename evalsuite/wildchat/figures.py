"""Figures of models by the paper's columns, and the cells in which tables hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import Column, Format, cell
from evalsuite.comparison_documents import Preferences
from evalsuite.documents import Scores
from evalsuite.report import figures as report_figures
from evalsuite.results.reading import models_in
from evalsuite.suites import figures
from evalsuite.suites.figures import Z95, Figure
from evalsuite.suites.registry import suites

SEVEN = ("bbh", "gpqa", "math", "musr", "ifeval", "mmlu_pro", "mixeval")
"""The columns of the paper's Avg, all from 0 to 1."""
NINE = ("mt_bench", "alpaca_eval", *SEVEN)


@cache
def columns() -> Mapping[str, figures.Column]:
    """Return the report's columns by key."""
    return {column.key: column for suite in suites().values() for column in suite.columns({})}


def read_figure(scores: Scores, key: str) -> Figure:
    return report_figures.figure_in(scores.suites, columns()[key])


def preference_figure(preferences: Preferences, preferred: str, other: str) -> Figure | None:
    """Return the share of prompts, 0 to 1, on which a model is preferred to another; None if not compared."""
    for pair in preferences.pairs:
        sides = {(pair.a, pair.b): (pair.rate_a, pair.ci95_a), (pair.b, pair.a): (pair.rate_b, pair.ci95_b)}
        if (preferred, other) in sides:
            rate, ci95 = sides[preferred, other]
            return Figure(reason="no prompt has a verdict") if rate is None else Figure(rate, ci95=ci95)
    return None


def scaled(figure: Figure, scale: float) -> Figure:
    """Return a figure in another unit."""
    if figure.value is None or scale == 1.0:
        return figure
    ci95 = (figure.ci95[0] * scale, figure.ci95[1] * scale) if figure.ci95 else None
    stderr = None if figure.stderr is None else figure.stderr * scale
    return replace(figure, value=figure.value * scale, stderr=stderr, ci95=ci95)


def cells(key: str, figure: Figure) -> dict[str, Any]:
    """Return a figure as a row of a table holds it: the value, its interval, or the reason that it is missing."""
    return cell(key, figure.value, figure.ci95, figure.reason or "not scored")


def figure_in(row: Mapping[str, Any], key: str, reason: str) -> Figure:
    """Return the figure that :func:`cells` wrote into a row; ``reason`` says why one without its own is missing."""
    if row.get(key) is None:
        return Figure(reason=str(row.get(f"{key}_why") or reason))
    ci95 = row.get(f"{key}_ci95")
    return Figure(float(row[key]), ci95=(ci95[0], ci95[1]) if ci95 else None)


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model's row: its label, the model's name, its figures by column, and AlpacaEval's plain win rate."""

    label: str
    model: str
    figures: Mapping[str, Figure]
    plain_win_rate: Figure
    is_plain: bool = False

    def cells(self, scales: Mapping[str, float] | None = None) -> dict[str, Any]:
        """Return the label and the nine figures, times ``scales``, with the number of scored items of all of them."""
        row: dict[str, Any] = {"model": self.label, "n": sum(figure.n or 0 for figure in self.figures.values())}
        for key, figure in self.figures.items():
            row |= cells(key, scaled(figure, (scales or {}).get(key, 1.0)))
        return row


def read_row(label: str, folder: Path) -> ModelRow:
    """Read the figures of a model's folder; raises DataError where it holds none."""
    scores = models_in(folder)[0].scores
    row = {key: read_figure(scores, key) for key in NINE}
    # The paper's MuSR is the plain mean of its three subtasks, where lm-eval weighs them by size.
    weighted, mean = row["musr"], read_figure(scores, "musr_subtasks").value
    if mean is not None and weighted.value is not None:
        shift = mean - weighted.value
        ci95 = (weighted.ci95[0] + shift, weighted.ci95[1] + shift) if weighted.ci95 else None
        row["musr"] = replace(weighted, value=mean, ci95=ci95)
    return ModelRow(label, scores.model.name, row, read_figure(scores, "alpaca_win_rate"))


def with_one_win_rate(rows: Mapping[str, ModelRow]) -> dict[str, ModelRow]:
    """Give every row the same kind of win rate: length-controlled where all have it, else the plain one."""
    controlled = [row.figures["alpaca_eval"].value for row in rows.values()]
    if None not in controlled or all(row.plain_win_rate.value is None for row in rows.values()):
        return dict(rows)
    return {
        name: replace(row, figures={**row.figures, "alpaca_eval": row.plain_win_rate}, is_plain=True)
        for name, row in rows.items()
    }


def common_parts(rows: Sequence[ModelRow]) -> tuple[str, ...]:
    """Return the columns of the paper's Avg that every row has; means over different columns do not compare."""
    return tuple(key for key in SEVEN if rows and all(row.figures[key].value is not None for row in rows))


def average(row: ModelRow, parts: Sequence[str]) -> Figure:
    """Return the mean of ``parts`` with the interval that their standard errors give, assuming independent parts."""
    if not parts:
        return Figure(reason="no column has a figure for every model")
    members = [row.figures[part] for part in parts]
    value, n = sum(figure.value or 0.0 for figure in members) / len(members), sum(figure.n or 0 for figure in members)
    errors = [error for figure in members if (error := _stderr(figure)) is not None]
    if len(errors) < len(members):
        return Figure(value, n=n)
    stderr = math.sqrt(sum(error**2 for error in errors)) / len(errors)
    return Figure(value, stderr, (value - Z95 * stderr, value + Z95 * stderr), n)


def _stderr(figure: Figure) -> float | None:
    if figure.stderr is not None:
        return figure.stderr
    return None if figure.ci95 is None else (figure.ci95[1] - figure.ci95[0]) / (2 * Z95)


def average_column(parts: Sequence[str]) -> Column:
    return Column("avg", "Avg" if len(parts) == len(SEVEN) else f"Avg of {len(parts)}", "float3")


def average_note(rows: Sequence[ModelRow], parts: Sequence[str]) -> str:
    """Say what Avg is the mean of, and why a part is missing."""
    if len(parts) == len(SEVEN):
        return "Avg is the mean of the seven columns from BBH to MixEval, as in the paper."
    missing = [(columns()[key].title, row.figures[key]) for key in SEVEN if key not in parts for row in rows]
    reasons = {f"{title} ({figure.reason or 'not scored'})" for title, figure in missing if figure.value is None}
    titles = ", ".join(columns()[part].title for part in parts) or "none"
    return f"Avg is the mean of the columns that every model has ({titles}); missing: {'; '.join(sorted(reasons))}."


def score_columns(seven: Format = "float3") -> list[Column]:
    """Return the nine columns; the shares among them have the format ``seven``."""
    return [Column(key, columns()[key].title, seven if key in SEVEN else "float2") for key in NINE]


def counts_note(rows: Sequence[ModelRow]) -> str:
    """Say how many scored items each column has."""
    texts = []
    for key in NINE:
        counts = sorted({row.figures[key].n or 0 for row in rows})
        if counts and counts[-1]:
            texts.append(f"{columns()[key].title} {counts[0]}" + (f"-{counts[-1]}" if len(counts) > 1 else ""))
    plain = " AlpacaEval is the plain win rate: not every model has a length-controlled one."
    scored = f"Items scored: {', '.join(texts)}." if texts else "No item was scored."
    return scored + (plain if any(row.is_plain for row in rows) else "")
