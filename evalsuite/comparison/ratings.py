"""``score preferences``: recorded ratings into the figures of preferences.json, with no model."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from evalsuite.comparison.figures import Verdicted, preference_figures
from evalsuite.comparison_documents import Preferences
from evalsuite.errors import DataError
from evalsuite.files import read_text
from evalsuite.text import plural
from evalsuite.validation import read_mapping, repeated
from judges.preference import verdicts_from_ratings

_FAILED = -1.0
_ID_COLUMN = "question_id"
_REMEDY = "give a CSV with the header question_id,<model>,..."


def score_preferences(
    path: Path, *, lineage: Mapping[str, str] | None = None, as_published: bool = False
) -> Preferences:
    """Score a CSV of ratings (``question_id,<model>,<model>...``, an empty cell where one is missing).

    A model is preferred where its rating is strictly higher. Rates are over the questions with both
    ratings; ``as_published`` divides by all rows of the file, blank and tied ones included, as the
    paper does (section 3, Table 4). Raises DataError in one sentence.
    """
    ids, ratings, notes = read_ratings(path, keep_failed=as_published)
    models = tuple(ratings)
    given = Verdicted(
        models=models,
        prompt_ids=ids,
        categories=(None,) * len(ids),
        verdicts={(a, b): verdicts_from_ratings(ratings[a], ratings[b]) for a, b in combinations(models, 2)},
        as_published=as_published,
    )
    if lineage is not None:
        notes += lineage_notes(lineage, models)
    return Preferences(
        models=models,
        judge=None,
        prompts=path.name,
        as_published=as_published,
        **dict(preference_figures(given, lineage)),
        notes=tuple(notes),
    )


def read_ratings(
    path: Path, *, keep_failed: bool = False
) -> tuple[tuple[str, ...], dict[str, list[float | None]], list[str]]:
    """Read the CSV: (question ids, ratings by model in file order, notes); raises DataError with the line.

    A rating of -1, which FastChat writes for a failed judgment, is missing unless ``keep_failed``.
    """
    try:
        lines = io.StringIO(read_text(path, remedy=_REMEDY))
        rows = [row for row in csv.reader(lines) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"cannot read {path} ({error}); {_REMEDY}") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    models = header[1:]
    if not header or header[0] != _ID_COLUMN or len(models) < 2 or "" in models:
        raise DataError(f"{path} has the header {','.join(header) or '(none)'}; expected question_id,<model>,<model>")
    if duplicates := repeated(models):
        raise DataError(f"{path}: duplicate column {duplicates[0]!r}")
    ids: dict[str, None] = {}
    ratings: dict[str, list[float | None]] = {model: [] for model in models}
    n_failed = 0
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(header):
            raise DataError(f"{path} row {number} has {len(row)} cells; expected {len(header)}")
        question_id = row[0].strip()
        if not question_id:
            raise DataError(f"{path} row {number} has no {_ID_COLUMN}; give one row per question, each with its id")
        if question_id in ids:
            raise DataError(f"{path} row {number}: duplicate question {question_id}; give one row per question")
        ids[question_id] = None
        for model, cell in zip(models, row[1:], strict=True):
            value = _rating(cell, f"{path} row {number}, {model}")
            if value == _FAILED and not keep_failed:
                n_failed, value = n_failed + 1, None
            ratings[model].append(value)
    if not ids:
        raise DataError(f"{path} has no rows; give one per question")
    notes = [f"{plural(n_failed, 'rating')} of -1: a failed judgment, which counts as missing"] if n_failed else []
    return tuple(ids), ratings, notes


def _rating(cell: str, where: str) -> float | None:
    if not cell.strip():
        return None
    try:
        # float() also reads underscores: 1_0 is a typing error, not a 10.
        value = math.nan if "_" in cell else float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where} is {cell.strip()!r}; expected a number, or an empty cell where the rating is missing")
    return value


def read_lineage(path: Path) -> dict[str, str]:
    """Read ``sft name: dgm name`` from YAML; raises DataError."""
    lineage = read_mapping(path, "lineage")
    if not lineage:
        raise DataError(f"{path} is empty; write one line 'sft: dgm' per SFT")
    for sft, dgm in lineage.items():
        if not isinstance(dgm, str) or sft == dgm:
            raise DataError(f"{path} maps {sft!r} to {dgm!r}; expected the names of two models (quote them)")
    return lineage


def lineage_notes(lineage: Mapping[str, str], models: Sequence[str]) -> list[str]:
    """Return a note for each model of a lineage that is not compared; raises DataError when no SFT can be counted."""
    missing = [name for pair in lineage.items() for name in pair if name not in models]
    usable = [sft for sft, dgm in lineage.items() if sft in models and dgm in models]
    if not usable:
        raise DataError(
            f"the lineage names {', '.join(sorted(set(missing)))}, the models are {', '.join(models)}; "
            "use the same names, and give both the SFT and its DGM"
        )
    return [f"no flips with {name}: it is not among the models" for name in dict.fromkeys(missing)]
