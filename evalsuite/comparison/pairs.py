"""Pairs of outputs labelled by people, on which a judge is measured.

One row, as in LLMBar's files:

    {"input": "...", "output_1": "...", "output_2": "...", "label": 1}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.assets.pins import PAIRS
from evalsuite.comparison.answer_rows import read_rows, user_turns
from evalsuite.errors import DataError
from evalsuite.files import exists
from evalsuite.fingerprint import files_sha256
from evalsuite.suites.registry import all_assets
from judges.card import Label, LabelledPair

_LABELS: Mapping[str, Label] = {"1": 1, "2": 2, "output_1": 1, "output_2": 2}


def load_pairs(spec: str | None, limit: int | None) -> tuple[list[LabelledPair], dict[str, Any]]:
    """Load labelled pairs: pinned ones by their name (the first are the default), or a file.

    ``limit`` takes rows at equal distances. Returns the pairs and their pin {"name", "sha256",
    "source", "pinned"}. Raises DataError.
    """
    pinned = pinned_pairs()
    if spec is None or spec in pinned:
        asset = pinned[spec or next(iter(pinned))]
        try:
            rows, found = assets.records(asset)
        except DataError as error:
            raise DataError(f"{error}; or give labelled pairs with --pairs FILE") from error
        pin = {"name": asset.name, **asdict(assets.data_pin(found))}
    else:
        path = Path(spec).expanduser()
        if not exists(path) or not path.is_file():
            raise DataError(f"no pairs {spec!r} found; give {', '.join(pinned)}, or a .json or .jsonl file")
        rows = read_rows(path)
        pin = {"name": path.name, "sha256": files_sha256([path]), "source": "file", "pinned": False}
    pairs = [_pair(row, number, pin["name"]) for number, row in enumerate(rows, 1)]
    if limit is not None and limit < len(pairs):
        pairs = [pairs[i * len(pairs) // limit] for i in range(limit)]
    return pairs, pin


def pinned_pairs() -> dict[str, assets.Asset]:
    """Return the pinned labelled pairs by name."""
    return {name.removeprefix(f"{PAIRS}/"): asset for name, asset in all_assets().items() if asset.suite == PAIRS}


def _pair(row: Mapping[str, Any], number: int, source: str) -> LabelledPair:
    question = row["input"] if isinstance(row.get("input"), str) else (user_turns(row) or (None,))[0]
    texts: Sequence[Any] = (question, row.get("output_1"), row.get("output_2"))
    label = _LABELS.get(str(row.get("label")))
    if label is None or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{source} row {number} is not a labelled pair; expected texts input, output_1, output_2 and label 1 or 2"
        )
    authors = [row.get(f"model_{side}") or row.get(f"generator_{side}") for side in (1, 2)]
    known = [author if isinstance(author, str) else None for author in authors]
    return LabelledPair(
        str(row.get("id", number)), str(question), str(texts[1]), str(texts[2]), label, known[0], known[1]
    )
