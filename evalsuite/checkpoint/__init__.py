"""From a model given on the command line to a checkpoint that can be served, or one sentence that says why not."""

from __future__ import annotations

from evalsuite.checkpoint.model import (
    TOKENIZER_FILES,
    Checkpoint,
    generation_config,
    remote_code,
    weight_bytes,
)
from evalsuite.checkpoint.resolving import resolve

__all__ = [
    "TOKENIZER_FILES",
    "Checkpoint",
    "generation_config",
    "remote_code",
    "resolve",
    "weight_bytes",
]
