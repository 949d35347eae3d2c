"""Figures of a study's models, read from their scores: the paper's nine columns and their mean."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import Column, Format
from evalsuite.errors import DataError
from evalsuite.report.columns import COLUMNS, EXTRA_COLUMNS, Figure
from evalsuite.results.folder import stored_scores

SEVEN = ("bbh", "gpqa", "math", "musr", "ifeval", "mmlu_pro", "mixeval")
"""The columns of the paper's Avg, all from 0 to 1."""

NAMES = {column.key: column.title for column in COLUMNS}
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Scored:
    """One model's row: its name in the tables, its figures by column key, and AlpacaEval's plain win rate."""

    label: str
    figures: Mapping[str, Figure]
    plain_win_rate: Figure
    is_plain: bool = False


def read_scored(label: str, folder: Path) -> Scored:
    """Read the figures of a model's folder; raises DataError where it holds none."""
    scores = stored_scores(folder)
    if scores is None:
        raise DataError(f"{folder} has no scores.json; run the model again")
    figures = {column.key: column.read(scores["suites"]) for column in COLUMNS}
    # The paper's MuSR is the plain mean of its three parts, where lm-eval weighs them by size.
    musr = ((scores["suites"].get("openllm") or {}).get("musr") or {}).get("mean_of_subtasks")
    if musr is not None and figures["musr"].value is not None:
        own = figures["musr"]
        shift = float(musr) - float(own.value or 0.0)
        ci95 = (own.ci95[0] + shift, own.ci95[1] + shift) if own.ci95 else None
        figures["musr"] = Figure(float(musr), own.stderr, ci95, own.n, own.unscored)
    plain = next(column for column in EXTRA_COLUMNS if column.key == "alpaca_win_rate")
    return Scored(label, figures, plain.read(scores["suites"]))


def one_win_rate(scored: Mapping[str, Scored]) -> dict[str, Scored]:
    """Give every row the same kind of win rate: length-controlled where all have it, else the plain one."""
    rates = [row.figures["alpaca_eval"].value for row in scored.values()]
    plain = [row.plain_win_rate.value for row in scored.values()]
    if None not in rates or all(rate is None for rate in plain):
        return dict(scored)
    return {
        name: replace(row, figures={**row.figures, "alpaca_eval": row.plain_win_rate}, is_plain=True)
        for name, row in scored.items()
    }


def common_parts(rows: Sequence[Scored]) -> tuple[str, ...]:
    """The columns of the paper's Avg that every row has; a mean over others would compare unlike things."""
    return tuple(key for key in SEVEN if rows and all(row.figures[key].value is not None for row in rows))


def average(row: Scored, parts: Sequence[str]) -> Figure:
    """The mean of ``parts`` with the interval that their standard errors give, independent parts assumed."""
    if not parts:
        return Figure(reason="no part of it is there for every model")
    figures = [row.figures[part] for part in parts]
    value = sum(float(figure.value or 0.0) for figure in figures) / len(figures)
    errors = [_stderr(figure) for figure in figures]
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return Figure(value, n=sum(figure.n or 0 for figure in figures))
    stderr = math.sqrt(sum(error**2 for error in known)) / len(known)
    interval = (value - _Z95 * stderr, value + _Z95 * stderr)
    return Figure(value, stderr, interval, sum(figure.n or 0 for figure in figures))


def _stderr(figure: Figure) -> float | None:
    if figure.stderr is not None:
        return figure.stderr
    return None if figure.ci95 is None else (figure.ci95[1] - figure.ci95[0]) / (2 * _Z95)


def average_label(parts: Sequence[str]) -> str:
    return "Avg" if len(parts) == len(SEVEN) else f"Avg of {len(parts)}"


def average_note(rows: Sequence[Scored], parts: Sequence[str]) -> str:
    """Say what Avg is the mean of, and why a part is missing."""
    if len(parts) == len(SEVEN):
        return "Avg is the mean of the seven columns from BBH to MixEval, as in the paper."
    missing = [key for key in SEVEN if key not in parts]
    reasons = {
        f"{NAMES[key]} ({row.figures[key].reason or 'not scored'})"
        for key in missing
        for row in rows
        if row.figures[key].value is None
    }
    shown = ", ".join(NAMES[part] for part in parts) or "nothing"
    return f"Avg is the mean of what every model has ({shown}); missing: {'; '.join(sorted(reasons))}."


def cells(key: str, figure: Figure, scale: float = 1.0) -> dict[str, Any]:
    """A figure as an analysis holds it: the value, its interval, or the reason that it is missing."""
    if figure.value is None:
        return {key: None, f"{key}_why": figure.reason or "not scored"}
    cell: dict[str, Any] = {key: figure.value * scale}
    if figure.ci95 is not None:
        cell[f"{key}_ci95"] = sorted(end * scale for end in figure.ci95)
    return cell


def score_columns(percent: bool) -> list[Column]:
    """The nine columns; ``percent`` writes the shares as the paper's Table 2 does, from 0 to 100."""
    shares: Format = "float2" if percent else "float3"
    wide = {"mt_bench", "alpaca_eval"}
    return [Column(key, title, "float2" if key in wide else shares) for key, title in NAMES.items()]


def score_cells(row: Scored, percent: bool) -> dict[str, Any]:
    """The nine cells of a row, with the number of scored items of all of them."""
    found: dict[str, Any] = {"n": sum(figure.n or 0 for figure in row.figures.values())}
    for key, figure in row.figures.items():
        found |= cells(key, figure, 100.0 if percent and key in SEVEN else 1.0)
    return found


def counts_note(rows: Sequence[Scored]) -> str:
    """Say how many items each column rests on."""
    words = []
    for key, title in NAMES.items():
        counts = sorted({row.figures[key].n or 0 for row in rows})
        if counts and counts[-1]:
            words.append(f"{title} {counts[0]}" + (f"-{counts[-1]}" if len(counts) > 1 else ""))
    plain = " AlpacaEval is the plain win rate: not every model has a length-controlled one."
    scored = f"Items scored: {', '.join(words)}." if words else "No item was scored."
    return scored + (plain if any(row.is_plain for row in rows) else "")
