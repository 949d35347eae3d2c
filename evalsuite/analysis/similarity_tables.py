"""The tables and charts of similarity: per model as in the paper's Table 5, per pair, and matrices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.analysis.document import Chart, Column, Table, cell
from judges.statistics import cluster_numbers, percentile_ci

SOURCE = "WILDCHAT-50M, Table 5"
SEED, N_BOOT = 0, 2000
ALPHA = 0.3
_N_REFERENCES, _FIRST_SEED = 5, 42844
_DRAWS_PER_CHUNK = 50
_COLUMNS_PER_CHUNK = 500
_MAX_DRAWN_MODELS = 60

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Metric:
    """One measure of overlap; ``symmetric`` where the order of the two texts does not matter."""

    key: str
    label: str
    symmetric: bool = True


ROUGE_1, ROUGE_L = Metric("rouge1", "ROUGE-1"), Metric("rougeL", "ROUGE-L")
METEOR = Metric("meteor", "METEOR", symmetric=False)
METEOR_WITHOUT_SYNONYMS = Metric("meteor_without_synonyms", "METEOR without synonyms", symmetric=False)

Values = Mapping[Metric, Floats]
"""By metric an array (models, models, prompts), hypothesis first; NaN where an answer is unscored."""


def mean_intervals(
    values: Floats, clusters: Sequence[Hashable], *, n_boot: int = N_BOOT, seed: int = SEED
) -> list[list[float] | None]:
    """Return the 95 % bootstrap interval of the mean of every row of ``values`` (rows, observations).

    All rows share the same resampled clusters, so that thousands of intervals cost little more than one; for rows
    without NaN they equal those of :func:`judges.statistics.bootstrap_ci`. NaN is left out. None for a row with
    fewer than two clusters, or whose means are all equal.
    """
    owner = cluster_numbers(len(clusters), clusters)
    n, known = int(owner.max(initial=-1)) + 1, np.isfinite(values)
    sums, sizes = np.zeros((n, len(values))), np.zeros((n, len(values)))
    np.add.at(sums, owner, np.where(known, values, 0.0).T)
    np.add.at(sizes, owner, known.T.astype(np.float64))
    if n < 2:
        return [None] * len(values)
    intervals: list[list[float] | None] = []
    for start in range(0, len(values), _COLUMNS_PER_CHUNK):
        part = slice(start, start + _COLUMNS_PER_CHUNK)
        # The same draws for every part, and few at a time: all of them would take more memory than the answers.
        rng, chunks = np.random.default_rng(seed), []
        for first in range(0, n_boot, _DRAWS_PER_CHUNK):
            n_draws = min(_DRAWS_PER_CHUNK, n_boot - first)
            drawn = rng.multinomial(n, np.full(n, 1 / n), size=n_draws)
            weights = drawn.astype(np.float64)
            with np.errstate(invalid="ignore"):
                chunks.append((weights @ sums[:, part]) / (weights @ sizes[:, part]))
        means = np.vstack(chunks)
        for replicates, n_clusters in zip(means.T, (sizes[:, part] > 0).sum(axis=0), strict=True):
            interval = percentile_ci(replicates[np.isfinite(replicates)]) if n_clusters >= 2 else None
            intervals.append(list(interval) if interval else None)
    return intervals


def _cell(key: str, values: Floats, interval: list[float] | None) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    why = "no prompt where both answers have a word that the metric reads"
    return cell(key, float(known.mean()) if len(known) else None, interval, why)


def models_table(names: Sequence[str], values: Values, clusters: Sequence[str], notes: Sequence[str]) -> Table:
    """Return Table 5 with true means: similarity to all other models, its spread over them and over prompts."""
    columns = [Column("model", "Model"), Column("n", "prompts", "int")]
    rows: list[dict[str, Any]] = [{"model": name, "n": 0} for name in names]
    for metric, scores in values.items():
        key = metric.key
        # An array (other models, prompts) with model i as the hypothesis.
        to_others = [np.delete(scores[i], i, axis=0) for i in range(len(names))]
        means = np.array([_mean(each, axis=0) for each in to_others])
        for i, interval in enumerate(mean_intervals(means, clusters)):
            known = means[i][np.isfinite(means[i])]
            rows[i]["n"] = max(rows[i]["n"], len(known))
            rows[i] |= _cell(f"avg_{key}", means[i], interval)
            if len(names) > 2:
                rows[i][f"std_{key}"] = _spread(to_others[i])
            rows[i][f"spread_{key}"] = float(known.std(ddof=1)) if len(known) > 1 else None
        columns.append(Column(f"avg_{key}", metric.label, "float3"))
        columns += [Column(f"std_{key}", "sd of models", "float3")] if len(names) > 2 else []
        columns.append(Column(f"spread_{key}", "sd of prompts", "float3"))
    rows.sort(key=lambda row: -(row["avg_rouge1"] or 0))
    about = (
        "Mean over prompts of the mean similarity to all other models; sd of prompts is the deviation between prompts"
    )
    if len(names) > 2:
        about += ", sd of models the mean over prompts of the deviation between models, as in the paper"
    return Table("models", "Similarity to the other models", columns, rows, SOURCE, [about, *notes])


def _mean(values: Floats, axis: int) -> Floats:
    """Return the mean without NaN; NaN where all values are NaN."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis))


def _spread(to_others: Floats) -> float | None:
    """Return the mean over prompts of the deviation between the other models."""
    centre = _mean(to_others, axis=0)
    deviations = np.sqrt(_mean((to_others - centre) ** 2, axis=0))
    known = deviations[np.isfinite(deviations)]
    return float(known.mean()) if len(known) else None


def pairs_table(names: Sequence[str], values: Values, clusters: Sequence[str]) -> Table:
    """Return all pairs of models: means with intervals; METEOR in both directions, since it is not symmetric."""
    pairs = list(combinations(range(len(names)), 2))
    rows: list[dict[str, Any]] = []
    *_, of_meteor = values.values()
    for a, b in pairs:
        n = int(np.isfinite(of_meteor[a, b]).sum())
        rows.append({"pair": f"{names[a]}, {names[b]}", "a": names[a], "b": names[b], "n": n})
    columns = [Column("pair", "Models"), Column("a", "A"), Column("b", "B"), Column("n", "prompts", "int")]
    for metric, all_scores in values.items():
        key, label = metric.key, metric.label
        directions = [(key, label, pairs)]
        if not metric.symmetric:
            swapped = [(b, a) for a, b in pairs]
            directions = [(f"{key}_ab", f"{label} of A", pairs), (f"{key}_ba", f"{label} of B", swapped)]
        for column, title, ordered in directions:
            scores = np.array([all_scores[i, j] for i, j in ordered])
            for row, score, interval in zip(rows, scores, mean_intervals(scores, clusters), strict=True):
                row.update(_cell(column, score, interval))
            columns.append(Column(column, title, "float3"))
    notes = ["METEOR of A takes A's answer as the hypothesis and B's as the reference"]
    return Table("pairs", "Similarity of all pairs of models", columns, rows, notes=notes)


def matrix_tables(names: Sequence[str], values: Values) -> list[Table]:
    """Return one matrix per metric: the row's model as the hypothesis, the column's as the reference."""
    tables = []
    for metric, scores in values.items():
        means = _mean(scores, axis=2)
        rows = [
            {"model": name}
            | {f"m{j}": None if i == j or np.isnan(means[i, j]) else float(means[i, j]) for j in range(len(names))}
            for i, name in enumerate(names)
        ]
        columns = [Column("model", "Model"), *(Column(f"m{j}", name, "float3") for j, name in enumerate(names))]
        tables.append(Table(f"matrix_{metric.key}", f"{metric.label}, mean over prompts", columns, rows))
    return tables


def published_table(names: Sequence[str], values: Values, notes: Sequence[str]) -> Table:
    """Return Table 5 as the authors' notebook computes it: drawn references and a moving average.

    Model number k (from 1) is compared with five models that ``numpy.random.seed(42843 + k)`` draws, less itself.
    """
    columns = [Column("model", "Model"), Column("references", "compared with")]
    for metric in values:
        columns += [Column(f"avg_{metric.key}", metric.label, "float2"), Column(f"std_{metric.key}", "std", "float2")]
    rows = []
    for i, name in enumerate(names):
        n_drawn = min(_N_REFERENCES, len(names))
        drawn = np.random.RandomState(_FIRST_SEED + i).choice(len(names), size=n_drawn, replace=False)
        others = [int(j) for j in drawn if j != i]
        row: dict[str, Any] = {"model": name, "references": ", ".join(names[j] for j in others)}
        for metric, all_scores in values.items():
            scores = np.nan_to_num(all_scores[i, others], nan=0.0)
            row[f"avg_{metric.key}"] = moving_average(scores.mean(axis=0))
            row[f"std_{metric.key}"] = moving_average(scores.std(axis=0))
        rows.append(row)
    rows.sort(key=lambda row: -row["avg_rouge1"])
    about = (
        "As published: an exponential moving average with alpha 0.3 over at most 500 prompts, in which the last ten "
        "have 97 % of the weight; an answer without words scores 0; there is no interval"
    )
    return Table("table5", "Intra-set similarity, as published", columns, rows, SOURCE, [about, *notes])


def moving_average(values: Floats) -> float:
    """Return the exponential moving average of a sequence, starting with its first value.

    Source: RunningDictAverage of penfever/wildchat-50m@285b20a:notebooks/textual_similarity.ipynb.
    """
    average = float(values[0])
    for value in values[1:]:
        average = ALPHA * float(value) + (1 - ALPHA) * average
    return average


def charts_of(tables: Sequence[Table], n_models: int) -> list[Chart]:
    """Return bars of the averages and a heat map of each matrix."""
    charts = []
    for table in tables:
        if table.id in {"models", "table5"}:
            averages = [column.key for column in table.columns if column.key.startswith("avg_")]
            charts.append(Chart("averages", table.title, "bars", table.id, "model", averages, SOURCE))
        if table.id.startswith("matrix_") and n_models <= _MAX_DRAWN_MODELS:
            keys = [column.key for column in table.columns[1:]]
            charts.append(Chart(table.id, table.title, "heatmap", table.id, "model", keys))
    return charts
