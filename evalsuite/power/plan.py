"""Items and calls for a wanted power in a paired test, from the variances in ``results/`` or a bound on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import median
from typing import Any

from evalsuite.config import RunConfig
from evalsuite.doctor.finding import Finding, ok
from evalsuite.power.history import answer_tokens
from evalsuite.power.settings import PlanConfig
from evalsuite.report.figures import columns_of, figures_of
from evalsuite.report.parts import marks_behind
from evalsuite.report.significance import column_tests
from evalsuite.report.tabs import tabs_of
from evalsuite.results.reading import ModelResult, Results, read_results_folder
from evalsuite.suites.figures import Column, range_of
from evalsuite.suites.registry import SuiteSpec
from evalsuite.text import plural
from judges.paired import ALPHA, detectable_effect, needed_items

CORRELATION = 0.5
"""Between two models' marks on the same items, where nothing is known: Miller 2024 (arXiv 2411.00640) has 0.3 to 0.7
between frontier models."""
DEFAULT_VARIANCE = 2 * 0.25 * (1 - CORRELATION)
"""Of the difference of two marks with a range of 1: marks cannot vary more than right and wrong in equal numbers."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one figure needs, and what can be obtained; effects are in the figure's own unit.

    ``variance`` is that of two models' difference on an item, ``source`` says where it is from. ``detectable`` is the
    smallest difference that all ``available`` items show. Calls are of all models together; None where unknown.
    """

    figure: str
    effect: float
    variance: float
    source: str
    items: int
    available: int | None
    detectable: float | None
    answer_calls: int
    judge_calls: int
    tokens: int | None
    hours: float | None
    cost: float | None

    @property
    def is_reachable(self) -> bool:
        return self.available is None or self.items <= self.available


def plan(config: PlanConfig) -> list[Need]:
    """Return what every main figure of the suites needs; nothing is asked, and results are read if there are any."""
    known = read_results_folder(config.results) if config.results.is_dir() else Results((), (), {}, ())
    columns = [column for column in columns_of(known.models, []) if column.main]
    return [
        _need(column, spec, config, _observed(column, known.models))
        for spec in config.suites
        for column in _columns(columns, spec)
    ]


def _columns(columns: Sequence[Column], spec: SuiteSpec) -> Iterator[Column]:
    own = [column for column in columns if column.suite == spec.key]
    parts = [column for column in own if column.key in spec.parts]
    yield from parts or own


@dataclass(frozen=True, slots=True)
class _Observed:
    """From pairs of models in the results: the variance of their difference per item, and tokens per answer."""

    variance: float | None = None
    n_pairs: int = 0
    tokens: float | None = None


def _observed(column: Column, models: Sequence[ModelResult]) -> _Observed:
    with_suite = [model for model in models if column.suite in model.suites]
    if len(with_suite) < 2:
        return _Observed(tokens=answer_tokens(with_suite, column.suite).per_item)
    figures = [figures_of(model, [column]) for model in with_suite]
    marks, contexts = marks_behind(with_suite, [column], [], column.suite)
    variances = []
    for pair in {pair for tab in tabs_of(with_suite) for pair in combinations(tab.members, 2)}:
        cells = {number: figures[number][column.key] for number in pair}
        difference = column_tests(cells, marks, contexts, column.items).differences[min(pair), max(pair)]
        if difference is not None and difference.n is not None and difference.stderr > 0:
            variances.append(difference.stderr**2 * difference.n)
    tokens = answer_tokens(with_suite, column.suite).per_item
    return _Observed(median(variances) if variances else None, len(variances), tokens)


def _need(column: Column, spec: SuiteSpec, config: PlanConfig, observed: _Observed) -> Need:
    width, suite = range_of(column), spec.suite
    effect = config.effect * width
    variance = observed.variance if observed.variance is not None else DEFAULT_VARIANCE * width**2
    pairs = math.comb(config.models, 2)
    alpha = ALPHA / pairs
    items = needed_items(effect, variance, alpha=alpha, power=config.power)
    parts = (column.key,) if column.key in suite.parts and suite.key((column.key,)) == column.suite else spec.parts
    answers = suite.n_items(parts, "full", None)
    available = None if answers is None else answers // suite.n_turns
    asked = items if available is None else min(items, available)
    calls = config.models * asked * suite.n_turns
    tokens = None if observed.tokens is None else round(observed.tokens * config.models * asked)
    speed, price = config.tokens_per_second, config.price_per_million
    return Need(
        column.title,
        effect,
        variance,
        f"{plural(observed.n_pairs, 'pair')} in {config.results}" if observed.variance is not None else "upper bound",
        items,
        available,
        None
        if available is None
        else detectable_effect(math.sqrt(variance / available), available - 1, alpha=alpha, power=config.power),
        calls,
        calls if suite.judge_method else 0,
        tokens,
        None if tokens is None or speed is None else tokens / speed / 3600,
        None if tokens is None or price is None else tokens / 1e6 * price,
    )


def findings(config: RunConfig) -> list[Finding]:
    """Say for ``doctor`` what difference between two models every main figure of a run can show; starts nothing."""
    found = []
    for need in plan(PlanConfig(suites=config.suites, results=config.results)):
        if need.available is None:
            continue
        n = min(need.available, config.sample or need.available)
        shown = detectable_effect(math.sqrt(need.variance / n), max(1, n - 1))
        enough = f"; {need.items:,} would show {need.effect:.2g}" if need.items > n else ""
        items = plural(n, "item shows", "items show")
        said = f"{items} a difference of {shown:.2g} between two models with 80 % power{enough}"
        found.append(ok("power", need.figure, f"{said} (variance: {need.source})"))
    return found


def as_json(needs: Sequence[Need], config: PlanConfig) -> Mapping[str, Any]:
    options = config.model_dump(mode="json", include={"models", "effect", "power"})
    return {**options, "figures": [{**asdict(need), "reachable": need.is_reachable} for need in needs]}
