"""The figures of a card of ratings: how a judge's ratings correlate with people's, factor by factor, and what follows.

Pure. Correlations lie in [-1, 1]; their intervals are the jackknife's with whole questions left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from judges.card_checks import Check, Use, concluded, graded
from judges.statistics import NO_SPREAD, cluster_numbers, jackknifed
from judges.types import Rating, Unscored

Figures = dict[str, Any]
Numbers = Sequence[float] | NDArray[np.float64]
Correlation = Literal["pearson", "spearman", "kendall"]
CORRELATIONS: tuple[Correlation, ...] = ("spearman", "kendall", "pearson")

_LEAST = 3
_CARE = 0.3


@dataclass(frozen=True, slots=True)
class RatedAnswer:
    """An answer that people and a judge rated, by factor; ``cluster`` is its question, ``length`` in characters."""

    id: str
    cluster: str
    length: int
    people: Mapping[str, float]
    judged: Mapping[str, Rating | Unscored]
    category: str | None = None


def correlation(kind: Correlation, a: Numbers, b: Numbers) -> float | None:
    """Return Pearson's r, Spearman's rho or Kendall's tau-b; None for fewer than three pairs or equal values."""
    from scipy.stats import kendalltau, rankdata

    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.size < _LEAST or np.ptp(a) <= NO_SPREAD or np.ptp(b) <= NO_SPREAD:
        return None
    if kind == "kendall":
        return float(kendalltau(a, b).statistic)
    if kind == "spearman":
        a, b = rankdata(a), rankdata(b)
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))


def correlation_ci(kind: Correlation, a: Numbers, b: Numbers, clusters: Sequence[str]) -> tuple[float, float] | None:
    """Return the jackknife interval of a correlation with whole clusters left out, on the scale of Fisher's z.

    None where there is no correlation, or no spread to go by. Source: Efron and Tibshirani 1993, chapter 11.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    value = correlation(kind, first, second)
    numbers = cluster_numbers(first.size, clusters)
    n_clusters = int(numbers.max(initial=-1)) + 1
    if value is None or n_clusters < _LEAST:
        return None
    left_out = [correlation(kind, first[numbers != one], second[numbers != one]) for one in range(n_clusters)]
    return jackknifed(value, left_out, n_clusters)


def rating_figures(answers: Sequence[RatedAnswer], factor: str, judged_as: str) -> Figures:
    """Compare one factor with people's ratings; ``judged_as`` is the judge's own factor for it.

    ``length`` is Spearman's rho of people's ratings with the length of the answer: what a judge that reads nothing
    would reach. ``categories`` have Spearman's rho alone.
    """
    known = [answer for answer in answers if factor in answer.people]
    scored = [answer for answer in known if isinstance(answer.judged[judged_as], Rating)]
    reasons = Counter(one.reason for answer in known if isinstance(one := answer.judged[judged_as], Unscored))
    names = sorted({answer.category for answer in scored if answer.category is not None})
    figures: Figures = {"n": len(known), "n_scored": len(scored), "unscored": dict(sorted(reasons.items()))}
    people, judge = _values(scored, factor, judged_as)
    for kind in CORRELATIONS:
        figures[kind] = _with_interval(kind, people, judge, scored)
    return {
        **figures,
        "length": _with_interval("spearman", people, [float(answer.length) for answer in scored], scored),
        "people_mean": float(np.mean(people)) if people else None,
        "judge_mean": float(np.mean(judge)) if judge else None,
        "categories": {name: _of_category(scored, name, factor, judged_as) for name in names} or None,
    }


def _of_category(scored: Sequence[RatedAnswer], name: str, factor: str, judged_as: str) -> Figures:
    rows = [answer for answer in scored if answer.category == name]
    return {"n": len(rows), **_with_interval("spearman", *_values(rows, factor, judged_as), rows)}


def _values(scored: Sequence[RatedAnswer], factor: str, judged_as: str) -> tuple[list[float], list[float]]:
    judged = [one.value for answer in scored if isinstance(one := answer.judged[judged_as], Rating)]
    return [answer.people[factor] for answer in scored], judged


def _with_interval(kind: Correlation, a: Sequence[float], b: Sequence[float], rows: Sequence[RatedAnswer]) -> Figures:
    interval = correlation_ci(kind, a, b, [answer.cluster for answer in rows]) if rows else None
    return {"value": correlation(kind, a, b), "ci95": interval}


def rating_conclusions(factors: Mapping[str, Figures]) -> dict[str, Any]:
    """Return the verdict, the checks and words of a card of ratings (:func:`judges.card_checks.concluded`)."""
    checks = [_agreement(name, figures) for name, figures in factors.items()]
    return concluded([*checks, _length(factors), _failures(factors)], len(checks))


def _agreement(name: str, figures: Figures) -> Check:
    source, rule = "our choice", f"Spearman's rho from {_CARE}; its interval above 0"
    value, interval = figures["spearman"]["value"], figures["spearman"]["ci95"]
    if value is None:
        return Check(
            name, None, None, rule, source, f"{name}: no correlation, because one side's ratings are all equal"
        )
    shown = f"{value:z.2f}" + ("" if interval is None else f" [{interval[0]:z.2f}, {interval[1]:z.2f}]")
    words = f"{name}: Spearman's rho with people is {shown} on {figures['n_scored']} answers"
    result: Use = "usable" if value >= _CARE else "with care"
    if interval is None or interval[0] <= 0:
        result, words = "do not use", f"{words}, which is not distinguishable from zero"
    return Check(name, result, value, rule, source, words)


def _length(factors: Mapping[str, Figures]) -> Check:
    rule = "the length of an answer correlates less with people's ratings than the judge does"
    known = {
        name: (abs(figures["length"]["value"]), figures["spearman"]["value"])
        for name, figures in factors.items()
        if figures["length"]["value"] is not None and figures["spearman"]["value"] is not None
    }
    if not known:
        return Check("length-only judge", None, None, rule, "definition", "no correlation")
    beaten = sorted(name for name, (length, judge) in known.items() if length >= judge)
    words = (
        f"the length of the answer alone predicts people's ratings as well as the judge does for {', '.join(beaten)}"
    )
    largest = max(length - judge for length, judge in known.values())
    return Check("length-only judge", "with care" if beaten else "usable", largest, rule, "definition", words)


def _failures(factors: Mapping[str, Figures]) -> Check:
    care, bad = 0.01, 0.05
    n = sum(figures["n"] for figures in factors.values())
    failed = n - sum(figures["n_scored"] for figures in factors.values())
    rule = f"up to {care:.0%} of the ratings; from {bad:.0%}"
    if not n:
        return Check("failures", None, None, rule, "our choice", "no rating")
    words = f"{failed} of {n} answers have no rating by the judge"
    return Check("failures", graded(failed / n, care, bad), failed / n, rule, "our choice", words)
