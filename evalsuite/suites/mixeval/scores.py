"""MixEval's figures: what each item is worth, and how the published score is made of it. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from evalsuite.suites.base import Record, Scores, SuiteOptions, count_unscored
from evalsuite.suites.mixeval.prompts import SPLIT_OF_PROBLEM_TYPE, SPLITS, Split, right_letter
from judges.extraction import choice_as_published, free_form_is_correct_by_rule, parse_choice_by_rule
from judges.types import Choice, Rating, Unscored

PUBLISHED_SEED = 42
"""Psycoy/MixEval@7c52b41:mix_eval/utils/metric_utils.py seeds its random options with this."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What one item is worth: a value in 0..1, or Unscored.

    ``no_option`` says that the rule parser found no option in a multiple-choice answer.
    """

    split: Split
    benchmark: str
    value: float | Unscored
    no_option: bool = False


def marks_by_rule(records: Iterable[Record], *, as_published: bool) -> list[Mark]:
    """Mark answers without a judge; an answer in which no option is found is wrong.

    ``as_published`` draws a random option for it instead, from one generator seeded with 42 in
    the order of ``records``, which is the file's order.
    Source: Psycoy/MixEval@7c52b41:mix_eval/compute_metrics.py with both parsers set to "rule".
    """
    rng = random.Random(PUBLISHED_SEED)
    marks: list[Mark] = []
    for record in records:
        row = record.item.data
        split = SPLIT_OF_PROBLEM_TYPE[row["problem_type"]]
        if isinstance(record.answer, Unscored):
            marks.append(Mark(split, row["benchmark_name"], record.answer))
        elif split == "free_form":
            correct = free_form_is_correct_by_rule(record.answer.text, row["target"])
            marks.append(Mark(split, row["benchmark_name"], float(correct)))
        else:
            found = parse_choice_by_rule(record.answer.text, row["options"])
            no_option = isinstance(found, Unscored)
            chosen = choice_as_published(record.answer.text, row["options"], rng) if as_published else found
            correct = isinstance(chosen, Choice) and chosen.letter == right_letter(row)
            marks.append(Mark(split, row["benchmark_name"], float(correct), no_option))
    return marks


def marks_by_judge(records: Iterable[Record]) -> list[Mark]:
    """Mark answers by the judge's verdicts; a missing answer or verdict stays unscored, never random."""
    return [
        Mark(
            SPLIT_OF_PROBLEM_TYPE[record.item.data["problem_type"]],
            record.item.data["benchmark_name"],
            _value_by_judge(record),
        )
        for record in records
    ]


def _value_by_judge(record: Record) -> float | Unscored:
    # The answer's own reason says more than the verdict's "no_answer".
    if isinstance(record.answer, Unscored):
        return record.answer
    verdict = record.verdict
    if isinstance(verdict, Rating):
        return verdict.value
    if isinstance(verdict, Choice):
        return float(verdict.letter == right_letter(record.item.data))
    return verdict if isinstance(verdict, Unscored) else Unscored("no_judge")


def combined(samples: Iterable[Sequence[float]]) -> float | None:
    """Round each sample's mean to 3 places and weigh the rounded means by their counts; None without values.

    Source: Psycoy/MixEval@7c52b41:mix_eval/compute_metrics.py, where each sample is one split,
    or one benchmark of one split. Deviation: the sum is exact, so that a mean which ends in a 5
    is not rounded up or down by the order of the items.
    """
    means = [(round(fsum(values) / len(values), 3), len(values)) for values in samples if values]
    total = sum(count for _, count in means)
    return sum(mean * (count / total) for mean, count in means) if total else None


def scores_of(marks: Sequence[Mark], options: SuiteOptions) -> Scores:
    """Compute MixEval's object of scores.json from marks.

    All figures lie in 0..1. ``score`` is the published one: each split's mean rounded to 3
    places, then weighed by count; ``score_unrounded`` is the plain mean over items. A split
    without a scored item makes both ``null``; ``partial`` then has what is there and
    ``missing`` says why. ``free_form`` and ``multiple_choice`` are plain means, ``benchmarks``
    the published combination of a benchmark's rounded means in both splits.
    """
    by_split = {split: [mark for mark in marks if mark.split == split] for split in SPLITS}
    missing = {split: reason for split, of in by_split.items() if (reason := _why_missing(of))}
    whole = _overall(marks)
    nothing = dict.fromkeys(whole)
    scores: Scores = {
        **(nothing if missing else whole),
        "free_form": _mean(_values(by_split["free_form"])),
        "multiple_choice": _mean(_values(by_split["multiple_choice"])),
        "benchmarks": _benchmarks(marks),
        "splits": {split: _split_figures(of) for split, of in by_split.items()},
        "n": len(marks),
        "n_scored": len(_values(marks)),
        "unscored": count_unscored([mark.value for mark in marks]),
        "parser": options.mixeval_parser,
    }
    if options.mixeval_parser == "rule":
        scores["no_option"] = sum(mark.no_option for mark in marks)
    if missing:
        scores["missing"] = missing
        scores["partial"] = {**whole, "splits": [split for split in SPLITS if split not in missing]}
    return scores


def _overall(marks: Sequence[Mark]) -> dict[str, Any]:
    # scipy comes with it, and the command line must start without scipy.
    from judges.statistics import mean_and_stderr, proportion_ci

    values = _values(marks)
    interval = proportion_ci(values) if values else None
    return {
        "score": combined(_values([mark for mark in marks if mark.split == split]) for split in SPLITS),
        "score_unrounded": _mean(values),
        "stderr": mean_and_stderr(values)[1] if values else None,
        "ci95": list(interval) if interval else None,
    }


def _benchmarks(marks: Sequence[Mark]) -> dict[str, dict[str, Any]]:
    figures: dict[str, dict[str, Any]] = {}
    for name in sorted({mark.benchmark for mark in marks}):
        own = [mark for mark in marks if mark.benchmark == name]
        samples = [_values([mark for mark in own if mark.split == split]) for split in SPLITS]
        figures[name] = {"score": combined(samples), "n": len(own), "n_scored": len(_values(own))}
    return figures


def _split_figures(marks: Sequence[Mark]) -> dict[str, Any]:
    benchmarks = {}
    for name in sorted({mark.benchmark for mark in marks}):
        own = [mark for mark in marks if mark.benchmark == name]
        benchmarks[name] = {"score": _mean(_values(own)), "n": len(own), "n_scored": len(_values(own))}
    return {
        "score": _mean(_values(marks)),
        "n": len(marks),
        "n_scored": len(_values(marks)),
        "benchmarks": benchmarks,
    }


def _why_missing(marks: Sequence[Mark]) -> str:
    if not marks:
        return "no items of this split were given"
    return "" if _values(marks) else f"none of its {len(marks)} items could be scored"


def _values(marks: Iterable[Mark]) -> list[float]:
    return [mark.value for mark in marks if not isinstance(mark.value, Unscored)]


def _mean(values: Sequence[float]) -> float | None:
    return fsum(values) / len(values) if values else None
