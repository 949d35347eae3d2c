"""Pairs of outputs that people have labelled: what a judge is measured on.

One row, as LLMBar's files hold it:

    {"input": "...", "output_1": "...", "output_2": "...", "label": 1}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.comparison.prompts import read_rows, user_turns
from evalsuite.errors import DataError
from evalsuite.files import exists
from evalsuite.fingerprint import files_sha256
from judges.card import Label, LabelledPair

DEFAULT_PAIRS = "judge_agreement/mt_bench"
PAIR_ASSETS = {"mt_bench": DEFAULT_PAIRS, "llmbar_natural": "judge_agreement/llmbar_natural"}
_LABELS: Mapping[str, Label] = {"1": 1, "2": 2, "output_1": 1, "output_2": 2}


def load_pairs(word: str | None, limit: int | None) -> tuple[list[LabelledPair], dict[str, Any]]:
    """Load labelled pairs: ``mt_bench`` (the default), ``llmbar_natural``, or a file of the user's.

    ``limit`` takes rows at equal distances. Returns the pairs and their pin {"name", "sha256",
    "source", "pinned"}. Raises DataError in one sentence.
    """
    if word is None or word in PAIR_ASSETS:
        name = PAIR_ASSETS[word or "mt_bench"]
        try:
            rows, found = assets.records(name)
        except DataError as error:
            raise DataError(f"{error}; or give labelled pairs with --pairs FILE") from error
        pin = {"name": name, **assets.data_pin(found)}
    else:
        path = Path(word).expanduser()
        if not exists(path) or not path.is_file():
            raise DataError(f"no pairs {word!r}: give {', '.join(PAIR_ASSETS)}, or a .json or .jsonl file")
        rows = read_rows(path)
        pin = {"name": path.name, "sha256": files_sha256([path]), "source": "file", "pinned": False}
    pairs = [_pair(row, number, pin["name"]) for number, row in enumerate(rows, 1)]
    if limit is not None and limit < len(pairs):
        pairs = [pairs[i * len(pairs) // limit] for i in range(limit)]
    return pairs, pin


def _pair(row: Mapping[str, Any], number: int, source: str) -> LabelledPair:
    question = row["input"] if isinstance(row.get("input"), str) else (user_turns(row) or (None,))[0]
    texts: Sequence[Any] = (question, row.get("output_1"), row.get("output_2"))
    label = _LABELS.get(str(row.get("label")))
    if label is None or not all(isinstance(text, str) for text in texts):
        raise DataError(
            f"{source} row {number} is no labelled pair; expected input, output_1, output_2 (texts) and label (1 or 2)"
        )
    authors = [row.get(f"model_{side}") or row.get(f"generator_{side}") for side in (1, 2)]
    known = [author if isinstance(author, str) else None for author in authors]
    return LabelledPair(
        str(row.get("id", number)), str(question), str(texts[1]), str(texts[2]), label, known[0], known[1]
    )
