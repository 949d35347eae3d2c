"""The figures in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from evalsuite.suites.names import OPENLLM_PARTS

_DASH = "–"
_PART_TITLES = {
    "bbh": "BBH",
    "gpqa": "GPQA",
    "math": "MATH",
    "musr": "MuSR",
    "ifeval": "IFEval",
    "mmlu_pro": "MMLU-Pro",
}


class Row(NamedTuple):
    """One line of the table; ``note`` is said below it."""

    suite: str
    score: str
    interval: str = ""
    normalised: str = ""
    n: str = ""
    unscored: str = ""
    note: str = ""


def score_rows(suites: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows of one model's table."""
    if part := suites.get("mt_bench"):
        yield Row("MT-Bench (1–10)", _figure(part["score"], 2), _ci(part.get("ci95"), 2), "", _n(part), _missing(part))
        for turn in ("1", "2"):
            yield Row(f"  turn {turn}", _figure(part.get(f"turn_{turn}"), 2))
    if part := suites.get("alpaca_eval"):
        n = str(part["n_total"])
        error = _plus_minus(part.get("standard_error"), 2)
        yield Row("AlpacaEval 2, win %", _figure(part["win_rate"], 2), error, "", n, _missing(part))
        reason = (part.get("lc") or {}).get("reason") or ""
        error = _plus_minus(part.get("lc_standard_error"), 2)
        yield Row("  length-controlled", _figure(part["lc_win_rate"], 2), error, note=reason)
    if part := suites.get("openllm"):
        yield from _openllm_rows(part)
    for key, title in (("mixeval", "MixEval (0–1)"), ("mixeval_hard", "MixEval-Hard (0–1)")):
        if part := suites.get(key):
            yield Row(title, _figure(part["score"], 4), _ci(part.get("ci95"), 3), "", _n(part), _missing(part))


def _openllm_rows(part: Mapping[str, Any]) -> Iterator[Row]:
    reasons = part.get("unscored") or {}
    for name in OPENLLM_PARTS:
        title, score = _PART_TITLES[name], part.get(name)
        if score is None:
            if (reason := str(reasons.get(name, ""))) != "not asked for":
                yield Row(title, _DASH, note=reason)
            continue
        error = _plus_minus(score.get("stderr"), 4)
        normalised = _figure(score.get("normalized"), 1)
        yield Row(title, _figure(score["score"], 4), error, normalised, str(score["n"]), _missing(score))
    if not any(part.get(name) for name in OPENLLM_PARTS):
        for name, metrics in (part.get("tasks") or {}).items():
            for metric, value in metrics.items():
                if isinstance(value, float) and "stderr" not in metric:
                    yield Row(f"{name} {metric.partition(',')[0]}", f"{value:.4f}")


def print_models(console: Console, models: Sequence[Mapping[str, Any]]) -> None:
    """Print one table a model, with the judge and the data that its figures rest on."""
    for document in models:
        judge = document.get("judge")
        title = f"{document['model']['name']} · data {document['data']}"
        if document["limit"] is not None:
            title += f", limit {document['limit']}"
        title += f" · judge {judge['name']}" if judge else " · no judge"
        table, notes = _table(score_rows(document["suites"]), title)
        for name, words in (
            ("paper", "mean of 7 (paper)"),
            ("nine", "mean of 9"),
            ("leaderboard_v2", "leaderboard v2"),
        ):
            value = document["average"].get(name)
            partial = (document["average"].get("partial") or {}).get(name)
            table.add_row(f"[bold]{words}", f"[bold]{_figure(value, 4)}", "", "", "", "")
            if partial:
                notes.append(f"{words}: {partial['mean']:.4f} over the {len(partial['parts'])} parts that are there")
        console.print(table)
        for note in notes:
            console.print(f"– {note}", style="dim", highlight=False)
        if judge and judge.get("note"):
            console.print(f"[yellow]judge {judge['name']}: {judge['note']}.")
        if document["data"] == "mini":
            console.print("[yellow]data mini: a handful of items that show the pipeline; not comparable with anything.")


def print_suite(console: Console, key: str, scores: Mapping[str, Any]) -> None:
    """Print the table of one scored suite."""
    table, notes = _table(score_rows({key: scores}), None)
    console.print(table)
    for note in notes:
        console.print(f"– {note}", style="dim", highlight=False)


def _table(rows: Iterable[Row], title: str | None) -> tuple[Table, list[str]]:
    """Return the table of ``rows`` and the notes that belong below it."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("suite", "score", "95 % / ± s.e.", "norm.", "n", "unscored"):
        left = column in {"suite", "unscored"}
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "unscored")
    notes = []
    for row in rows:
        table.add_row(*row[:-1])
        if row.note:
            notes.append(f"{row.suite.strip()}: {row.note}")
    return table, notes


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


def _plus_minus(error: Any, digits: int) -> str:
    return "" if error is None else f"± {error:.{digits}f}"


def _ci(interval: Any, digits: int) -> str:
    return f"[{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]".replace("[", "\\[") if interval else ""


def _n(part: Mapping[str, Any]) -> str:
    return f"{part['n_scored']}/{part['n']}" if part["n_scored"] != part["n"] else str(part["n"])


def _missing(part: Mapping[str, Any]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in (part.get("unscored") or {}).items() if count)
