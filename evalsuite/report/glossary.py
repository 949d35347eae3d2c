"""The report's own terms, each with a sentence: tooltips on the page and its glossary say the same."""

from __future__ import annotations

from collections.abc import Mapping

from evalsuite.results.averages import AVERAGES

_TERMS: Mapping[str, str] = {
    "±": "Half the width of the 95 % interval.",
    "95 % interval": "Where the figure would lie in 95 of 100 repetitions with other items of the same kind. Of shares "
    "it is Wilson's, which stays within 0 and the best possible value; others are mean ± 1.96 standard errors, or as "
    "the benchmark's own code made them.",
    "★": "Better than every other model of its column: two-sided 5 %, paired by item where the items are here, "
    "clustered where items share a context, with Holm's correction over the columns shown.",
    "#": "Rank in the sorted column. Where the paired tests cannot tell models apart it is a range: the best and "
    "the worst rank that Holm's correction over all pairs leaves open.",
    "DGM": "Data generating model: the model whose answers a checkpoint was trained on.",
    "greedy": "The choice that the model would write itself, token by token, if it always took the most likely one.",
    "log-probability": "The natural logarithm of the probability that the model gives a text; 0 is certain.",
    "mark": "What one answer got: 1 or 0 for right or wrong, a judge's rating, or the share of its preference.",
    "McNemar's p": "How often chance alone would split so unevenly the items that only one of two models gets right "
    "(exact, two-sided).",
    "norm.": "Normalised: rescaled so that random guessing gives 0 and everything right 100, as Open LLM Leaderboard "
    "v2 does.",
    "position flip": "A verdict that changes when the two answers are shown in the other order.",
    "p (Holm)": "How often chance alone would give so large a difference in wins, corrected for the number of pairs.",
    "SFT": "Supervised fine-tuning: a checkpoint trained on recorded answers.",
    "smallest difference shown": "The smallest true difference between two models that a column finds with 80 % power "
    "at 5 %, before correction.",
    "thought": "What a reasoning model writes before its answer; it is not judged.",
    "unscored": "An item without a valid answer or verdict. It is counted with its reason, and never gets a mark.",
    "WR": "Win rate: how often the judge prefers the model's answer to the baseline's, in percent. LC: the same with "
    "the influence of length removed.",
}

GLOSSARY: Mapping[str, str] = {
    name: text[0].upper() + text[1:]
    for name, text in sorted(
        {**_TERMS, **{average.title: f"{average.says}." for average in AVERAGES.values()}}.items(),
        key=lambda term: term[0].lower(),
    )
}
"""A sentence for each term, in the order of the page."""
