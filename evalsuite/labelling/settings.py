"""The options of ``evalsuite label``."""

from __future__ import annotations

from pathlib import Path

import pydantic

from evalsuite.config import Config


class LabelConfig(Config):
    """A whole ``evalsuite label``."""

    comparison: Path = pydantic.Field(json_schema_extra={"argument": "COMPARISON"})
    """Folder of a comparison (results/comparisons/NAME)."""
    n: int = pydantic.Field(default=100, ge=1, json_schema_extra={"flag": "n"})
    """How many pairs of answers to judge."""
    out: Path = Path("sheet.html")
    """The page to write."""
    seed: int = 0
    """Seed for the choice of pairs and for which answer is on the left."""
