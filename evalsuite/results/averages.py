"""The averages over suites: which exist, and what each suite adds to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from evalsuite.suites.registry import suites


class Average(NamedTuple):
    """One average: its title in the report and in a terminal, and what it is the mean of."""

    title: str
    line: str
    says: str


AVERAGES: Mapping[str, Average] = {
    "paper": Average("Mean of 7", "mean of 7 (paper)", "the paper's seven objective columns; 0 to 1"),
    "nine": Average("Mean of 9", "mean of 9", "the seven and both chat benchmarks, each scaled to 0 to 1"),
    "leaderboard_v2": Average("Leaderboard v2", "leaderboard v2", "mean of the six normalised scores; 0 to 100"),
}


def averages(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Compute every average of a scores.json from its suites' objects by key.

    All are on 0-1 except ``leaderboard_v2`` (0-100). An average with a missing part is None; then ``partial`` names
    the parts that are there and gives their mean. Source: arXiv 2501.18511, Table 2 (MuSR as the mean of its subtasks).
    """
    parts: dict[str, dict[str, float | None]] = {name: {} for name in AVERAGES}
    for suite in suites().values():
        for name, values in suite.averages(scores).items():
            # An average that only a package knows has no title and no place.
            parts.get(name, {}).update(values)
    document: dict[str, Any] = {}
    partial: dict[str, Any] = {}
    for name, values in parts.items():
        known = {part: value for part, value in values.items() if value is not None}
        mean = sum(known.values()) / len(known) if known else None
        document[name] = mean if len(known) == len(values) else None
        if known and len(known) < len(values):
            partial[name] = {"parts": sorted(known), "mean": mean}
    return document | ({"partial": partial} if partial else {})
