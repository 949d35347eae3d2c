"""The leaderboard: recorded results in, one HTML file and one CSV out.

``evalsuite.report(...)`` is a verb of the Python interface, and Python binds this package to the same name as soon as
anything in it is imported; so the package itself can be called.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evalsuite.report.build import Report


def report(results: str | Path = "results", out: str | Path | None = None, *, max_mb: float = 5.0) -> Report:
    """Write leaderboard.html and leaderboard.csv of a results folder and return where they are and what is in them.

    ``out`` is the HTML file (default: in ``results``), ``max_mb`` its size above which items go into pages beside it.
    ``faults`` of the result has a sentence for each thing that could not be read. Raises DataError or UsageError.
    """
    from evalsuite.report.build import build_report

    target = None if out is None else Path(out).expanduser()
    return build_report(Path(results).expanduser(), target, limit_bytes=round(max_mb * 1e6))


class _Verb(ModuleType):
    __call__ = staticmethod(report)


sys.modules[__name__].__class__ = _Verb
