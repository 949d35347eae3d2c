"""What to make of two orders that name different answers: the strict rule against the mean preference. Pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

from judges.statistics import mean_ci, proportion_ci

EVEN = 1e-4
"""How near to one half a mean preference favours neither answer. A model in 16 bits has steps of over a percent; what
differs within one is the probability of unlikely spellings."""

_SURE = 1e-6


def mean_in_log_odds(a_first: float, b_first: float) -> float:
    """Return the preference for a, averaged over both orders in log-odds; both figures are for the answer shown first.

    It names the same winner as the mean of the probabilities: both favour a where ``a_first`` is above ``b_first``. It
    is more extreme where one order is nearly certain.

    >>> round(mean_in_log_odds(0.99, 0.9), 3), round((0.99 + 1 - 0.9) / 2, 3)
    (0.768, 0.545)
    """
    odds = [math.log(p / (1 - p)) for p in (_kept(a_first), 1 - _kept(b_first))]
    return 1 / (1 + math.exp(-sum(odds) / 2))


def _kept(preference: float) -> float:
    return min(max(preference, _SURE), 1 - _SURE)


def order_rules(
    wanted: Sequence[bool], a_first: Sequence[float], b_first: Sequence[float], clusters: Sequence[Hashable]
) -> dict[str, Any]:
    """Compare the rules over pairs of which people prefer a (``wanted``) or b.

    {"undecided": pairs that the strict rule discards, "by_mean": how often the mean preference is right on these
    (a half where it favours none), "ci95", "rule": "mean" where that is distinguishable from chance, else "strict",
    "brier": the mean squared error of the preference by averaging "probability" and "log_odds", their "difference" and
    "ci95"}.
    """
    probability = [(a + 1 - b) / 2 for a, b in zip(a_first, b_first, strict=True)]
    log_odds = [mean_in_log_odds(a, b) for a, b in zip(a_first, b_first, strict=True)]
    lost = [
        (0.5 if abs(a - b) <= 2 * EVEN else float((a > b) == is_a), cluster)
        for is_a, a, b, cluster in zip(wanted, a_first, b_first, clusters, strict=True)
        if (a - 0.5) * (0.5 - b) <= 0
    ]
    values, groups = [value for value, _ in lost], [cluster for _, cluster in lost]
    interval = proportion_ci(values, groups) if lost else None
    errors = [
        [(mean - is_a) ** 2 for mean, is_a in zip(means, wanted, strict=True)] for means in (probability, log_odds)
    ]
    change = [theirs - ours for ours, theirs in zip(*errors, strict=True)]
    n = len(wanted)
    return {
        "undecided": len(lost),
        "by_mean": sum(values) / len(lost) if lost else None,
        "ci95": interval,
        "rule": "mean" if interval is not None and interval[0] > 0.5 else "strict",
        "brier": {
            "probability": sum(errors[0]) / n,
            "log_odds": sum(errors[1]) / n,
            "difference": sum(change) / n,
            "ci95": mean_ci(change, clusters),
        },
    }


def rule_in_words(figures: dict[str, Any] | None, n: int) -> str:
    """Say how many pairs the strict rule discards and which rule to use; "" if it discards none."""
    if not figures or not figures["undecided"]:
        return ""
    said = f"the strict rule (both orders agree) decides nothing on {figures['undecided']} of {n} pairs"
    right = f"the mean preference is right on {figures['by_mean']:.0%} of these"
    if figures["rule"] == "mean":
        return f"{said}; {right}: count its mean preference"
    return f"{said}; {right}, which is not distinguishable from chance: keep to the strict rule"
