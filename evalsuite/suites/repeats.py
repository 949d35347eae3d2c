"""Several answers to each item (``--repeats``): each repeat is marked and scored as a separate run, then averaged.

A suite need not know of it: it marks and scores rows with one draw. lm-eval's suites average inside
(``harness.repeats``), since their aggregates are lm-eval's.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import Any

import msgspec

from evalsuite.records.rows import Header, Row, replaced
from evalsuite.serving.requests import derive_seed
from evalsuite.suites.base import Suite
from evalsuite.suites.options import SuiteOptions
from evalsuite.suites.types import Scores
from evalsuite.text import plural

_ERRORS = ("stderr", "standard_error")


# Asking -----------------------------------------------------------------------------------------------


def for_repeat(options: SuiteOptions, repeat: int) -> SuiteOptions:
    """Return the options that one repeat is answered with: its own seed, the run's for repeat 0."""
    seed = derive_seed(options.seed, "repeat", repeat)
    return options if repeat == 0 else options.model_copy(update={"seed": seed})


# Marking and scoring ----------------------------------------------------------------------------------


def with_one_draw(row: Row, repeat: int) -> Row:
    """Return a row with one of its draws as the first; an item that was answered once has the same for all."""
    if len(row.draws) < 2:
        return row
    draw = next((one for one in row.draws if one.repeat == repeat), row.draws[0])
    verdicts = tuple(msgspec.structs.replace(one, repeat=0) for one in row.verdicts if one.repeat == draw.repeat)
    return replaced(row, draws=(msgspec.structs.replace(draw, repeat=0),), verdicts=verdicts, marks={}, unscored=())


def with_first_marks(row: Row) -> Row:
    """Return a row with the verdicts and marks of its first draw alone, beside all its draws."""
    if len(row.draws) < 2:
        return row
    marks = {name: values[:1] for name, values in row.marks.items()}
    return replaced(row, verdicts=tuple(one for one in row.verdicts if one.repeat == 0), marks=marks)


def marked_draws(suite: Suite, row: Row, header: Header) -> Row:
    """Mark a row: one value per draw under each metric."""
    if suite.whole or len(row.draws) < 2:
        return suite.mark(row, header)
    each = [suite.mark(with_one_draw(row, draw.repeat), header) for draw in row.draws]
    names = dict.fromkeys(name for one in each for name in one.marks)
    marks = {name: tuple(value for one in each for value in one.marks.get(name, (None,))) for name in names}
    unscored = tuple(reason for one in each for reason in one.unscored)
    return replaced(each[0], draws=row.draws, verdicts=row.verdicts, marks=marks, unscored=unscored)


def scored_draws(suite: Suite, header: Header, rows: Sequence[Row]) -> Scores:
    """Score marked rows; of several draws the mean over the repeats, with their spread under ``repeats``.

    The standard error and the interval beside a mean over all repeats are narrowed by what the repeats take away of the
    marks' variance; those of categories and of further figures are one draw's, which is conservative.
    """
    repeats = 1 + max((draw.repeat for row in rows for draw in row.draws), default=0)
    if repeats < 2 or suite.whole:
        return suite.score(header, rows) | ({"repeats": of_parts(suite, header, rows)} if repeats > 1 else {})
    views = [[suite.mark(with_one_draw(row, repeat), header) for row in rows] for repeat in range(repeats)]
    scores = [suite.score(header, view) for view in views]
    # Counts are those of the repeat with the fewest marks.
    missing = [sum(bool(row.unscored) for row in view) for view in views]
    first = scores.pop(missing.index(max(missing)))
    found = of_parts(suite, header, rows)
    return _narrowed(_averaged([first, *scores]), found["narrowing"]) | {"repeats": found}


def _averaged(values: Sequence[Any]) -> Any:
    """Return the mean of JSON values of one shape: of numbers with a fraction; everything else is the first's."""
    first = values[0]
    if isinstance(first, Mapping):
        same = [one for one in values if isinstance(one, Mapping)]
        return {key: _averaged(_intervals(same, key) or [one.get(key) for one in same]) for key in first}
    if isinstance(first, list) and all(isinstance(one, list) and len(one) == len(first) for one in values):
        return [_averaged(same) for same in zip(*values, strict=True)]
    numbers = [one for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
    return fmean(numbers) if len(numbers) == len(values) and any(isinstance(one, float) for one in numbers) else first


def _intervals(scores: Sequence[Mapping[str, Any]], key: str) -> list[Any]:
    """Return the intervals of the repeats where some have one; one without spread among its items is its figure."""
    if not key.endswith("ci95") or not any(isinstance(one.get(key), list) for one in scores):
        return []
    return [one[key] if isinstance(one.get(key), list) else [_value_of(one, key)] * 2 for one in scores]


def _value_of(scores: Mapping[str, Any], key: str) -> Any:
    """Return the figure that an interval is of: "sc_ci95" is of "sc_score", AlpacaEval's "lc_ci95" of "lc_win_rate"."""
    prefix = key.removesuffix("ci95")
    return scores.get(f"{prefix}score", scores.get(f"{prefix}win_rate"))


def _narrowed(scores: Scores, ratio: float) -> Scores:
    narrowed = dict(scores)
    for key, value in scores.items():
        if key.endswith(_ERRORS) and isinstance(value, float):
            narrowed[key] = value * ratio
        elif key.endswith("ci95") and isinstance(value, list) and len(value) == 2:
            low, high = value
            of = _value_of(scores, key)
            middle = of if isinstance(of, float) else (low + high) / 2
            narrowed[key] = [middle - ratio * (middle - low), middle + ratio * (high - middle)]
    return narrowed


def of_parts(suite: Suite, header: Header, rows: Sequence[Row]) -> dict[str, Any]:
    """Return what several draws say beside their mean, for the suite and for each of its parts.

    {"n", "sampled" (items with several answers), "once", "narrowing" (standard error of the mean over that of one
    draw), "parts": {part: {"scores" (per repeat), "between", "within" (variances of marks), "stderr_one", "stderr",
    "pays" (repeats that bring the standard error within 5 % of the least), "pass_at", "maj_at": {k: {"value",
    "stderr", "n"}}}}}. Marks are on the part's scale.
    """
    from judges.repeats import spread

    n_draws = [len(row.draws) for row in rows]
    by_part: dict[str, list[Row]] = {}
    for row in rows:
        by_part.setdefault(row.part, []).append(row)
    metrics = {part: suite.report_part(header.suite, part).metric for part in by_part}
    whole = spread([scored_marks(row, metrics[row.part]) for row in rows], [_cluster(suite, row) for row in rows])
    return {
        "n": max(n_draws, default=0),
        "sampled": sum(n > 1 for n in n_draws),
        "once": sum(n <= 1 for n in n_draws),
        "narrowing": whole.stderr / whole.stderr_one if whole is not None and whole.stderr_one > 0 else 1.0,
        "parts": {part: _part(suite, header, own, metrics[part]) for part, own in by_part.items()},
    }


def _cluster(suite: Suite, row: Row) -> Hashable:
    """Return what the marks of items that are not independent have in common."""
    return suite.context_of(row) or (row.part, row.item_id)


def scored_marks(row: Row, metric: str) -> list[float]:
    """Return the marks of an item's draws, without the missing ones."""
    return [value for value in row.marks.get(metric, ()) if value is not None]


def _part(suite: Suite, header: Header, rows: Sequence[Row], metric: str) -> dict[str, Any]:
    from judges.repeats import spread

    facts = suite.report_part(header.suite, rows[0].part)
    values = [[mark * facts.scale for mark in scored_marks(row, metric)] for row in rows]
    n = max(len(row.draws) for row in rows)
    each = [[mark for row in rows if (mark := _mark_at(row, metric, repeat)) is not None] for repeat in range(n)]
    found = spread(values, [_cluster(suite, row) for row in rows])
    return {
        "scores": [fmean(own) * facts.scale if own else None for own in each],
        **({} if found is None else found._asdict()),
        **_of_right_answers(suite, header, rows, metric, n),
    }


def _mark_at(row: Row, metric: str, repeat: int) -> float | None:
    marks = row.marks.get(metric) or (None,)
    return marks[repeat] if repeat < len(marks) else marks[0] if len(marks) == 1 else None


def _of_right_answers(suite: Suite, header: Header, rows: Sequence[Row], metric: str, n: int) -> dict[str, Any]:
    """Return pass@k and maj@k over the items with all their draws marked right or wrong; {} where there are none."""
    from judges.repeats import majority_at_k, pass_at_k

    if any({*scored_marks(row, metric)} - {0.0, 1.0} or not suite.has_right_answer(row, header) for row in rows):
        return {}
    sizes = [*(2**power for power in range(n.bit_length()) if 2**power < n), n]
    passed: dict[int, list[tuple[float, Hashable]]] = {k: [] for k in sizes}
    agreed: dict[int, list[tuple[float, Hashable]]] = {k: [] for k in sizes}
    for row in rows:
        marks = [mark for repeat in range(n) if (mark := _mark_at(row, metric, repeat)) is not None]
        if len(marks) < n:
            continue
        votes = [suite.vote(row, header, repeat) for repeat in range(n)]
        # Every right answer is one vote, however it is written.
        merged = [True if mark == 1.0 else vote for mark, vote in zip(marks, votes, strict=True)]
        for k in sizes:
            passed[k].append((pass_at_k(n, int(sum(marks)), k), _cluster(suite, row)))
            if None not in votes:
                agreed[k].append((majority_at_k(merged, True, k), _cluster(suite, row)))
    return {
        name: {str(k): _mean_of(values) for k, values in by_size.items()}
        for name, by_size in (("pass_at", passed), ("maj_at", agreed))
        if by_size[n]
    }


def _mean_of(figures: Sequence[tuple[float, Hashable]]) -> dict[str, Any]:
    from judges.statistics import clustered_stderr

    values, clusters = zip(*figures, strict=True)
    return {"value": fmean(values), "stderr": clustered_stderr(values, clusters), "n": len(values)}


def said_of_repeats(key: str, found: Mapping[str, Any]) -> list[str]:
    """Say what the repeats of a suite show, in a line for it and one per part, from what ``of_parts`` returned."""
    greedy = f"; {plural(found['once'], 'item is', 'items are')} answered greedily, once" if found["once"] else ""
    lines = [f"{key}: mean of {found['n']} answers to {plural(found['sampled'], 'item')}{greedy}"]
    for part, own in found["parts"].items():
        said = []
        if own.get("within"):
            pays = own.get("pays")
            enough = f", {pays} would do within 5 %" if pays is not None and pays < found["n"] else ""
            said.append(f"standard error {own['stderr']:.3g} (one answer each: {own['stderr_one']:.3g}{enough})")
            said.append(f"variance {own['between']:.3g} between items, {own['within']:.3g} between answers")
        for name, title in (("pass_at", "pass"), ("maj_at", "maj")):
            for k, figure in own.get(name, {}).items():
                if int(k) > 1:
                    error = "" if figure["stderr"] is None else f" ± {figure['stderr']:.3f}"
                    said.append(f"{title}@{k} {figure['value']:.3f}{error} (n={figure['n']})")
        if said:
            lines.append(f"{part or key}: {'; '.join(said)}")
    return lines
