"""MixEval's figures: what each item is worth, and how the published score is made of it. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from statistics import fmean
from string import ascii_uppercase
from typing import Any

from evalsuite.records.rows import Row
from evalsuite.suites.base import count_unscored, marked, mean, scored_values, verdict_on
from evalsuite.suites.figures import doubt
from evalsuite.suites.mixeval.prompts import SPLITS, context_of, right_letter
from evalsuite.suites.types import Scores
from judges.extraction import choice_as_published, free_form_is_correct_by_rule, parse_choice_by_rule
from judges.parse import parse_option, parse_score_0_to_1
from judges.types import Choice, Rating, Unscored

PUBLISHED_SEED = 42
"""Psycoy/MixEval@7c52b41:mix_eval/utils/metric_utils.py seeds its random options with this."""


def marked_by_rule(row: Row, answer: str) -> Row:
    """Mark an answer without a judge; one in which no option is found is wrong, and has the mark ``no_option`` 1.

    Source: Psycoy/MixEval@7c52b41:mix_eval/compute_metrics.py with both parsers set to "rule".
    """
    facts = row.facts
    if row.part == "free_form":
        return marked(row, score=float(free_form_is_correct_by_rule(answer, facts["target"])))
    choice = parse_choice_by_rule(answer, facts["options"])
    is_right = isinstance(choice, Choice) and choice.letter == right_letter(facts)
    return marked(row, score=float(is_right), no_option=float(isinstance(choice, Unscored)))


def marked_by_judge(row: Row, *, as_published: bool) -> Row:
    """Mark an answer by the judge's verdict; a missing verdict stays unscored, never random.

    ``as_published`` believes the verdicts of a recorded file that MixEval drew at random.
    """
    verdict = verdict_on(row)
    value: Any = verdict.unscored or verdict.value
    if as_published and verdict.recorded is not None:
        value = verdict_value(verdict.recorded, row.facts)
    if isinstance(value, Unscored):
        return marked(row, [value], score=None)
    return marked(row, score=float(value == right_letter(row.facts)) if isinstance(value, str) else value)


def verdict_value(recorded: Any, facts: Mapping[str, Any]) -> float | str | Unscored:
    """Read a recorded verdict: a number in 0..1 (free-form), or the letter of one of the options."""
    if "options" in facts:
        known = recorded in list(ascii_uppercase[: len(facts["options"])])
        return recorded if known else Unscored("no_option", f"recorded judge_option {recorded!r}")
    is_number = isinstance(recorded, int | float) and not isinstance(recorded, bool)
    if is_number and 0 <= recorded <= 1:
        return float(recorded)
    return Unscored("rating_out_of_range" if is_number else "no_rating", f"recorded judge_score {recorded!r}")


def parse_judgment(text: str, facts: Mapping[str, Any], *, as_published: bool = False) -> Rating | Choice | Unscored:
    """Read the score (0..1) or the option from a judgment; ``as_published`` its first mark, if that is valid."""
    if "options" in facts:
        choice = parse_option(text, n_options := len(facts["options"]), as_published=as_published)
        is_option = isinstance(choice, Choice) and choice.letter in ascii_uppercase[:n_options]
        return choice if is_option else Unscored("no_option", text)
    rating = parse_score_0_to_1(text, as_published=as_published)
    is_over = isinstance(rating, Rating) and rating.value > 1
    return Unscored("rating_out_of_range", text) if is_over else rating


def scores_of(rows: Sequence[Row], parser: str, *, as_published: bool) -> Scores:
    """Compute MixEval's object of scores.json from marked rows.

    All figures lie in 0..1. ``score`` is the published one: each split's mean rounded to 3 places, then weighted by
    count; ``score_unrounded`` is the plain mean over items. A split without a scored item makes both ``null``;
    ``partial`` then has what is there and ``missing`` says why. ``free_form`` and ``multiple_choice`` are plain means,
    ``benchmarks`` the published combination of a benchmark's rounded means in both splits. ``stderr`` and ``ci95`` take
    items of one context as one cluster.
    """
    no_option = sum(row.marks.get("no_option") == (1.0,) for row in rows)
    if as_published:
        rows = _with_random_options(rows)
    by_split = {split: [row for row in rows if row.part == split] for split in SPLITS}
    missing = {split: reason for split, group in by_split.items() if (reason := _why_missing(group))}
    values = scored_values(rows)
    whole = {"score": combined(rows), "score_unrounded": mean(values), **doubt(rows, lambda row: context_of(row.facts))}
    scores: Scores = {
        **(dict.fromkeys(whole) if missing else whole),
        **{split: mean(scored_values(group)) for split, group in by_split.items()},
        "benchmarks": {
            name: {**_figures(group), "score": combined(group)} for name, group in _by_benchmark(rows).items()
        },
        "splits": {
            split: {
                **_figures(group),
                "benchmarks": {name: _figures(own) for name, own in _by_benchmark(group).items()},
            }
            for split, group in by_split.items()
        },
        "n": len(rows),
        "n_scored": len(values),
        "unscored": count_unscored(reason for row in rows for reason in row.unscored[:1]),
        "parser": parser,
    }
    if parser == "rule":
        scores["no_option"] = no_option
    if missing:
        scores["missing"] = missing
        scores["partial"] = {**whole, "splits": [split for split in SPLITS if split not in missing]}
    return scores


def combined(rows: Sequence[Row]) -> float | None:
    """Round the mean of each split to 3 places and weigh the rounded means by their counts; None without values.

    Source: Psycoy/MixEval@7c52b41:mix_eval/compute_metrics.py, where ``rows`` are all, or one benchmark's. Deviation:
    the sum is exact, so that a mean which ends in a 5 is not rounded up or down by the order of the items.
    """
    samples = [scored_values(row for row in rows if row.part == split) for split in SPLITS]
    total = sum(map(len, samples))
    return sum(round(fmean(values), 3) * (len(values) / total) for values in samples if values) if total else None


def _with_random_options(rows: Sequence[Row]) -> list[Row]:
    """Draw an option for each answer in which none was found, from one generator in the order of the rows."""
    rng = random.Random(PUBLISHED_SEED)
    drawn = []
    for row in rows:
        if row.marks.get("no_option") == (1.0,):
            choice = choice_as_published(row.replies[0].text or "", row.facts["options"], rng)
            drawn.append(marked(row, score=float(choice.letter == right_letter(row.facts))))
        else:
            drawn.append(row)
    return drawn


def _by_benchmark(rows: Sequence[Row]) -> dict[str, list[Row]]:
    names = sorted({row.facts["benchmark_name"] for row in rows})
    return {name: [row for row in rows if row.facts["benchmark_name"] == name] for name in names}


def _why_missing(rows: Sequence[Row]) -> str:
    if not rows:
        return "no items of this split were given"
    return "" if scored_values(rows) else f"none of its {len(rows)} items could be scored"


def _figures(rows: Sequence[Row]) -> dict[str, Any]:
    values = scored_values(rows)
    return {"score": mean(values), "n": len(rows), "n_scored": len(values)}
