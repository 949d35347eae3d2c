"""The options of ``evalsuite gate``."""

from __future__ import annotations

from pathlib import Path

import pydantic

from evalsuite.config import Config, Results


class GateConfig(Config):
    """A whole ``evalsuite gate``."""

    baseline: str = pydantic.Field(json_schema_extra={"argument": "BASELINE", "path": True})
    """A model's folder in results/, or its name."""
    candidate: str = pydantic.Field(json_schema_extra={"argument": "CANDIDATE", "path": True})
    """Folder or name of the model that has to be as good."""
    non_inferior: float | None = pydantic.Field(default=None, gt=0, lt=1)
    """Non-inferiority margin: every figure must be shown to have fallen by less than this fraction of its range."""
    junit: Path | None = None
    """Write a JUnit XML file with one test per figure."""
    results: Results = Path("results")
