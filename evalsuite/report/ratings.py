"""What ``evalsuite rate`` has written, as analyses: the page then shows ratings as it shows any other table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite.analysis.document import Analysis, Chart, Column, Table, cell
from evalsuite.comparison.rating_figures import MEAN
from evalsuite.documents import validated
from evalsuite.errors import DataError
from evalsuite.files import read_json
from evalsuite.rating_documents import RatingFigures, Ratings
from evalsuite.text import well_formed

_SPIDER_AXES = 3


def read_ratings(results: Path, faults: list[str]) -> list[tuple[str, Analysis]]:
    """Read every folder of ratings by its name; one that cannot be read adds a sentence to ``faults``."""
    found = []
    for path in sorted(results.glob("ratings/*/factors.json")):
        try:
            document = validated(Ratings, read_json(path), path, "run `evalsuite rate` again")
        except DataError as error:
            faults.append(str(error))
            continue
        found.append((well_formed(path.parent.name), rating_analysis(path.parent.name, document)))
    return found


def rating_analysis(name: str, document: Ratings) -> Analysis:
    """Return a document of ratings as tables by model, by category and of differences, and their charts."""
    has_mean = len(document.factors) > 1 and all(model.mean is not None for model in document.models)
    keys = [*document.factors, *([MEAN] if has_mean else [])]
    columns = [Column(f"f{number}", key, "float2") for number, key in enumerate(keys)]
    scores = [{"model": model.name, **_cells(keys, {**model.factors, MEAN: model.mean})} for model in document.models]
    categories = [
        {"model": model.name, "category": category, **_cells(keys, figures)}
        for model in document.models
        for category, figures in (model.categories or {}).items()
    ]
    tables = [Table("ratings", "Ratings", [Column("model", "model"), *columns], scores, notes=document.notes)]
    if document.differences:
        tables.append(_differences(document))
    if categories:
        heads = [Column("model", "model"), Column("category", "category")]
        tables.append(Table("categories", "Ratings by category", [*heads, *columns], categories))
    drawn = [f"f{len(keys) - 1}"] if keys[-1] == MEAN else ["f0"]
    charts = [Chart("mean", keys[-1] if keys[-1] == MEAN else keys[0], "bars", "ratings", "model", drawn)]
    if len(document.factors) >= _SPIDER_AXES:
        axes = [f"f{number}" for number in range(len(document.factors))]
        charts.append(Chart("factors", "Ratings by factor", "spider", "ratings", "model", axes))
    judge = document.judge
    said = "; ".join((judge.card.words if judge.card else None) or ("it has no card",))
    scales = {factor.scale for factor in document.factors.values()}
    only = next(iter(scales)) if len(scales) == 1 else None
    scale = f"from {only[0]} to {only[1]}" if only else "each factor on its own scale"
    about = f"{document.n_prompts} answers per model ({document.prompts}), {scale}, rated by {judge.name} "
    about += f"({judge.method}): {said}."
    provenance = {"judge": judge.as_json(), "factors": {key: one.as_json() for key, one in document.factors.items()}}
    title = f"Ratings of {', '.join(model.name for model in document.models)}"
    return Analysis("ratings", name, title, about, provenance, tables, charts)


def _cells(keys: Sequence[str], figures: Mapping[str, RatingFigures | None]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for number, key in enumerate(keys):
        one = figures.get(key) or RatingFigures()
        why = f"no rating ({', '.join(one.unscored)})" if one.unscored else "no rating"
        cells |= cell(f"f{number}", one.score, one.ci95, why)
    return cells


def _differences(document: Ratings) -> Table:
    columns = [Column("factor", "factor"), Column("a", "model"), Column("b", "minus")]
    columns += [
        Column("difference", "difference", "float2"),
        Column("p", "p (Holm)", "float3"),
        Column("n", "n", "int"),
    ]
    rows = [
        {
            "factor": one.factor,
            "a": one.a,
            "b": one.b,
            "difference": one.difference,
            **({"difference_ci95": list(one.ci95)} if one.ci95 else {}),
            "p": one.p_value_holm,
            "n": one.n,
        }
        for one in document.differences
    ]
    return Table("differences", "Paired differences", columns, rows)
