"""The options of ``evalsuite plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pydantic

from evalsuite.config import Config, Results, read_suites
from evalsuite.suites.registry import SuiteSpec, default_suites


class PlanConfig(Config):
    """A whole ``evalsuite plan``."""

    command: ClassVar[str] = "plan"

    suites: tuple[SuiteSpec, ...] = pydantic.Field(
        default_factory=default_suites, json_schema_extra={"flag": "suite", "short": "-s"}
    )
    """Suite, also with parts (openllm:ifeval,musr); give it several times. All by default."""
    models: int = pydantic.Field(default=2, ge=2)
    """How many models are compared, two by two."""
    effect: float = pydantic.Field(default=0.02, gt=0, lt=1)
    """The true difference that shall be found, as a fraction of a figure's range (0.02 of MT-Bench's 1 to 10: 0.18)."""
    power: float = pydantic.Field(default=0.8, gt=0.05, lt=1)
    """How often it shall be found."""
    tokens_per_second: float | None = pydantic.Field(default=None, gt=0)
    """Tokens per second that the server generates, for the estimate of hours."""
    price_per_million: float | None = pydantic.Field(default=None, gt=0)
    """What a million written tokens cost, for money."""
    results: Results = Path("results")

    @pydantic.field_validator("suites", mode="before")
    @classmethod
    def _read_suites(cls, given: Any) -> Any:
        return read_suites(given)
