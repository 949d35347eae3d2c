"""Preferences, judge cards and factor ratings in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

_DASH = "–"


def print_preferences(console: Console, document: Mapping[str, Any]) -> None:
    """Print the pairs, the matrix, the ranking and the flips, with the judge that they rest on."""
    judge = document.get("judge")
    by = f"judge {judge['name']} ({judge['method']})" if judge else "recorded ratings"
    title = f"{document['prompts']}  ·  {document['n_prompts']} prompts  ·  {by}"
    _print_pairs(console, document["pairs"], title)
    _print_matrix(console, document["matrix"])
    _print_ranking(console, document["ranking"])
    for flip in document["flips"]:
        console.print(
            escape(f"FlipCt({flip['dgm']}) = {flip['count']}   {flip['dgm']} > {flip['other']} > {flip['own']}"),
            highlight=False,
        )
    _print_categories(console, document["pairs"])
    for member in document.get("judges") or []:
        words = member["judge"]
        _print_pairs(console, member["pairs"], f"{words['name']} alone ({words['method']})")
    if mean := document.get("panel_mean"):
        _print_pairs(console, mean["pairs"], "mean of the panel")
    for each in (judge or {}).get("members") or ([judge] if judge else []):
        print_judge(console, each)
    for note in document["notes"]:
        console.print(f"[yellow]{escape(note)}")


def print_judge(console: Console, judge: Mapping[str, Any]) -> None:
    """Print what is known about a judge."""
    for note in judge.get("notes") or []:
        console.print(f"[yellow]judge {escape(judge['name'])}: {escape(note)}")
    card = judge.get("card")
    if card is None:
        console.print(
            f"[yellow]judge {escape(judge['name'])} has no card: measure it with evalsuite judge-card", highlight=False
        )
        return
    other = f" (card of the method {card['method']})" if card.get("method") != judge["method"] else ""
    for words in card.get("words") or []:
        console.print(f"judge {escape(judge['name'])}{other}: {escape(words)}", highlight=False)


def print_card(console: Console, card: Mapping[str, Any]) -> None:
    """Print a judge card."""
    judge, figures = card["judge"], card["agreement"]
    table = Table(title=f"{judge['name']} ({judge['method']})  ·  {card['pairs']['n']} pairs", title_justify="left")
    for column in ("measured", "figure", "95 %", "n"):
        table.add_column(column, justify="left" if column == "measured" else "right")
    table.add_row(
        "agreement with people", _percent(figures["accuracy"]), _ci(figures["ci95"]), str(figures["n_decided"])
    )
    table.add_row("  Cohen's kappa", _figure(figures["kappa"]), _ci(figures["kappa_ci95"], percent=False), "")
    if strict := figures["both_orders"]:
        table.add_row(
            "  right in both orders", _percent(strict["accuracy"]), _ci(strict["ci95"]), str(figures["n_scored"])
        )
    if position := card["position_bias"]:
        table.add_row(
            "first place wins", _percent(position["first_rate"]), _ci(position["ci95"]), str(position["n_games"])
        )
        table.add_row(
            "  verdict turns with the order", _percent(position["flip_rate"]), _ci(position["flip_rate_ci95"])
        )
    for name, words in (("length_bias", "prefers the longer"), ("self_preference", "prefers its own")):
        if bias := card[name]:
            table.add_row(words, _percent(bias["judge_rate"]), _ci(bias["judge_ci95"]), str(bias["n"]))
            table.add_row("  people do", _percent(bias["people_rate"]))
    if noise := card["repeat_noise"]:
        table.add_row("changes when asked again", _percent(noise["changed"]), _ci(noise["ci95"]), str(noise["n"]))
    failures = card["failures"]
    table.add_row("without a verdict", str(sum(failures["unscored"].values())), "", str(failures["n_games"]))
    if attacks := card["attacks"]:
        together, empty = attacks["all"], attacks["empty_answer"] or {}
        table.add_row("attacks win", _percent(together["success_rate"]), "", str(together["n_scored"]))
        table.add_row("  an empty answer wins", _percent(empty.get("success_rate")), "", str(empty.get("n_scored", "")))
        table.add_row(
            "  gain over an empty answer", _figure(together["gain"]), _ci(together["gain_ci95"], percent=False)
        )
    console.print(table)
    for words in card["conclusions"]["words"]:
        console.print(f"{escape(judge['name'])}: {escape(words)}", highlight=False)
    for note in judge["notes"]:
        console.print(f"[yellow]{escape(note)}")


def print_factors(console: Console, document: Mapping[str, Any]) -> None:
    """Print the factor ratings of one model."""
    judge = document["judge"]
    table = Table(
        title=f"{document['model']['name']}  ·  {document['prompts']}  ·  judge {judge['name']}", title_justify="left"
    )
    for column in ("factor", "1–10", "95 %", "n", "unscored"):
        table.add_column(column, justify="left" if column in {"factor", "unscored"} else "right")
    for name, row in [*document["factors"].items(), ("mean", document["mean"])]:
        missing = ", ".join(f"{reason} {count}" for reason, count in row["unscored"].items())
        table.add_row(name, _figure(row["score"]), _ci(row["ci95"], percent=False), str(row["n_scored"]), missing)
    console.print(table)
    print_judge(console, judge)
    for note in document["notes"]:
        console.print(f"[yellow]{escape(note)}")


def _print_pairs(console: Console, pairs: Sequence[Mapping[str, Any]], title: str) -> None:
    table = Table(title=escape(title), title_justify="left")
    for column in ("model", "over", "preferred", "95 %", "ties", "unscored", "flips", "first place", "p (Holm)"):
        table.add_column(column, justify="left" if column in {"model", "over"} else "right", overflow="fold")
    for pair in pairs:
        bias, flips = pair["position_bias"], pair["position_flips"]
        common = (
            str(pair["ties"]),
            str(pair["unscored"]),
            _DASH if flips is None else str(flips),
            _percent(bias["first_rate"]) if bias else _DASH,
            f"{pair['p_value_holm']:.3g}",
        )
        a, b = escape(pair["a"]), escape(pair["b"])
        table.add_row(a, b, _percent(pair["rate_a"]), _ci(pair["ci95_a"]), *common)
        table.add_row(b, a, _percent(pair["rate_b"]), _ci(pair["ci95_b"]), end_section=True)
    console.print(table)


def _print_matrix(console: Console, matrix: Mapping[str, Any]) -> None:
    table = Table(title="row preferred over column, % of prompts", title_justify="left")
    table.add_column("")
    flips = matrix["flip_counts"] if any(matrix["flip_counts"]) else None
    for model in [*matrix["models"], *(["FlipCt"] if flips else [])]:
        table.add_column(escape(model), justify="right", overflow="fold")
    for number, model in enumerate(matrix["models"]):
        cells = [_DASH if value is None else f"{value:.2f}" for value in matrix["percent_row_over_column"][number]]
        if flips:
            cells.append(escape(_flip_cell(flips[number])))
        table.add_row(escape(model), *cells)
    console.print(table)


def _flip_cell(by_own: Mapping[str, Mapping[str, int]] | None) -> str:
    """Write a DGM's flips, one number for each other SFT; a named line for each SFT of its own where it has several."""
    if not by_own:
        return _DASH
    lines = {own: ", ".join(str(count) for count in by_other.values()) for own, by_other in by_own.items()}
    return "\n".join(lines.values() if len(lines) == 1 else [f"{own}: {counts}" for own, counts in lines.items()])


def _print_ranking(console: Console, ranking: Sequence[Mapping[str, Any]]) -> None:
    table = Table(title="Bradley–Terry strength (log-odds, sum 0)", title_justify="left")
    for column in ("model", "strength", "95 %"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for row in ranking:
        table.add_row(escape(row["model"]), _figure(row["bradley_terry"]), _ci(row["ci95"], percent=False))
    console.print(table)
    if any(row["added_ties"] for row in ranking):
        console.print("a model never lost or never won: one tie a pair was added to the ranking, so that it is finite")


def _print_categories(console: Console, pairs: Sequence[Mapping[str, Any]]) -> None:
    for pair in pairs:
        if not pair["categories"]:
            continue
        table = Table(title=escape(f"{pair['a']} and {pair['b']} by category"), title_justify="left")
        for column in ("category", "a preferred", "b preferred", "ties", "unscored"):
            table.add_column(column, justify="left" if column == "category" else "right")
        for name, row in pair["categories"].items():
            table.add_row(
                escape(name),
                f"{_percent(row['rate_a'])} {_ci(row['ci95_a'])}",
                f"{_percent(row['rate_b'])} {_ci(row['ci95_b'])}",
                str(row["ties"]),
                str(row["unscored"]),
            )
        console.print(table)


def _percent(value: float | None) -> str:
    return _DASH if value is None else f"{100 * value:.1f} %"


def _figure(value: float | None) -> str:
    return _DASH if value is None else f"{value:.2f}"


def _ci(interval: Sequence[float] | None, *, percent: bool = True) -> str:
    if not interval:
        return ""
    low, high = (f"{100 * end:.0f}" if percent else f"{end:.2f}" for end in interval)
    return f"\\[{low}, {high}]"
