"""All figures of a results folder as one pandas table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.results.folder import folders_of, judge_views, stored_manifest, stored_scores
from evalsuite.results.reading import no_results, require_folder
from evalsuite.text import well_formed

if TYPE_CHECKING:
    import pandas as pd


def load_results(results: str | Path = "results") -> pd.DataFrame:
    """Return one row per model and judge with every figure of its scores.json, columns like ``mt_bench.score``.

    The columns ``variant``, ``data``, ``limit`` and ``judge`` tell apart what must not be ranked together.
    Raises DataError without results, and for a broken scores.json.
    """
    import pandas as pd

    results = Path(results).expanduser()
    require_folder(results)
    rows = []
    for folder in folders_of(results):
        stored = stored_scores(folder)
        if stored is None:
            continue
        for scores, _ in judge_views(stored, stored_manifest(folder)):
            row = {
                "model": scores.model.name,
                "fingerprint": scores.model.fingerprint,
                "folder": well_formed(folder.name),
                "variant": scores.variant,
                "data": scores.data,
                "limit": scores.limit,
                "judge": scores.judge.name if scores.judge else None,
            }
            rows.append(row | _flat(scores.suites) | _flat({"average": scores.average}))
    if not rows:
        raise no_results(results)
    return pd.DataFrame(rows)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            flat[f"{prefix}{key}"] = json.dumps(value)
        else:
            flat[f"{prefix}{key}"] = value
    return flat
