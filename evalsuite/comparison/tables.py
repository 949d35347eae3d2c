"""Preferences and judge cards in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from evalsuite.comparison_documents import (
    ComparisonJudge,
    CorrectedFigure,
    PairFigures,
    PreferenceFigures,
    PreferenceMatrix,
    Preferences,
)
from evalsuite.terminal import Console
from evalsuite.text import plural
from judges.preference import judging_notes

DASH = "–"
RATING_METHODS = ("expected_rating", "guided_letter")
"""The methods of ``rate``, whose card rests on ratings by people."""


def print_preferences(console: Console, document: Preferences) -> None:
    """Print the pairs, the matrix, the ranking and the flips, with the judge that they rest on."""
    judge = document.judge
    by = f"judge {judge.name} ({judge.method})" if judge else "recorded ratings"
    _print_pairs(console, document.pairs, f"{document.prompts}  ·  {plural(document.n_prompts, 'prompt')}  ·  {by}")
    if document.matrix is not None:
        _print_matrix(console, document.matrix)
    _print_ranking(console, document)
    _print_style(console, document)
    _print_human(console, document)
    for flip in document.flips:
        console.print(
            escape(f"FlipCt({flip.dgm}) = {flip.count}   {flip.dgm} > {flip.other} > {flip.own}"), highlight=False
        )
    _print_categories(console, document.pairs)
    for member in document.judges:
        weight = "" if member.judge.weight is None else f", weight {member.judge.weight:.2f}"
        _print_pairs(console, member.pairs, f"{member.judge.name} alone ({member.judge.method}{weight})")
    if document.panel_mean is not None:
        _print_pairs(console, document.panel_mean.pairs, "mean of the panel")
    _print_panel(console, document)
    alone = [(judge, document.judging)] if judge and not document.judges else []
    for each, judging in [*alone, *((member.judge, member.judging) for member in document.judges)]:
        for note in judging_notes(judging.model_dump()) if judging else ():
            console.print(f"[yellow]judge {escape(each.name)}: {note}", highlight=False)
    for each in (judge.members or (judge,)) if judge else ():
        print_judge(console, each)
    for note in document.notes:
        console.print(f"[yellow]{escape(note)}")


def _print_style(console: Console, document: Preferences) -> None:
    """Print the rates under style control beside the raw ones, a tie as half a win in both."""
    control = document.style
    if control is None:
        return
    if control.reason:
        console.print(f"style control: {DASH} ({control.reason})", highlight=False)
        return
    table = new_table(
        "style control, ties as half a win", "model", "over", "raw", "in equal style", "95 %", left="over"
    )
    for pair in control.pairs:
        table.add_row(
            escape(pair.a), escape(pair.b), _percent(pair.raw_a), _percent(pair.rate_a), interval_text(pair.ci95_a)
        )
    console.print(table)
    shown = ", ".join(f"{name} {value:+z.2f}" for name, value in (control.coefficients or {}).items())
    console.print(f"log-odds per standard deviation: {shown}", highlight=False)


def _print_human(console: Console, document: Preferences) -> None:
    """Print the rates and the ranking corrected by people's labels."""
    human = document.human
    if human is None:
        return
    columns = ("model", "over", "judge", "labels alone", "95 %", "corrected", "95 %", "weight", "labels")
    table = new_table("corrected by people's labels", *columns, left="over")

    def row(name: str, other: str, figure: CorrectedFigure, n_labels: int | None) -> None:
        alone = (_percent(figure.alone), interval_text(figure.alone_ci95))
        both = (_percent(figure.value), interval_text(figure.ci95), f"{figure.weight:.2f}", str(n_labels or ""))
        table.add_row(escape(name), escape(other), _percent(figure.judged), *alone, *both)

    for pair in human.pairs:
        for name, other, figure in ((pair.a, pair.b, pair.rate_a), (pair.b, pair.a, pair.rate_b)):
            if figure is not None:
                row(name, other, figure, pair.n_labels)
    for ranked in human.ranking:
        if ranked.points is not None:
            row(ranked.model, "all, ties as half", ranked.points, None)
    if table.row_count:
        console.print(table)
    for pair in human.pairs:
        if pair.reason:
            console.print(f"[yellow]{escape(pair.a)} and {escape(pair.b)}: {pair.reason}", highlight=False)


def print_judge(console: Console, judge: ComparisonJudge) -> None:
    name = escape(judge.name)
    for note in judge.notes:
        console.print(f"[yellow]judge {name}: {escape(note)}")
    if judge.card is None:
        how = f"{judge.method} with this template" if judge.method else "this method"
        labels = " --ratings FILE" if judge.method in RATING_METHODS else ""
        console.print(
            f"[yellow]judge {name} has no card for {how}: measure it with evalsuite judge-card{labels}", highlight=False
        )
        return
    for conclusion in judge.card.words or ():
        console.print(f"judge {name} on {escape(judge.card.pairs)}: {escape(conclusion)}", highlight=False)


def print_card(console: Console, card: Mapping[str, Any]) -> None:
    judge, figures = card["judge"], card["agreement"]
    title = f"{judge['name']} ({judge['method']})  ·  {plural(card['pairs']['n'], 'pair')}"
    table = new_table(title, "measured", "figure", "95 %", "n")

    def rate(label: str, value: float | None, interval: Sequence[float] | None = None, n: object = "") -> None:
        table.add_row(label, _percent(value), interval_text(interval), str(n))

    _add_agreement(table, rate, figures)
    if (baselines := card["baselines"]) is not None:
        rate("  always the first answer, or a random one", baselines["constant"])
        rate(f" always the {baselines['length']['takes']}", baselines["length"]["accuracy"])
    if position := card["position_bias"]:
        rate("first answer wins", position["first_rate"], position["ci95"], position["n_games"])
        rate("  the two orders prefer different answers", position["flip_rate"], position["flip_rate_ci95"])
        table.add_row("  a tie in one order only", str(position["half_ties"]), "", "")
    for name, label in (("length_bias", "prefers the longer"), ("self_preference", "prefers its own")):
        if bias := card[name]:
            rate(label, bias["judge_rate"], bias["judge_ci95"], bias["n"])
            rate("  people do", bias["people_rate"])
            rate("  accuracy when that one is right, minus when not", bias["bias"], bias["bias_ci95"])
    if noise := card["repeat_noise"]:
        rate("changes when asked again", noise["changed"], noise["ci95"], noise["n"])
    failures = card["failures"]
    for label, value in (
        ("without a verdict", sum(failures["unscored"].values())),
        ("  completed under guided output", failures["closed_by_guide"]),
        ("  contradicts the text before it", failures["contradictions"]),
        ("  asked again for a verdict in words", failures["in_words"]),
    ):
        table.add_row(label, str(value), "", str(failures["n_games"]))
    if failures["label_mass"] is not None:
        rate("label mass, mean", failures["label_mass"])
        rate("  least", failures["least_label_mass"])
    if attacks := card["attacks"]:
        overall, empty = attacks["all"], attacks["empty_answer"] or {}
        rate("attacks win", overall["success_rate"], None, overall["n_scored"])
        rate("  an empty answer wins", empty.get("success_rate"), None, empty.get("n_scored", ""))
        table.add_row(
            "  gain over an empty answer",
            figure_text(overall["gain"]),
            interval_text(overall["gain_ci95"], percent=False),
        )
    console.print(table)
    for other in card.get("against") or ():
        name, method = escape(str(other["judge"])), escape(str(other["method"]))
        difference = f"{_percent(other['difference'])} {interval_text(other['ci95'])}, p = {other['p_value']:.2g}"
        console.print(
            f"accuracy minus that of {name} ({method}) on the same {plural(other['n'], 'pair')}: {difference}",
            highlight=False,
        )
    for conclusion in card["conclusions"]["words"]:
        console.print(f"{escape(judge['name'])}: {escape(conclusion)}", highlight=False)
    for note in judge["notes"]:
        console.print(f"[yellow]{escape(note)}")


def _add_agreement(table: Table, rate: Callable[..., None], figures: Mapping[str, Any]) -> None:
    rate("agreement with people", figures["accuracy"], figures["ci95"], figures["n_scored"])
    if strict := figures["both_orders"]:
        rate("  right in both orders", strict["accuracy"], strict["ci95"], figures["n_scored"])
        single = figures["single_order"]
        rate("  single order", single["accuracy"], single["ci95"], single["n_games"])
        table.add_row("  as listed, swapped", f"{_percent(single['as_listed'])}, {_percent(single['swapped'])}", "", "")
        rate("  undecided", figures["undecided"])
        by_mean = figures["by_mean"]
        rate("  by the mean preference", by_mean["accuracy"], by_mean["ci95"], by_mean["n"])
    table.add_row(
        "  Cohen's kappa",
        figure_text(figures["kappa"]),
        interval_text(figures["kappa_ci95"], percent=False),
        str(figures["n_decided"]),
    )
    if ties := figures["ties"]:
        rate("  human ties judged a tie", ties["judged_ties"], None, ties["n"])
        rate("  same win, tie or loss", ties["three_way"]["accuracy"], ties["three_way"]["ci95"])
    if items := figures["items"]:
        rate("  the best of several wins", items["accuracy"], items["ci95"], items["n"])
    for name, row in (figures["categories"] or {}).items():
        rate(f"  {escape(name)}", row["accuracy"], row["ci95"], row["n"])


def _print_pairs(console: Console, pairs: Sequence[PairFigures], title: str) -> None:
    table = new_table(
        escape(title), "model", "over", "preferred", "95 %", "ties", "flips", "unscored", "p (Holm)", "MDE", left="over"
    )
    for pair in pairs:
        common = (
            str(pair.ties),
            DASH if pair.position_flips is None else str(pair.position_flips),
            str(pair.unscored),
            DASH if pair.p_value_holm is None else f"{pair.p_value_holm:.3g}",
            # A difference of two rates is at most 100 %: so few prompts detect none.
            "> 100 %" if (pair.detectable or 0) > 1 else _percent(pair.detectable),
        )
        a, b = escape(pair.a), escape(pair.b)
        table.add_row(a, b, _percent(pair.rate_a), interval_text(pair.ci95_a), *common)
        table.add_row(b, a, _percent(pair.rate_b), interval_text(pair.ci95_b), end_section=True)
    console.print(table)
    if any(pair.detectable is not None for pair in pairs):
        console.print(
            "MDE: the smallest difference between the two rates that these prompts can detect", highlight=False
        )
    for pair in pairs:
        _print_pair_notes(console, pair)


def _print_pair_notes(console: Console, pair: PairFigures) -> None:
    names = f"{escape(pair.a)} and {escape(pair.b)}"
    if pair.half_ties:
        n = pair.half_ties
        console.print(f"{names}: {n} ties are a tie in one order and a win in the other", highlight=False)
    bias = pair.position_bias
    if bias is not None and bias.ci95 is not None and not bias.ci95[0] <= 0.5 <= bias.ci95[1]:
        rate = f"{_percent(bias.first_rate)} {interval_text(bias.ci95)}"
        console.print(f"[yellow]{names}: the first answer wins {rate} of the games", highlight=False)
    if pair.bounds_a is not None:
        low, high = pair.bounds_a
        console.print(
            f"[yellow]{names}: {pair.unscored} of {pair.n_prompts} prompts have no verdict; whichever way they went, "
            f"{escape(pair.a)} is preferred in {100 * low:.1f} to {100 * high:.1f} %",
            highlight=False,
        )


def _print_panel(console: Console, document: Preferences) -> None:
    agreement = document.panel_agreement
    if agreement is None:
        return
    title = f"agreement of the judges: Krippendorff's alpha {figure_text(agreement.alpha)}"
    title += f" {interval_text(agreement.alpha_ci95, percent=False)}" if agreement.alpha_ci95 else ""
    title += f", {agreement.disputed} of {agreement.n_games} games disputed"
    table = new_table(title, "judge", "and", "alike", "kappa", "95 %", "n", left="and")
    for one in agreement.pairs:
        interval = interval_text(one.kappa_ci95, percent=False)
        table.add_row(escape(one.a), escape(one.b), _percent(one.share), figure_text(one.kappa), interval, str(one.n))
    console.print(table)
    for member in document.judges:
        if member.own_preference is not None:
            console.print(
                f"judge {escape(member.judge.name)} lets its own answers win {100 * member.own_preference:+z.1f} % "
                f"more often than the other judges do {interval_text(member.own_preference_ci95)}",
                highlight=False,
            )


def _print_matrix(console: Console, matrix: PreferenceMatrix) -> None:
    has_flips = any(matrix.flip_counts)
    headings = map(escape, (*matrix.models, *(["FlipCt"] if has_flips else [])))
    table = new_table("row preferred over column, % of prompts", "", *headings)
    rows = zip(matrix.models, matrix.percent_row_over_column, matrix.flip_counts, strict=True)
    for model, percents, flips in rows:
        cells = [DASH if value is None else f"{value:.2f}" for value in percents]
        table.add_row(escape(model), *cells, *([escape(_flip_cell(flips))] if has_flips else []))
    console.print(table)


def _flip_cell(by_own: Mapping[str, Mapping[str, int]] | None) -> str:
    """Write a DGM's flips, one number per other SFT; one named line per own SFT where it has several."""
    if not by_own:
        return DASH
    lines = {own: ", ".join(str(count) for count in by_other.values()) for own, by_other in by_own.items()}
    return "\n".join(lines.values() if len(lines) == 1 else [f"{own}: {counts}" for own, counts in lines.items()])


def _print_ranking(console: Console, document: PreferenceFigures) -> None:
    headings = ("model", "strength", "95 %", "rank", "wins + ties / 2")
    table = new_table("Bradley–Terry strength with ties (log-odds of decided games, sum 0)", *headings)
    for row in document.ranking:
        rank = DASH if row.rank is None else "–".join(map(str, sorted({*row.rank})))
        interval = interval_text(row.ci95, percent=False)
        table.add_row(
            escape(row.model), figure_text(row.bradley_terry), interval, rank, _percent(row.win_rate_adjusted)
        )
    console.print(table)
    if len(document.ranking) > 2:
        differences = new_table("differences in strength", "model", "minus", "difference", "95 %", left="minus")
        for one in document.differences:
            interval = interval_text(one.ci95, percent=False)
            differences.add_row(escape(one.a), escape(one.b), figure_text(one.difference), interval)
        console.print(differences)
    for circle in document.cycles:
        names = " over ".join(map(escape, (*circle.models, circle.models[0])))
        console.print(f"[yellow]no ranking describes {names} (p = {circle.p_value:.2g})", highlight=False)
    if any(row.added_ties for row in document.ranking):
        console.print(
            "strengths have no finite estimate, because a model or a group of models won or lost every decided game "
            "against the others, or because nearly all games are ties; one tie was added to each pair"
        )


def _print_categories(console: Console, pairs: Sequence[PairFigures]) -> None:
    for pair in pairs:
        if not pair.categories:
            continue
        title = escape(f"{pair.a} and {pair.b} by category")
        table = new_table(title, "category", "a preferred", "b preferred", "ties", "unscored")
        for name, rates in pair.categories.items():
            a, b = (
                f"{_percent(rates.rate_a)} {interval_text(rates.ci95_a)}",
                f"{_percent(rates.rate_b)} {interval_text(rates.ci95_b)}",
            )
            table.add_row(escape(name), a, b, str(rates.ties), str(rates.unscored))
        console.print(table)


def new_table(title: str, *headings: str, left: str = "") -> Table:
    """Return an empty table; the first column and the one named ``left`` are text, the others figures."""
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 or heading == left else "right", overflow="fold")
    return table


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f} %"


def figure_text(value: float | None) -> str:
    return DASH if value is None else f"{value:z.2f}"


def interval_text(interval: Sequence[float] | None, *, percent: bool = True) -> str:
    if not interval:
        return ""
    low, high = (f"{100 * end:z.0f}" if percent else f"{end:z.2f}" for end in interval)
    return f"\\[{low}, {high}]"
