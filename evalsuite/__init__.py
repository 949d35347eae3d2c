"""evalsuite: evaluate checkpoints on a real vLLM, judge them, and trust the figures."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalsuite.api import compare, load_items, load_results, report, run, score

__version__ = metadata.version("evalsuite")

__all__ = ["__version__", "compare", "load_items", "load_results", "report", "run", "score"]


def __getattr__(name: str) -> Any:
    """Load the verbs when first used, so that ``import evalsuite`` stays cheap."""
    if name in __all__:
        from evalsuite import api

        return getattr(api, name)
    raise AttributeError(f"module 'evalsuite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
