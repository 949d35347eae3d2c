"""Marks of style: how many of each a model writes, and how two models differ.

The proportional frequency of A and B is the count of a mark in A's answers over that in B's, on the prompts that both
answered (WILDCHAT-50M, arXiv 2501.18511, section 4 and Table 3). Intervals resample whole conversations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.analysis.document import Analysis, Chart, Column, Table, analysis_name, cell, listed
from evalsuite.analysis.lineage import lineage_charts, lineage_tables
from evalsuite.analysis.markup import ELEMENTS
from evalsuite.analysis.measuring import FEATURES, Measured, clusters_of, common_prompts, measure, token_counter
from evalsuite.text import plural
from judges.statistics import bootstrap_ci, bootstrap_ratio_ci

SEED, N_BOOT = 0, 2000
_NO_WORDS = "text in a script without spaces between words (Thai, Khmer, ...); give --tokenizer"
_MAX_DRAWN_PAIRS = 40
_DRAWN = ("strong", "em", "ol", "ul", "li", "code", "p")


@dataclass(frozen=True, slots=True)
class StyleOptions:
    """The options of ``analyze style``; ``lineage`` maps an SFT's name to its DGM's."""

    lineage: Mapping[str, str] | None = None
    tokenizer: str | None = None
    as_published: bool = False
    sources: Sequence[str] = ()
    name: str | None = None


def style_analysis(specs: Sequence[str], results: Path, options: StyleOptions | None = None) -> Analysis:
    """Measure the answers of ``specs`` and return the document; raises DataError or UsageError.

    Figures: counts, means per answer, proportional frequencies of all pairs of models and, with a lineage, Table 3 and
    the inheritance scores. A ratio over a count of 0 is null with its reason.
    """
    options = options or StyleOptions()
    counter = token_counter(options.tokenizer)
    given = measure(specs, results, counter, as_published=options.as_published, sources=options.sources)
    tables = [counts_table(given), rates_table(given, counter.unit)]
    charts = _rate_charts(len(given))
    if len(given) > 1:
        tables.append(table := frequency_table(given))
        if len(table.rows) <= _MAX_DRAWN_PAIRS:
            drawn = (*_DRAWN, "chars")
            charts.append(Chart("frequencies", table.title, "heatmap", table.id, "pair", drawn, table.source))
    if options.lineage is not None:
        tables += lineage_tables(given, options.lineage, as_published=options.as_published)
        charts += lineage_charts(tables)
    names = [one.name for one in given]
    part = "whole pages, as in the paper" if options.as_published else "the answers alone"
    return Analysis(
        kind="style",
        name=analysis_name((options.name,) if options.name else names) + "-as-published" * options.as_published,
        title=f"Style: {listed(names)}",
        about=f"Style features in {part}; chars are {given[0].unit}, tokens are {counter.unit}. "
        "Intervals are 95 % bootstrap intervals over conversations.",
        provenance={
            "answers": [dict(one.provenance) for one in given],
            "as_published": options.as_published,
            "lineage": dict(options.lineage) if options.lineage else None,
            "chars": given[0].unit,
            "tokens": counter.unit,
            "bootstrap": {"n": N_BOOT, "seed": SEED, "unit": "conversation"},
            "versions": {name: metadata.version(name) for name in ("evalsuite", "markdown-it-py")},
        },
        tables=tables,
        charts=charts,
    )


def counts_table(given: Sequence[Measured]) -> Table:
    """Return the number of each mark in all of a model's answers, and of the failed and empty answers by reason."""
    rows = []
    for one in given:
        totals = one.counts[:, : len(ELEMENTS)].sum(axis=0)
        unscored = one.provenance.get("unscored") or {}
        row = {"model": one.name, "n": len(one.prompts), "left_out": sum(unscored.values())}
        rows.append(row | dict(zip(ELEMENTS, map(int, totals), strict=True)))
    columns = [Column("model", "Model"), Column("n", "answers", "int"), Column("left_out", "no answer", "int")]
    columns += [Column(element, element, "int") for element in ELEMENTS]
    notes = [
        f"{one.name}: left out: {', '.join(f'{n} {reason}' for reason, n in one.provenance['unscored'].items())}"
        for one in given
        if one.provenance.get("unscored")
    ]
    return Table("counts", "Marks of style", columns, rows, notes=notes)


def rates_table(given: Sequence[Measured], token_unit: str) -> Table:
    """Return the mean number of each mark and the mean lengths per answer, with their intervals."""
    rows = []
    for one in given:
        row: dict[str, Any] = {"model": one.name, "n": len(one.prompts)}
        for feature, values in zip(FEATURES, one.counts.T, strict=True):
            row |= _mean_cell(feature, values, one.clusters)
        rows.append(row)
    columns = [Column("model", "Model"), Column("n", "answers", "int")]
    columns += [Column(element, element, "float2") for element in ELEMENTS]
    columns += [Column("chars", "chars", "float1"), Column("tokens", "tokens", "float1")]
    notes = [f"Chars are {given[0].unit}; tokens are {token_unit}."]
    return Table("rates", "Style features and lengths per answer", columns, rows, notes=notes)


def _mean_cell(feature: str, values: NDArray[np.float64], clusters: Sequence[str]) -> dict[str, Any]:
    known = np.isfinite(values)
    if not known.any():
        return {feature: None, f"{feature}_why": _NO_WORDS}
    kept = [cluster for cluster, there in zip(clusters, known, strict=True) if there]
    if feature == "tokens" and known.mean() < 1:
        # A mean over the answers in some scripts only would look like one over all.
        return {feature: None, f"{feature}_why": f"{(~known).sum()} of {known.size} answers: {_NO_WORDS}"}
    return cell(feature, float(values.mean()), bootstrap_ci(values.tolist(), kept, n_boot=N_BOOT, seed=SEED))


def frequency_table(given: Sequence[Measured]) -> Table:
    """Return the proportional frequency of all pairs of models, on the prompts that both answered."""
    rows = [_pair_row(a, b) for a, b in combinations(given, 2)]
    columns = [Column("pair", "A, B"), Column("a", "A"), Column("b", "B"), Column("n", "common answers", "int")]
    columns += [Column(feature, feature, "float3") for feature in FEATURES]
    notes = ["A over B, on the prompts that both answered: 1 for equal counts, 2 if A writes twice as many"]
    notes += [
        f"{row['pair']}: {plural(row['n'], 'common answer')} of {len(a.prompts)} and {len(b.prompts)}"
        for row, (a, b) in zip(rows, combinations(given, 2), strict=True)
        if row["n"] < max(len(set(a.prompts)), len(set(b.prompts)))
    ][:10]
    return Table("frequencies", "Proportional frequencies", columns, rows, "WILDCHAT-50M, Table 3 (PF)", notes)


def _pair_row(a: Measured, b: Measured) -> dict[str, Any]:
    common = common_prompts((a, b))
    row: dict[str, Any] = {"pair": f"{a.name}, {b.name}", "a": a.name, "b": b.name, "n": len(common)}
    if not common:
        why = "no prompt in common; give answers to the same prompts"
        return row | dict.fromkeys(FEATURES) | {f"{feature}_why": why for feature in FEATURES}
    clusters = clusters_of(a, common)
    above, below = a.rows_of(common), b.rows_of(common)
    for column, feature in enumerate(FEATURES):
        row |= ratio_cell(feature, above[:, column], below[:, column], clusters)
    return row


def ratio_cell(
    feature: str, above: NDArray[np.float64], below: NDArray[np.float64], clusters: Sequence[str]
) -> dict[str, Any]:
    """Return sum(above) / sum(below) with its interval, or null with the reason."""
    if not (np.isfinite(above).all() and np.isfinite(below).all()):
        return {feature: None, f"{feature}_why": _NO_WORDS}
    if not below.sum():
        return {feature: None, f"{feature}_why": f"{int(above.sum())} over 0: the second model has none"}
    interval = bootstrap_ratio_ci(above, below, clusters, n_boot=N_BOOT, seed=SEED)
    return cell(feature, float(above.sum() / below.sum()), interval)


def _rate_charts(n_models: int) -> list[Chart]:
    charts = [
        Chart("rates", "Marks per answer", "bars", "rates", "model", _DRAWN),
        Chart("lengths", "Length per answer", "bars", "rates", "model", ("chars", "tokens")),
    ]
    if n_models > 1:
        charts.append(Chart("profile", "Style profile", "spider", "rates", "model", (*_DRAWN, "chars")))
    return charts
