"""The options of ``evalsuite watch``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pydantic

from evalsuite.config import RunConfig

NOT_ASKED = ("models", "checkpoints", "name", "label", "fresh", "ask_again")
"""Options of ``run`` that make no sense for checkpoints that come one after the other."""


class WatchConfig(RunConfig):
    """A whole ``evalsuite watch``: the options of ``run``, and which checkpoints it evaluates."""

    command: ClassVar[str] = "watch"

    run_dir: Path = pydantic.Field(json_schema_extra={"argument": "RUN_DIR"})
    """Folder in which a trainer saves its checkpoint-N, or --out of evalsuite sft."""
    models: tuple[str, ...] = ()
    every: int | None = pydantic.Field(default=None, ge=1)
    """Evaluate only steps that are multiples of this, and the last step."""
    keep_judge: bool = False
    """Keep the judge's server running between checkpoints; it must fit beside the model's."""
    wait: float = pydantic.Field(default=120.0, gt=0)
    """Minutes without a new checkpoint after which to stop, if the training run does not mark its end."""
    poll_s: float = pydantic.Field(default=10.0, gt=0)
    """Seconds between polls of the folder."""

    def run_config(self, folders: Sequence[Path]) -> RunConfig:
        """Return the run that evaluates some checkpoints."""
        given = {name: getattr(self, name) for name in RunConfig.model_fields if name in self.model_fields_set}
        return RunConfig(**{**given, "models": tuple(map(str, folders))})
