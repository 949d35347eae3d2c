"""The options by which ``mix``, ``sft`` and ``analyze contamination`` look for benchmark items in training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pydantic

from evalsuite.config import Config, Data, Results

Turns = Literal["user", "all"]
Checked = Literal["full", "mini", "off"]
CheckedMix = Annotated[
    Checked,
    pydantic.Field(description="Check the mix for the suites' prompts: the real ones, a small built-in set, or off."),
]


class OverlapConfig(Config):
    """When an item counts as found in a conversation."""

    ngram: int = pydantic.Field(default=8, ge=2, le=50)
    """Words per n-gram of the overlap rule."""
    overlap: float = pydantic.Field(default=0.5, ge=0, le=0.999)
    """An item counts when more than this share of its words is covered."""
    turns: Turns = "user"
    """Look in user turns, or in all of them."""
    near: float | None = pydantic.Field(default=None, ge=0, le=0.999)
    """Also count items with more than this share of their words in shared 5-grams."""


class MeasureConfig(OverlapConfig):
    """A whole ``evalsuite analyze contamination``."""

    sources: tuple[str, ...] = pydantic.Field(min_length=1, json_schema_extra={"argument": "DATA", "path": True})
    """Training data: hub data sets, files or folders, a mix's folder."""
    data: Data = "full"
    suite: tuple[str, ...] = pydantic.Field(default=(), json_schema_extra={"path": True})
    """Look only for items of this suite, or of a benchmark's FILE.yaml; repeatable."""
    results: Results = Path("results")
