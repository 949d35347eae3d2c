"""The most memory that a model took while it was served, looked at once a second."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from evalsuite.serving.device import told_of_gpus

_EVERY_S = 1.0
_MIB = 2**20


class PeakMemory:
    """Samples in a thread: a GPU's used memory through nvidia-smi, else the resident memory of our child processes.

    ``what`` names the one that was measured; ``peak_bytes`` is None while nothing was seen, as
    with a server that somebody else runs.
    """

    def __init__(self, kind: str) -> None:
        """``kind`` is the session's: "cpu", "cuda" or "endpoint"."""
        self.kind = kind
        self.peak_bytes: int | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="evalsuite-memory", daemon=True)

    @property
    def what(self) -> str:
        return {
            "cuda": "memory used on the GPUs, of all processes (nvidia-smi); vLLM reserves its share at the start",
            "cpu": "resident memory of the server's processes",
        }.get(self.kind, "not measured: the server is somebody else's")

    def __enter__(self) -> Self:
        if self.kind in {"cpu", "cuda"}:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _look(self) -> None:
        measure = gpu_bytes if self.kind == "cuda" else children_bytes
        while not self._over.wait(_EVERY_S):
            seen = measure()
            if seen:
                self.peak_bytes = max(self.peak_bytes or 0, seen)


def children_bytes() -> int:
    """Return the resident bytes of all processes below this one."""
    import psutil

    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.Error:  # it ended while it was looked at
            continue
    return total


def gpu_bytes() -> int:
    """Return the bytes in use on all visible GPUs, 0 where nvidia-smi does not tell."""
    try:
        return sum(int(mib) for mib in told_of_gpus("memory.used")) * _MIB
    except ValueError:
        return 0
