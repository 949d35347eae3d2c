"""The report's own terms, each with a sentence: tooltips on the page and its glossary say the same."""

from __future__ import annotations

from collections.abc import Mapping

from evalsuite.results.averages import AVERAGES

_TERMS: Mapping[str, str] = {
    "±": "Half the width of the 95 % interval.",
    "95 % interval": "A range that contains the true value in 95 of 100 repetitions with other items of the same "
    "kind. For proportions it is Wilson's interval, which stays between 0 and the best possible value; others are "
    "mean ± 1.96 standard errors, or what the benchmark's own code computes.",
    "★": "Better than every other model in its column: two-sided 5 % test, paired by item where the items are "
    "available, clustered where items share a context, with Holm's correction over the columns shown.",
    "#": "Rank in the sorted column. Where the paired tests cannot tell models apart it is a range: the best and "
    "worst rank still possible after Holm's correction over all pairs.",
    "DGM": "Data generating model: the model whose answers a checkpoint was trained on.",
    "greedy": "The choice that the model would write itself, token by token, if it always took the most likely one.",
    "log-probability": "The natural logarithm of the probability that the model gives a text; 0 is certain.",
    "mark": "The score of one answer: 1 or 0 for right or wrong, a judge's rating, or its share of the preference.",
    "McNemar's p": "How often chance alone would split the items that only one of two models gets right at least this "
    "unevenly (exact, two-sided).",
    "norm.": "Normalised: rescaled so that random guessing gives 0 and everything right 100, as Open LLM Leaderboard "
    "v2 does.",
    "position flip": "A verdict that changes when the two answers are shown in the other order.",
    "p (Holm)": "How often chance alone would give a difference in wins at least this large, corrected for the number "
    "of pairs.",
    "SFT": "Supervised fine-tuning: a checkpoint trained on recorded answers.",
    "minimum detectable effect": "The smallest true difference between two models that a column detects with 80 % "
    "power at 5 %, before correction.",
    "thought": "What a reasoning model writes before its answer; it is not judged.",
    "unscored": "An item without a valid answer or verdict. It is counted with its reason and never gets a mark.",
    "WR": "Win rate: how often the judge prefers the model's answer to the baseline's, in percent. LC: the same, "
    "controlled for length.",
}

GLOSSARY: Mapping[str, str] = {
    name: text[0].upper() + text[1:]
    for name, text in sorted(
        {**_TERMS, **{average.title: f"{average.says}." for average in AVERAGES.values()}}.items(),
        key=lambda term: term[0].lower(),
    )
}
"""A sentence for each term, in the order of the page."""
