"""The JSON files of a checkpoint, which others wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalsuite.errors import CheckpointError, DataError
from evalsuite.files import read_json

MAX_TEXT_BYTES = 1 << 26
"""The largest JSON file or template that is read; those of published models have a few megabytes at most."""


def read_config(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a checkpoint; raises CheckpointError for anything else."""
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}; give the folder that save_pretrained wrote")
    try:
        config = read_json(path, MAX_TEXT_BYTES, "save the checkpoint again")
    except DataError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not a JSON object; save the checkpoint again")
    return config
