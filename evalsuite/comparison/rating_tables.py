"""Ratings in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from evalsuite.comparison.rating_figures import MEAN
from evalsuite.comparison.tables import DASH, figure_text, interval_text, new_table, print_judge
from evalsuite.rating_documents import RatingFigures, Ratings
from evalsuite.terminal import Console
from evalsuite.text import plural
from judges.rating_card import CORRELATIONS


def print_ratings(console: Console, document: Ratings) -> None:
    """Print the ratings by factor, their differences between models, and by category."""
    _print_factors(console, document)
    _print_differences(console, document)
    _print_categories(console, document)
    for model in document.models:
        missing = sum((Counter(figures.unscored) for figures in model.factors.values()), Counter())
        if missing:
            reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(missing.items()))
            console.print(f"[yellow]{escape(model.name)}: missing ratings: {reasons}", highlight=False)
    print_judge(console, document.judge)
    for note in document.notes:
        console.print(f"[yellow]{escape(note)}", highlight=False)


def print_rating_card(console: Console, card: Mapping[str, Any]) -> None:
    judge, labels = card["judge"], card["labels"]
    title = escape(f"{judge['name']} ({judge['method']})  ·  {plural(labels['n'], 'answer')} of {labels['name']}")
    headings = ("Spearman", "95 %", "Kendall", "95 %", "Pearson", "95 %", "by length", "people", "judge", "n")
    table = new_table(title, "factor", *headings)
    for name, figures in card["factors"].items():
        cells = []
        for kind in CORRELATIONS:
            cells += [figure_text(figures[kind]["value"]), _interval(figures[kind]["ci95"])]
        cells += [figure_text(figures["length"]["value"])]
        cells += [figure_text(figures[mean]) for mean in ("people_mean", "judge_mean")]
        table.add_row(escape(name), *cells, str(figures["n_scored"]))
        for category, one in (figures["categories"] or {}).items():
            row = [figure_text(one["value"]), _interval(one["ci95"]), *[""] * 7, str(one["n"])]
            table.add_row(f"  {escape(category)}", *row)
    console.print(table)
    for conclusion in card["conclusions"]["words"]:
        console.print(f"{escape(judge['name'])}: {escape(conclusion)}", highlight=False)
    for note in judge["notes"]:
        console.print(f"[yellow]{escape(note)}", highlight=False)


def _print_factors(console: Console, document: Ratings) -> None:
    title = f"{document.prompts}  ·  {plural(document.n_prompts, 'prompt')}  ·  judge {document.judge.name}"
    known = (document.judge.card.factors if document.judge.card else None) or {}
    headings = [heading for model in document.models for heading in (escape(model.name), "95 %", "n")]
    table = new_table(escape(title), "factor", "scale", *headings, *(["ρ with people"] if known else []))
    for key, factor in document.factors.items():
        scale = DASH if factor.scale is None else f"{factor.scale[0]}–{factor.scale[1]}"
        _add(
            table,
            [escape(key), scale],
            [model.factors.get(key) for model in document.models],
            [_rho(known.get(key))] * bool(known),
        )
    means = [model.mean for model in document.models]
    if any(means) and len(document.factors) > 1:
        _add(table, [MEAN, ""], means, [""] * bool(known))
    console.print(table)


def _add(table: Table, cells: list[str], figures: Sequence[RatingFigures | None], more: Sequence[str] = ()) -> None:
    for one in figures:
        cells += [DASH, "", ""] if one is None else [figure_text(one.score), _interval(one.ci95), str(one.n_scored)]
    table.add_row(*cells, *more)


def _rho(figures: dict[str, object] | None) -> str:
    value, interval = (figures or {}).get("value"), (figures or {}).get("ci95")
    if not isinstance(value, float):
        return DASH
    return f"{value:z.2f} {_interval(interval)}" if isinstance(interval, list | tuple) else f"{value:z.2f}"


def _print_differences(console: Console, document: Ratings) -> None:
    if not document.differences:
        return
    table = new_table(
        "paired differences", "factor", "model", "minus", "difference", "95 %", "n", "p (Holm)", left="minus"
    )
    for one in document.differences:
        p = DASH if one.p_value_holm is None else f"{one.p_value_holm:.3g}"
        difference = DASH if one.difference is None else f"{one.difference:+z.2f}"
        interval = _interval(one.ci95)
        table.add_row(escape(one.factor), escape(one.a), escape(one.b), difference, interval, str(one.n), p)
    console.print(table)


def _print_categories(console: Console, document: Ratings) -> None:
    """Print the ratings by category: the mean of all factors, and without one each factor."""
    first = document.models[0]
    if not first.categories:
        return
    has_mean = first.mean is not None and len(document.factors) > 1
    for key in [MEAN] if has_mean else list(document.factors):
        headings = [heading for model in document.models for heading in (escape(model.name), "95 %", "n")]
        table = new_table(escape(f"{key} by category"), "category", *headings)
        for name in first.categories:
            _add(table, [escape(name)], [(model.categories or {}).get(name, {}).get(key) for model in document.models])
        console.print(table)


def _interval(interval: Sequence[float] | None) -> str:
    return interval_text(interval, percent=False)
