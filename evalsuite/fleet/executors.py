"""Where units run: what an executor does, and the one that runs them on this machine."""

from __future__ import annotations

import abc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from evalsuite.errors import EvalsuiteError, UsageError
from evalsuite.exits import INTERRUPTED
from evalsuite.fleet.units import Unit
from evalsuite.serving.device import gpu_names
from evalsuite.serving.guarded import Guarded
from evalsuite.text import plural

WORKER = (sys.executable, "-m", "evalsuite.fleet.worker")


class Executor(abc.ABC):
    """Runs units. How they ended is in their folders; an executor only knows which have not."""

    outlives_head = False
    """Whether units keep running when this process ends."""
    at_once: int | None = None
    """The most units at once, None where the cluster decides."""
    _waiting: list[Unit]

    @abc.abstractmethod
    def check(self, gpus: int) -> None:
        """Raise UsageError where a unit with that many GPUs can never run."""

    def submit(self, units: Sequence[Unit]) -> None:
        """Run units, several at once, as room allows: ``poll`` starts those that wait here."""
        self._waiting += units
        self.poll()

    @abc.abstractmethod
    def poll(self) -> set[str]:
        """Return the names of the units that wait or run."""

    def attach(self, units: Sequence[Unit]) -> None:  # noqa: B027 (those that end with their head leave none)
        """Find units that an earlier head has submitted."""

    @abc.abstractmethod
    def cancel(self) -> None:
        """End all units; what they were answered is kept."""

    def close(self) -> None:
        self.cancel()


class Local(Executor):
    """Units on this machine, each with its own GPUs."""

    def __init__(self, jobs: int | None) -> None:
        self._gpus = _visible_gpus()
        self._n_gpus = len(self._gpus)
        self.at_once: int = jobs or max(1, len(self._gpus))
        self._waiting = []
        self._running: dict[str, tuple[Guarded, Sequence[str]]] = {}

    def check(self, gpus: int) -> None:
        if gpus > self._n_gpus > 0:
            raise UsageError(f"a unit needs {plural(gpus, 'GPU')}, this machine has {self._n_gpus}; lower -tp or -dp")

    def poll(self) -> set[str]:
        for name, (guarded, gpus) in list(self._running.items()):
            if guarded.process.poll() is not None:
                guarded.end()
                self._gpus += gpus
                del self._running[name]
        while self._waiting and len(self._running) < self.at_once:
            unit = self._waiting[0]
            if self._n_gpus and unit.gpus > len(self._gpus):
                break
            del self._waiting[0]
            gpus, self._gpus = self._gpus[: unit.gpus], self._gpus[unit.gpus :]
            self._running[unit.name] = (_started(unit, gpus), gpus)
        return {*self._running, *(unit.name for unit in self._waiting)}

    def cancel(self) -> None:
        self._waiting = []
        for guarded, _ in self._running.values():
            guarded.end()
        self._running = {}


class StoppedError(EvalsuiteError):
    """The units of a shared executor have been ended or left."""

    exit_code = INTERRUPTED


class Shared(Executor):
    """An executor for the heads of several threads; after ``stop`` each of them ends with StoppedError."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._lock = threading.Lock()
        self._is_stopped = False
        self.outlives_head, self.at_once = executor.outlives_head, executor.at_once

    def check(self, gpus: int) -> None:
        with self._open() as executor:
            executor.check(gpus)

    def submit(self, units: Sequence[Unit]) -> None:
        with self._open() as executor:
            executor.submit(units)

    def poll(self) -> set[str]:
        with self._open() as executor:
            return executor.poll()

    def attach(self, units: Sequence[Unit]) -> None:
        with self._open() as executor:
            executor.attach(units)

    def cancel(self) -> None:
        with self._lock:
            self._is_stopped = True
            self._executor.cancel()

    def stop(self) -> None:
        """Let the heads end, whatever becomes of their units."""
        with self._lock:
            self._is_stopped = True

    def close(self) -> None:
        self.stop()
        self._executor.close()

    @contextmanager
    def _open(self) -> Iterator[Executor]:
        with self._lock:
            if self._is_stopped:
                raise StoppedError("interrupted")
            yield self._executor


def _started(unit: Unit, gpus: Sequence[str]) -> Guarded:
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else {})}
    with (unit.folder / "worker.log").open("ab") as log:
        streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        return Guarded([*WORKER, str(unit.folder)], **streams, env=environment)


def _visible_gpus() -> list[str]:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu.strip() for gpu in chosen.split(",") if gpu.strip()]
    return [str(number) for number in range(len(gpu_names()))]


def worker_environment() -> Mapping[str, str]:
    """Return the variables of this process that a unit needs elsewhere: keys, caches and where code is."""
    wanted = ("PYTHONPATH", "HF_", "EVALSUITE_", "OPENAI_API_KEY", "VLLM_", "NLTK_DATA", "TRANSFORMERS_")
    return {name: value for name, value in os.environ.items() if name.startswith(wanted)}
