"""The options of ``evalsuite prefer``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import pydantic

from evalsuite.config import Config, Results


class PreferConfig(Config):
    """A whole ``evalsuite prefer``."""

    command: ClassVar[str] = "prefer"

    comparison: str = pydantic.Field(json_schema_extra={"argument": "COMPARISON", "path": True})
    """Folder of a comparison, or its name in results/comparisons."""
    out: Path
    """Folder for train.jsonl, dropped.jsonl and prefer.json."""
    min_margin: float = pydantic.Field(default=0.0, ge=0, le=1)
    """Drop pairs whose two sides are preferred with a difference below this, 0 to 1."""
    max_length_ratio: float | None = pydantic.Field(default=None, ge=1)
    """Drop pairs in which one answer is longer than the other by more than this factor."""
    max_characters: int | None = pydantic.Field(default=None, ge=1)
    """Drop pairs with an answer longer than this."""
    benchmark_prompts: bool = False
    """Take prompts that belong to a benchmark: a model trained on them has no figure on it any more."""
    contamination: Literal["full", "mini", "off"] = "full"
    """Look for the suites' prompts in the pairs: the real ones, a few of ours, or not."""
    results: Results = Path("results")
