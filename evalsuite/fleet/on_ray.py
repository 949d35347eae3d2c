"""Units as tasks of a Ray cluster. Ray repeats what is lost with a node; the guard ends a unit with its task."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.errors import UsageError
from evalsuite.fleet.executors import WORKER, Executor, worker_environment
from evalsuite.serving.guarded import Guarded
from evalsuite.text import plural

_RETRIES = 3
_CONNECT_S = 5.0


class OnRay(Executor):
    """Units on a Ray cluster: that of an address, of RAY_ADDRESS, or one on this machine."""

    def __init__(self, address: str | None, jobs: int | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise UsageError("Ray is not installed; install evalsuite[ray], or use --on local") from error
        self._ray = ray
        address = address or os.environ.get("RAY_ADDRESS")
        _require_reachable(address)
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            ray.init(address=address, log_to_driver=False, include_dashboard=False if address is None else None)
        self.at_once = jobs
        self._waiting = []
        self._running: dict[str, Any] = {}

    def check(self, gpus: int) -> None:
        most = max((node["Resources"].get("GPU", 0) for node in self._ray.nodes() if node["Alive"]), default=0)
        if gpus > most:
            raise UsageError(
                f"a unit needs {plural(gpus, 'GPU')} on one node, and the largest of this cluster has {most:g}; lower "
                "-tp or -dp, or add ,gpus=0 to --on for servers on the CPU"
            )

    def poll(self) -> set[str]:
        if self._running:
            names = {task: name for name, task in self._running.items()}
            for task in self._ray.wait(list(names), num_returns=len(names), timeout=0)[0]:
                # How it ended is in its folder.
                del self._running[names[task]]
        while self._waiting and (self.at_once is None or len(self._running) < self.at_once):
            unit = self._waiting.pop(0)
            task = self._ray.remote(_run_unit).options(num_gpus=unit.gpus, num_cpus=1, max_retries=_RETRIES)
            self._running[unit.name] = task.remote([*WORKER, str(unit.folder)], dict(worker_environment()))
        return {*self._running, *(unit.name for unit in self._waiting)}

    def cancel(self) -> None:
        self._waiting = []
        for task in self._running.values():
            self._ray.cancel(task, force=True)
        self._running = {}

    def close(self) -> None:
        super().close()
        if self._is_ours:
            self._ray.shutdown()


def _run_unit(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a unit's worker to its end, on a node."""
    with Guarded(command, env={**os.environ, **environment}) as guarded:
        return guarded.process.wait()


def _require_reachable(address: str | None) -> None:
    """Raise UsageError for an address that nothing listens at: Ray itself would wait for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        with socket.create_connection((host, int(port)), timeout=_CONNECT_S):
            pass
    except OSError as error:
        raise UsageError(f"no Ray cluster answers at {address} ({error}); start one with `ray start --head`") from error
