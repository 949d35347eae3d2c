"""The options of ``evalsuite plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic

from evalsuite.config import Config, Results, read_suites
from evalsuite.suites.registry import SuiteSpec, default_suites


class PlanConfig(Config):
    """A whole ``evalsuite plan``."""

    suites: tuple[SuiteSpec, ...] = pydantic.Field(
        default_factory=default_suites, json_schema_extra={"flag": "suite", "short": "-s"}
    )
    """Suite, optionally with parts (openllm:ifeval,musr); repeatable. Default: all."""
    models: int = pydantic.Field(default=2, ge=2)
    """Number of models, compared pairwise."""
    effect: float = pydantic.Field(default=0.02, gt=0, lt=1)
    """True difference to detect, as a fraction of a figure's range (0.02 of MT-Bench's 1 to 10 is 0.18)."""
    power: float = pydantic.Field(default=0.8, gt=0.05, lt=1)
    """Probability of detecting it."""
    tokens_per_second: float | None = pydantic.Field(default=None, gt=0)
    """Throughput of the server in generated tokens per second, to estimate hours."""
    price_per_million: float | None = pydantic.Field(default=None, gt=0)
    """Price of a million generated tokens, to estimate cost."""
    results: Results = Path("results")

    @pydantic.field_validator("suites", mode="before")
    @classmethod
    def _read_suites(cls, given: object) -> Any:
        return read_suites(given)
