"""evalsuite: evaluate checkpoints on a real vLLM, judge them, and believe the figures."""

from __future__ import annotations

from importlib import metadata
from typing import Any

__version__ = metadata.version("evalsuite")

__all__ = ["__version__", "compare", "load_results", "run", "score"]


def __getattr__(name: str) -> Any:
    """Load the verbs when first used, so that ``import evalsuite`` stays cheap."""
    if name in {"compare", "run", "score", "load_results"}:
        from evalsuite import api

        return getattr(api, name)
    raise AttributeError(f"module 'evalsuite' has no attribute {name!r}")
