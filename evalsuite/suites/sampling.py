"""A seeded sample of a suite's items in which every category has its share."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from evalsuite.suites.base import Suite
from evalsuite.suites.options import SuiteOptions

T = TypeVar("T")


def stratified(categories: Sequence[Hashable], n: int, seed: str) -> list[int]:
    """Choose ``n`` of the positions, each category by its share (largest remainders), in their order.

    The same seed gives the same positions; all of them where there are no more than ``n``.
    """
    if n >= len(categories):
        return list(range(len(categories)))
    strata: dict[Hashable, list[int]] = {}
    for position, category in enumerate(categories):
        strata.setdefault(category, []).append(position)
    shares = {category: n * len(own) / len(categories) for category, own in strata.items()}
    counts = {category: int(share) for category, share in shares.items()}
    # Equal remainders in an order of the seed's own, so that no category is favoured for standing first.
    drawn = random.Random(seed)
    order = sorted(strata, key=lambda category: (counts[category] - shares[category], drawn.random()))
    for category in order[: n - sum(counts.values())]:
        counts[category] += 1
    return sorted(position for category, own in strata.items() for position in drawn.sample(own, counts[category]))


def evenly(items: Sequence[T], limit: int | None) -> Sequence[T]:
    """Choose ``limit`` of the items at equal distances; None, or a limit beyond them, chooses all."""
    if limit is None or limit >= len(items):
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def sampled(suite: Suite, loaded: Any, options: SuiteOptions) -> Any:
    """Return what a suite loaded with the items of the sample that ``options`` ask for alone."""
    if options.sample is None:
        return loaded
    rows = [suite.row(item, loaded) for item in loaded.items]
    categories = [(row.part, str(row.facts.get("category") or row.facts.get("benchmark_name") or "")) for row in rows]
    seed = f"{options.sample_seed}:{suite.name}:{','.join(options.parts)}"
    chosen = stratified(categories, options.sample, seed)
    return replace(loaded, items=[loaded.items[position] for position in chosen])
