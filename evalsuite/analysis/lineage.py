"""Inheritance of style: Table 3 for your own models, and how close an SFT is to its own DGM.

A model's style vector holds the mean of ``log(1 + count)`` over its answers, for each mark and for the length in
characters; the logarithm keeps a few very long answers from deciding. The distance of two models is the mean absolute
difference of their vectors on the same prompts. An SFT's inheritance score is
``1 - d(own DGM) / mean d(other DGMs)``: 1 when it writes exactly like its DGM, 0 when its DGM is no closer than the
others on average, below 0 when it is farther. The definition is ours; the paper only shows the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.analysis.document import Chart, Column, Table, cell
from evalsuite.analysis.measuring import FEATURES, Measured, clusters_of, common_prompts
from evalsuite.comparison.ratings import lineage_notes
from evalsuite.errors import DataError
from evalsuite.text import plural
from judges.statistics import bootstrap_ci_of

TABLE_3 = ("strong", "em", "ol", "ul", "h1", "h2", "h3", "h4", "p")
"""The paper's columns before ``len``, the mean number of characters."""

SOURCE = "WILDCHAT-50M, Table 3"
_COMPARED = [column for column, feature in enumerate(FEATURES) if feature != "tokens"]
_N_BOOT = 2000
Counts = Mapping[str, NDArray[np.float64]]


def lineage_tables(given: Sequence[Measured], lineage: Mapping[str, str], *, as_published: bool) -> list[Table]:
    """Return Table 3, the inheritance scores and the distances of SFTs and DGMs, on the prompts common to all.

    Raises DataError when the lineage has no SFT whose DGM is given too, or no prompt is common to them.
    """
    by_name = {one.name: one for one in given}
    lineage_notes(lineage, list(by_name))
    usable = {sft: dgm for sft, dgm in lineage.items() if sft in by_name and dgm in by_name}
    missing = [name for pair in lineage.items() for name in pair if name not in by_name]
    dgms = list(dict.fromkeys(usable.values()))
    members = [by_name[name] for name in dict.fromkeys([*dgms, *usable])]
    common = common_prompts(members)
    if not common:
        names = ", ".join(one.name for one in members)
        raise DataError(f"{names} have no prompt in common; give answers to the same prompts")
    counts = {one.name: one.rows_of(common) for one in members}
    clusters = clusters_of(members[0], common)
    notes = [f"{plural(len(common), 'answer')} of each model, to the same prompts"]
    notes += [f"{name} of the lineage is not among the answers" for name in dict.fromkeys(missing)]
    return [
        _table_3(counts, usable, dgms, notes, as_published=as_published),
        _inheritance(counts, usable, dgms, clusters),
        _distances(counts, usable, dgms),
    ]


def _table_3(
    counts: Counts, lineage: Mapping[str, str], dgms: Sequence[str], notes: Sequence[str], *, as_published: bool
) -> Table:
    labels = {dgm: f"{dgm} : None" for dgm in dgms} | {sft: sft for sft in lineage}
    rows = [_totals_row(labels[name], counts[name]) for name in [*dgms, *lineage]]
    pairs = [*lineage.items(), *((later, earlier) for earlier, later in combinations(lineage, 2))]
    for a, b in pairs:
        rows.append(_ratios_row(f"PF | {labels[a]}, {labels[b]}", counts[a], counts[b], as_published=as_published))
    columns = [Column("model", "Model"), *(Column(key, key, "float3") for key in (*TABLE_3, "len"))]
    about = ["len is the mean number of characters, rounded; PF divides totals before rounding"]
    if as_published:
        about.append("0 over 0 is 1.000, as in the paper")
    return Table("table3", "Inheritance of style", columns, rows, SOURCE, [*notes, *about])


def _totals_row(label: str, counts: NDArray[np.float64]) -> dict[str, Any]:
    row: dict[str, Any] = {"model": label}
    row |= {element: int(counts[:, FEATURES.index(element)].sum()) for element in TABLE_3}
    return row | {"len": round(float(counts[:, FEATURES.index("chars")].mean()))}


def _ratios_row(
    label: str, above: NDArray[np.float64], below: NDArray[np.float64], *, as_published: bool
) -> dict[str, Any]:
    row: dict[str, Any] = {"model": label}
    for key in (*TABLE_3, "len"):
        column = FEATURES.index("chars" if key == "len" else key)
        a, b = float(above[:, column].sum()), float(below[:, column].sum())
        if b:
            row[key] = a / b
        elif as_published and not a:
            row[key] = 1.0
        else:
            row |= {key: None, f"{key}_why": f"{int(a)} over 0: the second model has none"}
    return row


def style_vector(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the style vector of counts, one row per answer and the columns of ``FEATURES``, without tokens."""
    vector: NDArray[np.float64] = np.log1p(counts[:, _COMPARED]).mean(axis=0)
    return vector


def style_distance(a: Sequence[float] | NDArray[np.float64], b: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the mean absolute difference of two style vectors, 0 for equal ones."""
    return float(np.abs(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)).mean())


def inheritance_score(
    sft: NDArray[np.float64], own: NDArray[np.float64], others: Sequence[NDArray[np.float64]]
) -> float | None:
    """Return ``1 - d(sft, own) / mean d(sft, other)`` of style vectors, at most 1; None where the mean is 0."""
    mean = float(np.mean([style_distance(sft, other) for other in others]))
    return 1 - style_distance(sft, own) / mean if mean else None


def _inheritance(counts: Counts, lineage: Mapping[str, str], dgms: Sequence[str], clusters: Sequence[str]) -> Table:
    rows = []
    for sft, own in lineage.items():
        others = [dgm for dgm in dgms if dgm != own]
        row: dict[str, Any] = {"sft": sft, "dgm": own}
        if others:
            distance = partial(_distance, counts, sft)
            row |= {"nearest": min(dgms, key=distance)} | _score_cell(counts, sft, own, others, clusters)
        else:
            row |= {"nearest": None, "score": None, "score_why": "no second DGM to compare with"}
        rows.append(row)
    compared = [row for row in rows if row["nearest"] is not None]
    notes = ["1: the SFT writes exactly like its DGM; 0: its DGM is no closer than the other DGMs; below 0: farther."]
    if compared:
        n_own = sum(row["nearest"] == row["dgm"] for row in compared)
        notes.append(f"{n_own} of {len(compared)} SFTs are closest to their own DGM.")
    columns = [Column("sft", "SFT"), Column("dgm", "own DGM"), Column("nearest", "nearest DGM")]
    columns.append(Column("score", "inheritance", "float3"))
    return Table("inheritance", "Inheritance scores", columns, rows, notes=notes)


def _distance(counts: Counts, a: str, b: str) -> float:
    return style_distance(style_vector(counts[a]), style_vector(counts[b]))


def _score_cell(counts: Counts, sft: str, own: str, others: Sequence[str], clusters: Sequence[str]) -> dict[str, Any]:
    def score(drawn: NDArray[np.intp]) -> float | None:
        vectors = {name: style_vector(counts[name][drawn]) for name in (sft, own, *others)}
        return inheritance_score(vectors[sft], vectors[own], [vectors[other] for other in others])

    value = score(np.arange(len(clusters)))
    if value is None:
        return {"score": None, "score_why": "the SFT writes exactly like every DGM"}
    return cell("score", value, bootstrap_ci_of(score, len(clusters), clusters, n_boot=_N_BOOT))


def _distances(counts: Counts, lineage: Mapping[str, str], dgms: Sequence[str]) -> Table:
    keys = {dgm: f"dgm{number}" for number, dgm in enumerate(dgms, 1)}
    rows = [{"sft": sft} | {keys[dgm]: _distance(counts, sft, dgm) for dgm in dgms} for sft in lineage]
    columns = [Column("sft", "SFT"), *(Column(keys[dgm], dgm, "float3") for dgm in dgms)]
    notes = ["Mean absolute difference of log(1 + count) per answer, over the marks and the length: 0 for equal style"]
    return Table("distances", "Distance in style from each DGM", columns, rows, notes=notes)


def lineage_charts(tables: Sequence[Table]) -> list[Chart]:
    by_id = {table.id: table for table in tables}
    distances = by_id["distances"]
    values = [column.key for column in distances.columns[1:]]
    charts = [Chart("inheritance", "Inheritance scores", "bars", "inheritance", "sft", ("score",))]
    if len(values) > 1:
        charts.append(Chart("distances", distances.title, "heatmap", "distances", "sft", values))
    return charts
