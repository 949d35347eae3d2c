"""``python -m evalsuite.fleet.worker FOLDER``: run one unit on this machine, behind the guard.

The store is on this machine's disk; the unit's folder gets a copy every five minutes and at the end. Any signal ends
the command, whose answers are kept, and the next attempt starts from the copies of all earlier ones. Two workers of one
unit do no harm: the first that comes to an end is the result.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from evalsuite.errors import EvalsuiteError
from evalsuite.exits import INTERRUPTED, UNUSABLE, is_worth_another_try, report_error
from evalsuite.files import exists, write_json
from evalsuite.fleet.children import COMMAND, Ended, run_child
from evalsuite.fleet.units import RESULTS, SCRATCH, STORE, Unit, commit, done_of, read_unit
from evalsuite.store import Store

SCRATCH_VARIABLE = "EVALSUITE_SCRATCH"
COMMAND_VARIABLE = "EVALSUITE_UNIT_COMMAND"
"""Another command in evalsuite's place, for tests."""


class _StopError(Exception):
    """The machine is being reclaimed, by a signal."""

    def __init__(self, number: int) -> None:
        self.number = number


def _stop(number: int, _: FrameType | None) -> None:
    for other in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(other, signal.SIG_IGN)
    raise _StopError(number)


def work(folder: Path) -> int:
    """Run the unit of a folder; return the exit code of its command."""
    unit = read_unit(folder)
    if (done := done_of(unit)) is not None:
        return done.exit_code
    attempt = folder / "attempts" / f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    began = time.monotonic()
    with _scratch() as scratch:
        ended = _unseen(unit)
        if ended is None:
            _prepare(unit, attempt, scratch)
            ended = _run(unit, attempt, scratch)
    ending = {
        "exit_code": ended.exit_code,
        "reason": ended.reason if ended.exit_code else "",
        "attempt": attempt.name,
        "seconds": round(time.monotonic() - began, 3),
        "host": socket.gethostname(),
    }
    if is_worth_another_try(ended.exit_code):
        write_json(attempt / "ended.json", ending)
    else:
        commit(folder / "done.json", ending)
    return ended.exit_code


@contextmanager
def _scratch() -> Iterator[Path]:
    """Make a folder on this machine's disk: in EVALSUITE_SCRATCH, Slurm's or the system's temporary folder."""
    parent = next(filter(None, (os.environ.get(name) for name in (SCRATCH_VARIABLE, "SLURM_TMPDIR"))), None)
    if parent is not None:
        Path(parent).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="evalsuite-unit-", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _unseen(unit: Unit) -> Ended | None:
    """Return the end of a unit that cannot start: the head has named a folder that this machine does not see."""
    missing = [str(path) for path in (*unit.reads, *unit.seeds) if not exists(path)]
    if not missing:
        return None
    remedy = "put it in a folder that all nodes see under the same path"
    return Ended(UNUSABLE, "", (f"evalsuite: {missing[0]} does not exist on {socket.gethostname()}; {remedy}",))


def _prepare(unit: Unit, attempt: Path, scratch: Path) -> None:
    """Copy what the unit starts from: its seeds, and the answers of earlier attempts."""
    stores = sorted((unit.folder / "attempts").glob(f"*/results/{STORE}"))
    for seed in unit.seeds:
        shutil.copytree(seed, attempt / "results" / seed.name)
    if stores:
        with Store(scratch / STORE) as store:
            store.merge(stores, keep_first=True)


def _run(unit: Unit, attempt: Path, scratch: Path) -> Ended:
    results = str(attempt / "results")
    arguments = [each.replace(RESULTS, results).replace(SCRATCH, str(scratch)) for each in unit.arguments]
    command = os.environ.get(COMMAND_VARIABLE, "").split() or COMMAND
    return run_child([*command, *arguments, "--json"], attempt / "log.log")


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, _stop)
    folder = Path(sys.argv[1])
    try:
        return work(folder)
    except _StopError as stop:
        if stop.number == signal.SIGUSR1:
            _requeue()
        return INTERRUPTED
    except EvalsuiteError as error:
        return report_error(error)


def _requeue() -> None:
    """Put a Slurm job that nears its time limit back into the queue; without Slurm's tools its head does."""
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    if job is not None:
        with suppress(OSError):
            job = f"{job}_{os.environ.get('SLURM_ARRAY_TASK_ID', '0')}"
            subprocess.run(["scontrol", "requeue", job], capture_output=True, timeout=60, check=False)


if __name__ == "__main__":
    sys.exit(main())
