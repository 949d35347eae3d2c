"""Peak memory while a model is served, sampled once a second."""

from __future__ import annotations

import threading
from typing import Self

from evalsuite.serving.device import query_gpus

_EVERY_S = 1.0
_MIB = 2**20
_MEASURED = {
    "cuda": "memory used on the GPUs by all processes (nvidia-smi); vLLM reserves its share at startup",
    "cpu": "resident memory of the server's processes",
}


class PeakMemory:
    """Samples in a thread: used GPU memory from nvidia-smi, or the resident memory of child processes.

    ``what`` describes the measurement; ``peak_bytes`` is None without any sample, as for an external server.
    """

    def __init__(self, kind: str) -> None:
        """``kind`` is the session's: "cpu", "cuda" or "endpoint"."""
        self.kind = kind
        self.what = _MEASURED.get(kind, "not measured: external server")
        self.peak_bytes: int | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="evalsuite-memory", daemon=True)

    def __enter__(self) -> Self:
        if self.kind in {"cpu", "cuda"}:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _sample(self) -> None:
        measure = gpu_bytes if self.kind == "cuda" else children_bytes
        while not self._stopped.wait(_EVERY_S):
            if used := measure():
                self.peak_bytes = max(self.peak_bytes or 0, used)


def children_bytes() -> int:
    """Return the resident bytes of all child processes."""
    import psutil

    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.Error:  # the process has just ended
            continue
    return total


def gpu_bytes() -> int:
    """Return the bytes in use on all visible GPUs, 0 if nvidia-smi does not report them."""
    try:
        return sum(int(mib) for mib in query_gpus("memory.used")) * _MIB
    except ValueError:
        return 0
