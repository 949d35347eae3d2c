"""The head: hands units to an executor, retries what may succeed, and shows all of them as one.

Everything that it knows is in the units' folders, so that a head that was killed resumes where it stopped.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from evalsuite.errors import BusyError, EvalsuiteError
from evalsuite.files import writing
from evalsuite.fleet.executors import Executor
from evalsuite.fleet.units import FLEET, Done, Unit, done_of, failed_attempts, has_started
from evalsuite.fleet.view import View
from evalsuite.lease import Lease, holder_of
from evalsuite.progress import NoProgress, Progress
from evalsuite.text import plural

_ATTEMPTS = 4
"""How often a unit may fail in a way that is worth a retry."""
_SILENT = 6
"""How often a unit may end without reporting a result, as with a node that died, before it counts as failed."""
_POLL_S, _SHOW_S, _SHOWN_PER_S = 0.2, 2.0, 50
_LATE_S = 5.0
"""How late a network file system may show that a unit has ended."""


class UnitsFailedError(EvalsuiteError):
    """Some units failed, ``names`` of them; the figures of the others are there. Its exit code is the first unit's."""

    def __init__(self, message: str, exit_code: int, names: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.names = names


class DetachedError(EvalsuiteError):
    """The head ends and leaves its units running."""

    exit_code = 75


@contextmanager
def heading(results: Path) -> Iterator[None]:
    """Keep other heads from the units of a results folder; raises BusyError while there is one."""
    path = results / FLEET / ".head"
    with writing(path):
        lease = Lease.take(path)
    if lease is None:
        holder = holder_of(path)
        raise BusyError(
            f"process {holder.get('pid', '?')} on {holder.get('host', '?')} is already running the units of {results}; "
            "run again when it has ended, or give another folder with --results"
        )
    try:
        with lease:
            yield
    finally:
        with suppress(OSError):
            path.parent.rmdir()


@dataclass(slots=True)
class _Following:
    """A unit in progress: how often it was submitted, and since when the executor has not known it."""

    unit: Unit
    tries: int = 0
    retries: int = 0
    failed_before: int = 0
    gone_at: float | None = None
    done: Done | None = None
    failed: str = ""


@dataclass(slots=True)
class Head:
    """Carries units out on an executor. Several heads of one process share a ``Shared`` one, and ``merging``."""

    executor: Executor
    progress: Progress = field(default_factory=NoProgress)
    detach: bool = False
    merging: threading.Lock = field(default_factory=threading.Lock)
    """Held by the one that writes into the results folder."""

    def carry_out(self, units: Sequence[Unit], on_done: Callable[[Unit, Done], None] = lambda *_: None) -> None:
        """Run units to their end; ``on_done`` gets each as it ends. Raises UnitsFailedError at the end for failed ones.

        An interrupt ends the units, or leaves those of a cluster running if the user says so.
        """
        followed = {unit.name: _Following(unit, failed_before=len(failed_attempts(unit))) for unit in units}
        for unit in units:
            if (done := done_of(unit)) is not None and done.exit_code:
                # What made it fail may have been fixed since.
                (unit.folder / "done.json").unlink()
        open_units = [each.unit for each in followed.values() if not self._settle(each, on_done)]
        try:
            for gpus in sorted({unit.gpus for unit in open_units}):
                self.executor.check(gpus)
            self.executor.attach(open_units)
            attached = self.executor.poll()
            self._submit([followed[unit.name] for unit in open_units if unit.name not in attached])
            if self.detach and self.executor.outlives_head and open_units:
                raise DetachedError(
                    f"left running: {plural(len(open_units), 'job')}; run the same command again to attach"
                )
            self._follow(list(followed.values()), on_done)
        except KeyboardInterrupt:
            if end_units(self.executor):
                raise
            raise DetachedError("the jobs are left running; run the same command again to attach to them") from None
        if failed := [each for each in followed.values() if each.failed or (each.done and each.done.exit_code)]:
            raise _failure(failed)

    def _follow(self, followed: Sequence[_Following], on_done: Callable[[Unit, Done], None]) -> None:
        shown_at = time.monotonic()
        task, view = "units", View([each.unit for each in followed])
        self.progress.begin(task, len(followed))
        while left := [each for each in followed if each.done is None and not each.failed]:
            active = self.executor.poll()
            again = []
            for each in left:
                if self._settle(each, on_done):
                    continue
                if each.unit.name in active:
                    each.gone_at = None
                elif self._is_retryable(each):
                    again.append(each)
            self._submit(again)
            if (now := time.monotonic()) - shown_at > max(_SHOW_S, len(left) / _SHOWN_PER_S):
                shown_at = now
                self.progress.step(
                    view.line(active, {each.unit.name for each in left}, sum(each.retries for each in followed))
                )
            if len(left) != (n_left := sum(each.done is None and not each.failed for each in followed)):
                self.progress.update(task, len(followed) - n_left, len(followed))
            time.sleep(_POLL_S)
        self.progress.step("")

    def _submit(self, followed: Sequence[_Following]) -> None:
        if followed:
            for each in followed:
                each.unit.write()
                each.tries += 1
                each.gone_at = None
            self.executor.submit([each.unit for each in followed])

    def _settle(self, each: _Following, on_done: Callable[[Unit, Done], None]) -> bool:
        """Take a unit's end over, if it has ended."""
        if (done := done_of(each.unit)) is None:
            return False
        each.done = done
        if done.exit_code:
            self.progress.log(f"failed: {each.unit.title} on {done.host}: {done.reason}")
        else:
            on_done(each.unit, done)
        return True

    def _is_retryable(self, each: _Following) -> bool:
        """Return whether a unit that the executor has lost is submitted again; one that fails too often is not."""
        now = time.monotonic()
        each.gone_at = each.gone_at or now
        failures = failed_attempts(each.unit)[each.failed_before :]
        if failures:
            reason = failures[-1]["reason"]
        elif has_started(each.unit):
            reason = "it was stopped from outside: its job was cancelled, its process killed, or its node lost"
        else:
            reason = f"it ended without reporting anything; check that its node sees {each.unit.folder}"
        if now - each.gone_at < (_LATE_S if not failures else _POLL_S):
            return False
        if len(failures) >= _ATTEMPTS or each.tries >= _SILENT:
            each.failed = f"{plural(each.tries, 'attempt')}, the last: {reason}; the logs are in {each.unit.folder}"
            self.progress.log(f"failed: {each.unit.title}: {each.failed}")
            return False
        each.retries += 1
        self.progress.log(f"again: {each.unit.title}: {reason}")
        return True


def _failure(failed: Sequence[_Following]) -> UnitsFailedError:
    first = failed[0]
    reason = first.failed or (first.done.reason if first.done else "")
    code = first.done.exit_code if first.done else 3
    others = f", and {len(failed) - 1} others" if len(failed) > 1 else ""
    names = frozenset(each.unit.name for each in failed)
    return UnitsFailedError(f"{first.unit.title}{others} failed: {reason}", code, names)


def end_units(executor: Executor) -> bool:
    """End all units at an interrupt; return False if the user wants those of a cluster to keep running."""
    if executor.outlives_head and _asks_to_detach():
        return False
    executor.cancel()
    return True


def _asks_to_detach() -> bool:
    """Ask whether jobs should keep running; without a terminal they end."""
    if not (sys.stdin and sys.stdin.isatty()):
        return False
    try:
        sys.stderr.write("\nLeave the jobs running? Running the same command again attaches to them. [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().casefold() in ("y", "yes")
    except (OSError, KeyboardInterrupt):
        return False
