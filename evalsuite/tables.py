"""The figures in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from evalsuite.documents import Scores
from evalsuite.records.answers import how_answers_ended, how_verdicts_ended
from evalsuite.results.averages import AVERAGES
from evalsuite.suites.figures import DASH, Line, shown, shown_interval
from evalsuite.suites.registry import iter_suites, suite_of_key
from evalsuite.suites.repeats import said_of_repeats
from evalsuite.terminal import Console


def print_models(console: Console, models: Sequence[Scores]) -> None:
    """Print one table per model, with the judge and the data that its figures rest on."""
    for scores in models:
        judge = scores.judge
        variant = f" ({scores.variant})" if scores.variant else ""
        weights = f" · {scores.model.quantization}" if scores.model.quantization else ""
        title = f"{scores.model.name}{variant}{weights} · data {scores.data}"
        if scores.limit is not None:
            title += f", limit {scores.limit}"
        title += f" · judge {judge.name}" if judge else " · no judge"
        lines = [
            line for key, suite in iter_suites(list(scores.suites)) for line in suite.lines(key, scores.suites[key])
        ]
        table, notes = _table(lines, title)
        for name, average in AVERAGES.items():
            partial = (scores.average.get("partial") or {}).get(name)
            if scores.average.get(name) is None and not partial:
                continue  # none of its parts was run
            table.add_row(f"[bold]{average.line}", f"[bold]{shown(scores.average.get(name), 4)}", "", "", "", "")
            if partial:
                parts = ", ".join(partial["parts"])
                notes.append(f"{average.line}: {shown(partial['mean'], 4)} over {parts} alone")
        notes += [
            f"{key}: no suite of that name is installed here; install its package to see the figures"
            for key in scores.suites
            if suite_of_key(key) is None
        ]
        notes += [
            line
            for key, one in scores.suites.items()
            if "repeats" in one
            for line in said_of_repeats(key, one["repeats"])
        ]
        notes += filter(None, (how_answers_ended(key, counts) for key, counts in scores.answers.items()))
        notes += _verdict_notes(scores.suites)
        _print(console, table, notes)
        _print_panel(console, scores)
        if judge and judge.note:
            console.print(f"judge {judge.name}: {judge.note}.", style="yellow", markup=False)
        if scores.data == "mini":
            console.print("[yellow]data mini: a handful of items that show the pipeline; not comparable with anything.")


def _print_panel(console: Console, scores: Scores) -> None:
    """Print the figures of each judge of a panel alone, and how far the judges agree."""
    members = scores.judge.members if scores.judge else ()
    if not members:
        return
    own = {one.judge.key: one.suites for one in scores.judged}
    lines: list[Line] = []
    notes: list[str] = []
    for key, suite in iter_suites([key for key, figures in scores.suites.items() if figures.get("panel")]):
        for member in members:
            figures = own.get(member.fingerprint or "", {}).get(key) or {}
            first = next(iter(suite.lines(key, figures)), Line(key, DASH))
            weight = "" if len({one.weight for one in members}) == 1 else f" (weight {member.weight:.2f})"
            lines.append(first._replace(suite=f"{first.suite}, {member.name}{weight}"))
            notes += _verdict_notes({key: figures}, f" ({member.name})")
        notes += _agreement_notes(key, scores.suites[key]["panel"])
    table, more = _table(lines, "each judge alone")
    _print(console, table, [*notes, *more])


def _verdict_notes(suites: Mapping[str, Mapping[str, Any]], whose: str = "") -> list[str]:
    counted = {key: one["verdicts"] for key, one in suites.items() if isinstance(one.get("verdicts"), Mapping)}
    return list(filter(None, (how_verdicts_ended(f"{key}{whose}", counts) for key, counts in counted.items())))


def _agreement_notes(key: str, panel: Mapping[str, Any]) -> Iterable[str]:
    # Figures of earlier versions have no interval of alpha.
    alpha = f"{shown(panel['alpha'], 2)} {shown_interval(panel.get('alpha_ci95'), 2)}".strip()
    yield (
        f"{key}: Krippendorff's alpha {alpha}; the judges differ by more than a fifth of the scale "
        f"on {panel['disputed']} of {panel['n']} items"
    )
    for pair in panel["pairs"]:
        kappa = f"{shown(pair['kappa'], 2)} {shown_interval(pair['kappa_ci95'], 2)}".strip()
        alike = shown(None if pair["alike"] is None else 100 * pair["alike"], 0)
        yield f"{key}: {pair['a']} and {pair['b']}: kappa {kappa}, agree on {alike} % of {pair['n']} items"


def print_suite(console: Console, key: str, scores: Mapping[str, Any]) -> None:
    """Print the table of one scored suite."""
    suite = suite_of_key(key)
    _print(console, *_table([] if suite is None else suite.lines(key, scores), None))


def print_rows(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print plain rows, one column per key."""
    if not rows:
        console.print("nothing")
        return
    table = Table()
    for column in rows[0]:
        table.add_column(str(column), overflow="fold")
    for row in rows:
        table.add_row(*(DASH if value is None else escape(str(value)) for value in row.values()))
    console.print(table)


def _table(lines: Iterable[Line], title: str | None) -> tuple[Table, list[str]]:
    """Return the table of ``lines`` and the notes that belong below it."""
    table = Table(title=None if title is None else escape(title), title_justify="left", box=SIMPLE_HEAD)
    for column in ("suite", "score", "95 % / ± s.e.", "norm.", "n", "unscored"):
        left = column in {"suite", "unscored"}
        table.add_column(column, justify="left" if left else "right", no_wrap=column not in {"suite", "unscored"})
    notes = []
    for line in lines:
        # Names and reasons may come from somebody's file: brackets in them are not markup.
        table.add_row(*(escape(cell) for cell in line[:-1]))
        if line.note:
            notes.append(f"{line.suite.strip()}: {line.note}")
    return table, notes


def _print(console: Console, table: Table, notes: Sequence[str]) -> None:
    console.print(table)
    for note in notes:
        console.print(f"– {note}", style="dim", highlight=False, markup=False)
