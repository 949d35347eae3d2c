"""Ranks of a table's models in each column and average: ranges where the tests leave them open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations

from evalsuite.report.significance import ColumnTests
from evalsuite.results.averages import AVERAGES
from evalsuite.suites.figures import Column, Figure
from evalsuite.suites.registry import suites
from judges.paired import Difference, rank_intervals

AVERAGE = "average."
"""What the keys of averages begin with, among the figures of a model."""

Cells = Mapping[str, Figure]
Ranks = Mapping[int, tuple[int, int]]
_UNTESTED = frozenset({"leaderboard_v2"})
"""Averages of figures on a scale of their own, which no column has."""


@lru_cache(maxsize=1)
def average_parts() -> Mapping[str, Sequence[str]]:
    """Return the columns that each average is the mean of; averages that no test can be made of are left out."""
    parts: dict[str, list[str]] = {}
    for suite in suites().values():
        for name, values in suite.averages({}).items():
            parts.setdefault(name, []).extend(values)
    return {name: keys for name, keys in parts.items() if name not in _UNTESTED}


def ranks_of(
    members: Sequence[int], figures: Sequence[Cells], columns: Sequence[Column], tests: Mapping[str, ColumnTests]
) -> dict[str, Ranks]:
    """Return each model's (best, worst) rank by column, and by average under ``average.<name>``."""
    tops = {column.key: column.top for column in columns}
    ranks: dict[str, Ranks] = {key: one.ranks for key, one in tests.items()}
    for name in AVERAGES:
        key, parts = f"{AVERAGE}{name}", average_parts().get(name, ())
        values = {model: value for model in members if (value := figures[model][key].value) is not None}
        if len(values) < 2 or not parts or not all(part in tests for part in parts):
            ranks[key] = {}
            continue
        found = {
            pair: difference
            for pair in combinations(sorted(values), 2)
            if (difference := _of_parts(pair, values, parts, tests, tops)) is not None
        }
        ranks[key] = rank_intervals(values, {pair: one.p_value for pair, one in found.items()})
    return ranks


def _of_parts(
    pair: tuple[int, int],
    values: Mapping[int, float],
    parts: Sequence[str],
    tests: Mapping[str, ColumnTests],
    tops: Mapping[str, float],
) -> Difference | None:
    """Return the difference of two averages, its standard error from those of the parts; None where one is unknown."""
    variance, degrees = 0.0, []
    for part in parts:
        difference = tests[part].differences.get(pair)
        if difference is None:
            return None
        variance += (difference.stderr / tops[part] / len(parts)) ** 2
        degrees += [] if difference.df is None else [difference.df]
    return Difference(values[pair[0]] - values[pair[1]], math.sqrt(variance), None, min(degrees, default=None))
