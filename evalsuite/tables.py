"""The figures in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from evalsuite.suites.names import OPENLLM_PARTS

_DASH = "–"


class Row(NamedTuple):
    """One line of the table: a figure with its interval, how many items it rests on, and what is missing."""

    suite: str
    figure: str
    interval: str
    n: str
    unscored: str


def score_rows(suites: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows of one model's table."""
    if part := suites.get("mt_bench"):
        yield Row("MT-Bench (1–10)", _figure(part["score"], 2), _ci(part.get("ci95"), 2), _n(part), _missing(part))
        turns = f"turns {_figure(part.get('turn_1'), 2)} / {_figure(part.get('turn_2'), 2)}"
        yield Row("", turns, "", "", "")
    if part := suites.get("alpaca_eval"):
        error = f"± {part['standard_error']:.2f}" if part.get("standard_error") is not None else ""
        lc_error = f"± {part['lc_standard_error']:.2f}" if part.get("lc_standard_error") is not None else ""
        yield Row("AlpacaEval 2 win rate %", _figure(part["win_rate"], 2), error, str(part["n_total"]), _missing(part))
        reason = (part.get("lc") or {}).get("reason") or ""
        yield Row("  length-controlled %", _figure(part["lc_win_rate"], 2), lc_error, "", reason)
    if part := suites.get("openllm"):
        yield from _openllm_rows(part)
    for key, title in (("mixeval", "MixEval (0–1)"), ("mixeval_hard", "MixEval-Hard (0–1)")):
        if part := suites.get(key):
            yield Row(title, _figure(part["score"], 4), _ci(part.get("ci95"), 4), _n(part), _missing(part))


def _openllm_rows(part: Mapping[str, Any]) -> Iterator[Row]:
    reasons = part.get("unscored") or {}
    for name in OPENLLM_PARTS:
        score = part.get(name)
        if score is None:
            if (reason := str(reasons.get(name, ""))) != "not asked for":
                yield Row(name.upper(), _DASH, "", "", reason)
            continue
        error = f"± {score['stderr']:.4f}" if score.get("stderr") is not None else ""
        normalized = f"{_figure(score['score'], 4)}  (normalised {_figure(score.get('normalized'), 1)})"
        yield Row(name.upper(), normalized, error, str(score["n"]), _missing(score))
    for name, metrics in (part.get("tasks") or {}).items():
        if any(part.get(known) for known in OPENLLM_PARTS):
            break
        figures = {key: value for key, value in metrics.items() if isinstance(value, float) and "stderr" not in key}
        yield Row(name, ", ".join(f"{key} {value:.4f}" for key, value in figures.items()), "", "", "")


def print_models(console: Console, models: Sequence[Mapping[str, Any]]) -> None:
    """Print one table a model, with the judge and the data that its figures rest on."""
    for document in models:
        judge = document.get("judge")
        title = f"{document['model']['name']}  ·  data {document['data']}"
        if document["limit"] is not None:
            title += f", limit {document['limit']}"
        title += f"  ·  judge {judge['name']}" if judge else "  ·  no judge"
        table = Table(title=title, title_justify="left")
        for column in ("suite", "score", "95 % / ± s.e.", "n", "unscored"):
            table.add_column(column, justify="left" if column in {"suite", "unscored"} else "right", overflow="fold")
        for row in score_rows(document["suites"]):
            table.add_row(*row)
        for name, words in (
            ("paper", "mean of 7 (paper)"),
            ("nine", "mean of 9"),
            ("leaderboard_v2", "leaderboard v2"),
        ):
            value = document["average"].get(name)
            partial = (document["average"].get("partial") or {}).get(name)
            note = f"{partial['mean']:.4f} over {len(partial['parts'])} parts" if partial else ""
            table.add_row(f"[bold]{words}", _figure(value, 4), "", "", note)
        console.print(table)
        if judge and judge.get("note"):
            console.print(f"[yellow]judge {judge['name']}: {judge['note']}.")
        if document["data"] == "mini":
            console.print("[yellow]data mini: a handful of items that show the pipeline; not comparable with anything.")


def print_suite(console: Console, key: str, scores: Mapping[str, Any]) -> None:
    """Print the table of one scored suite."""
    table = Table()
    for column in ("suite", "score", "95 % / ± s.e.", "n", "unscored"):
        table.add_column(column, overflow="fold")
    for row in score_rows({key: scores}):
        table.add_row(*row)
    console.print(table)


def print_rows(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print plain rows, one column a key."""
    if not rows:
        console.print("nothing")
        return
    table = Table()
    for column in rows[0]:
        table.add_column(str(column), overflow="fold")
    for row in rows:
        table.add_row(*(_DASH if value is None else str(value) for value in row.values()))
    console.print(table)


def _figure(value: Any, digits: int) -> str:
    return _DASH if value is None else f"{value:.{digits}f}"


def _ci(interval: Any, digits: int) -> str:
    return f"[{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]".replace("[", "\\[") if interval else ""


def _n(part: Mapping[str, Any]) -> str:
    return f"{part['n_scored']}/{part['n']}" if part["n_scored"] != part["n"] else str(part["n"])


def _missing(part: Mapping[str, Any]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in (part.get("unscored") or {}).items() if count)
