"""Decide whether a candidate holds against a baseline: every figure, paired by item, corrected for their number.

Without a margin a figure falls if it is significantly lower: a one-sided test at 5 %, with Holm's correction over all
figures. With a margin (a fraction of the figure's range) it has to be shown that each fell by less than that: a
one-sided test of non-inferiority at 5 % each, which needs no correction because all have to hold (Berger 1982).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from evalsuite.comparison.answer_rows import models_named
from evalsuite.errors import DataError, UsageError, unknown
from evalsuite.files import exists
from evalsuite.gate.settings import GateConfig
from evalsuite.report.figures import columns_of, figures_of
from evalsuite.report.parts import marks_behind
from evalsuite.report.protocol import protocol_of
from evalsuite.report.significance import Marks, column_tests, parts_behind
from evalsuite.report.tabs import tabs_of
from evalsuite.results.folder import limit_text
from evalsuite.results.reading import ModelResult, models_in
from evalsuite.suites.figures import Column, Figure, range_of
from evalsuite.text import plural
from judges.paired import ALPHA, Difference, one_sided
from judges.statistics import holm_correction

MIN_PAIRED = 0.9
"""Of the baseline's scored items the share that the candidate has to be scored on too."""

_CANDIDATE, _BASELINE = 0, 1


@dataclass(frozen=True, slots=True)
class Tested:
    """One figure of both models: candidate minus baseline with its 95 % interval, the p-value, and whether it holds.

    ``p_value`` is of the test that decides: that it fell (Holm-corrected), or, with a margin, that it fell by more.
    """

    key: str
    title: str
    baseline: float
    candidate: float
    difference: float
    ci95: tuple[float, float] | None
    n: int | None
    p_value: float
    detectable: float | None
    margin: float | None
    holds: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the gate holds, and each figure's test."""

    baseline: str
    candidate: str
    tests: tuple[Tested, ...]
    notes: tuple[str, ...]

    @property
    def fell(self) -> tuple[Tested, ...]:
        return tuple(one for one in self.tests if not one.holds)

    def as_json(self) -> dict[str, Any]:
        return {"holds": not self.fell, **asdict(self)}


def gate(config: GateConfig) -> Verdict:
    """Compare two models of a results folder; raises UsageError or DataError where they cannot be compared."""
    views = [_views(spec, config.results) for spec in (config.baseline, config.candidate)]
    models = _comparable(views[0], views[1], config)
    faults: list[str] = []
    columns = [column for column in columns_of(models, faults) if column.main]
    figures = [figures_of(model, columns) for model in models]
    shared = [column for column in columns if figures[_BASELINE][column.key].value is not None]
    if not shared:
        raise UsageError(f"{models[_BASELINE].name} has no figures; run it, or give another baseline")
    absent = [column for column in shared if figures[_CANDIDATE][column.key].value is None]
    if absent:
        why = figures[_CANDIDATE][absent[0].key].reason
        raise UsageError(
            f"{models[_CANDIDATE].name} has no figure of {', '.join(column.title for column in absent)} ({why}), which "
            f"{models[_BASELINE].name} has; run it on the same suites"
        )
    marks, contexts = marks_behind(models, columns, faults)
    differences = {}
    for column in shared:
        pair = {number: figures[number][column.key] for number in (_CANDIDATE, _BASELINE)}
        difference = column_tests(pair, marks, contexts, column.items).differences[_CANDIDATE, _BASELINE]
        if difference is None:
            raise DataError(f"{column.title} has neither items nor standard errors to compare by; run both again")
        _refuse_lost_items(column, difference, marks)
        differences[column.key] = difference
    tests = _tested(shared, figures, differences, config.non_inferior)
    names = (models[_BASELINE].name, models[_CANDIDATE].name)
    return Verdict(*names, tests, tuple(dict.fromkeys(faults)))


def _views(spec: str, results: Path) -> list[ModelResult]:
    path = Path(spec).expanduser()
    if exists(path / "scores.json"):
        return models_in(path)
    if exists(results / spec / "scores.json"):
        return models_in(results / spec)
    named = models_named(spec, results)
    if len(named) > 1:
        folders = ", ".join(str(model.folder) for model in named)
        raise UsageError(f"{results} contains {len(named)} models called {spec!r}; give the folder of one: {folders}")
    if not named:
        slugs = sorted(path.parent.name for path in results.glob("*/scores.json"))
        # A variant is known by its folder, another model by its name too.
        known = [slug if "~" in slug else slug.rpartition("-")[0] or slug for slug in slugs]
        if spec in known:
            # Its scores.json cannot be read, and says why.
            return models_in(results / slugs[known.index(spec)])
        raise UsageError(f"{unknown('model', spec, known)}; give a model's folder or its name in {results}")
    return models_in(named[0].folder)


def _comparable(
    baselines: Sequence[ModelResult], candidates: Sequence[ModelResult], config: GateConfig
) -> list[ModelResult]:
    """Return candidate and baseline as one judge sees them; raises UsageError with what keeps their figures apart."""
    for pair in product(baselines, candidates):
        if any(len(tab.members) > 1 for tab in tabs_of(list(pair))):
            return [pair[1], pair[0]]
    baseline, candidate = baselines[0], candidates[0]
    reasons = []
    one, other = baseline.scores, candidate.scores
    if (one.data, one.limit) != (other.data, other.limit):
        reasons.append(f"data {one.data}, {limit_text(one.limit)} against data {other.data}, {limit_text(other.limit)}")
    if baseline.judge and candidate.judge and baseline.judge.key != candidate.judge.key:
        reasons.append(f"judge {baseline.judge.name} against {candidate.judge.name}")
    ours, theirs = protocol_of(baseline), protocol_of(candidate)
    reasons += [f"{ours.setting_text(key)} against {theirs.setting_text(key)}" for key in ours.differing(theirs)]
    if not ours.same_data(theirs):
        reasons.append("different versions of the benchmark data")
    if not set(baseline.suites) & set(candidate.suites):
        reasons.append("no suite in common")
    raise UsageError(f"{config.baseline} and {config.candidate} cannot be compared: {'; '.join(reasons)}")


def _refuse_lost_items(column: Column, difference: Difference, marks: Marks) -> None:
    """Raise DataError where the candidate lacks many of the items: those that are lost may be the hard ones."""
    if difference.n is None:
        return
    parts = [marks[name][_BASELINE] for name in parts_behind(column.items, marks) if _BASELINE in marks[name]]
    scored = sum(int(np.isfinite(part).sum()) for part in parts)
    if difference.n < MIN_PAIRED * scored:
        raise DataError(
            f"{column.title}: the candidate is scored on {difference.n} of the baseline's {scored} items, and those it "
            f"lacks may be the hard ones; at least {MIN_PAIRED:.0%} are needed"
        )


def _tested(
    columns: Sequence[Column],
    figures: Sequence[Mapping[str, Figure]],
    differences: Mapping[str, Difference],
    non_inferior: float | None,
) -> tuple[Tested, ...]:
    margins = {column.key: None if non_inferior is None else non_inferior * range_of(column) for column in columns}
    if non_inferior is not None:
        p_values = [one_sided(differences[column.key], -(margins[column.key] or 0.0)) for column in columns]
    else:  # From the mirrored difference: 1 - p would be 0 for a clear fall.
        fallen = [replace(differences[column.key], value=-differences[column.key].value) for column in columns]
        p_values = holm_correction([one_sided(difference) for difference in fallen])
    found = []
    for column, p_value in zip(columns, p_values, strict=True):
        values = [figures[number][column.key].value or 0.0 for number in (_BASELINE, _CANDIDATE)]
        difference, margin = differences[column.key], margins[column.key]
        holds = p_value < ALPHA if margin is not None else p_value >= ALPHA
        found.append(
            Tested(
                column.key,
                column.title,
                values[0],
                values[1],
                difference.value,
                difference.ci95,
                difference.n,
                p_value,
                difference.detectable,
                margin,
                holds,
                _sentence(column, values, difference, p_value, margin, len(columns), holds=holds),
            )
        )
    return tuple(found)


def _sentence(
    column: Column,
    values: Sequence[float],
    difference: Difference,
    p_value: float,
    margin: float | None,
    n_columns: int,
    *,
    holds: bool,
) -> str:
    digits = column.digits
    change = f"{values[0]:z.{digits}f} to {values[1]:z.{digits}f}"
    interval = (
        "" if difference.ci95 is None else ", 95 % interval {:z.{d}f} to {:z.{d}f}".format(*difference.ci95, d=digits)
    )
    items = "" if difference.n is None else f", {plural(difference.n, 'item')}"
    where = f"({change}{interval}{items}, p = {p_value:.2g}"
    if margin is None:
        where += f", Holm over {n_columns})" if n_columns > 1 else ")"
        if holds:
            return f"{column.title} did not fall beyond noise {where}"
        return f"{column.title} fell by {-difference.value:.{digits}f} {where}"
    if holds:
        return f"{column.title} fell by less than {margin:.{digits}g} {where})"
    return f"{column.title}: not shown to have fallen by less than {margin:.{digits}g} {where})"
