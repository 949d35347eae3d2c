"""The figures in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evalsuite.suites.names import NOT_ASKED, OPENLLM_PARTS

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
    """Yield the rows of one model's table; a figure that is missing or no number is a dash."""
    suites = {name: part for name, part in suites.items() if isinstance(part, Mapping)}
    if part := suites.get("mt_bench"):
        yield Row(
            "MT-Bench (1–10)", _figure(part.get("score"), 2), _ci(part.get("ci95"), 2), "", _n(part), _missing(part)
        )
        for turn in ("1", "2"):
            yield Row(f"  turn {turn}", _figure(part.get(f"turn_{turn}"), 2))
    if part := suites.get("alpaca_eval"):
        n = str(part.get("n_total", _DASH))
        error = _plus_minus(part.get("standard_error"), 2)
        yield Row("AlpacaEval 2, win %", _figure(part.get("win_rate"), 2), error, "", n, _missing(part))
        reason = str(_object(part, "lc").get("reason") or "")
        error = _plus_minus(part.get("lc_standard_error"), 2)
        yield Row("  length-controlled", _figure(part.get("lc_win_rate"), 2), error, note=reason)
    if part := suites.get("openllm"):
        yield from _openllm_rows(part)
    for key, title in (("mixeval", "MixEval (0–1)"), ("mixeval_hard", "MixEval-Hard (0–1)")):
        if part := suites.get(key):
            yield Row(title, _figure(part.get("score"), 4), _ci(part.get("ci95"), 3), "", _n(part), _missing(part))


def _openllm_rows(part: Mapping[str, Any]) -> Iterator[Row]:
    reasons = _object(part, "unscored")
    for name in OPENLLM_PARTS:
        title, score = _PART_TITLES[name], _object(part, name)
        if not score:
            if (reason := str(reasons.get(name, ""))) != NOT_ASKED:
                yield Row(title, _DASH, note=reason)
            continue
        error = _plus_minus(score.get("stderr"), 4)
        normalised = _figure(score.get("normalized"), 1)
        yield Row(title, _figure(score.get("score"), 4), error, normalised, str(score.get("n", _DASH)), _missing(score))
    if not any(part.get(name) for name in OPENLLM_PARTS):
        tasks = _object(part, "tasks")
        for name in tasks:
            for metric, value in _object(tasks, name).items():
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
                notes.append(
                    f"{words}: {_figure(partial['mean'], 4)} over the {len(partial['parts'])} parts that are there"
                )
        console.print(table)
        for note in notes:
            console.print(f"– {note}", style="dim", highlight=False, markup=False)
        if judge and judge.get("note"):
            console.print(f"judge {judge['name']}: {judge['note']}.", style="yellow", markup=False)
        if document["data"] == "mini":
            console.print("[yellow]data mini: a handful of items that show the pipeline; not comparable with anything.")


def print_suite(console: Console, key: str, scores: Mapping[str, Any]) -> None:
    """Print the table of one scored suite."""
    table, notes = _table(score_rows({key: scores}), None)
    console.print(table)
    for note in notes:
        console.print(f"– {note}", style="dim", highlight=False, markup=False)


def _table(rows: Iterable[Row], title: str | None) -> tuple[Table, list[str]]:
    """Return the table of ``rows`` and the notes that belong below it."""
    table = Table(title=None if title is None else escape(title), title_justify="left", box=SIMPLE_HEAD)
    for column in ("suite", "score", "95 % / ± s.e.", "norm.", "n", "unscored"):
        left = column in {"suite", "unscored"}
        table.add_column(column, justify="left" if left else "right", no_wrap=column != "unscored")
    notes = []
    for row in rows:
        # Names and reasons may come from a foreign file: brackets in them are no markup.
        table.add_row(*(escape(cell) for cell in row[:-1]))
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
        table.add_row(*(_DASH if value is None else escape(str(value)) for value in row.values()))
    console.print(table)


def _object(part: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = part.get(name)
    return value if isinstance(value, Mapping) else {}


def _figure(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else _DASH


def _plus_minus(error: Any, digits: int) -> str:
    return f"± {error:.{digits}f}" if isinstance(error, int | float) else ""


def _ci(interval: Any, digits: int) -> str:
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        return ""
    return f"[{_figure(interval[0], digits)}, {_figure(interval[1], digits)}]"


def _n(part: Mapping[str, Any]) -> str:
    n, n_scored = part.get("n", _DASH), part.get("n_scored", _DASH)
    return str(n) if n_scored == n else f"{n_scored}/{n}"


def _missing(part: Mapping[str, Any]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in _object(part, "unscored").items() if count)
