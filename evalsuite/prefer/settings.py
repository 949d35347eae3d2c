"""The options of ``evalsuite prefer``."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pydantic

from evalsuite.config import Config, Results
from evalsuite.contamination.settings import Checked


class PreferConfig(Config):
    """A whole ``evalsuite prefer``."""

    comparison: str = pydantic.Field(json_schema_extra={"argument": "COMPARISON", "path": True})
    """Folder of a comparison, or its name in results/comparisons; with --by a folder of generate, or other data."""
    by: str | None = pydantic.Field(default=None, min_length=1)
    """Numeric column (rating, reward, ...): each prompt's best answer is preferred to its worst."""
    scores: Path | None = None
    """With --by: a folder of rate, or a JSONL file, whose columns are joined to the answers by content_hash."""
    out: Path
    """Folder for train.jsonl, dropped.jsonl and prefer.json."""
    min_margin: float = pydantic.Field(default=0.0, ge=0)
    """Drop pairs with a preference margin below this, 0 to 1; with --by, a margin of scores."""
    max_length_ratio: float | None = pydantic.Field(default=None, ge=1)
    """Drop pairs in which one answer is longer than the other by more than this factor."""
    max_characters: int | None = pydantic.Field(default=None, ge=1)
    """Drop pairs with an answer longer than this."""
    benchmark_prompts: bool = False
    """Keep prompts of a benchmark; its score means nothing for a model trained on them."""
    contamination: Checked = "full"
    """Check the pairs for the suites' prompts: the real ones, a small built-in set, or off."""
    results: Results = Path("results")

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.by is None and self.scores is not None:
            raise ValueError("--scores needs --by, the column to prefer by")
        if self.by is None and self.min_margin > 1:
            raise ValueError("--min-margin of a comparison is at most 1")
        return self
