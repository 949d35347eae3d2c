"""Units as an array of batch jobs. Whether they have ended is read from their folders; Slurm only says what still runs.

Accounting (``sacct``) is not used: many clusters have none.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.errors import BusyError, DataError, UsageError
from evalsuite.files import read_json, read_text, timestamp, write_json, write_text
from evalsuite.fleet.executors import WORKER, Executor
from evalsuite.fleet.units import FLEET, Unit, done_of
from evalsuite.placement import Placement
from evalsuite.text import plural

if TYPE_CHECKING:
    import jinja2

_NOTICE_S = 180
"""Seconds before its time limit at which a unit is told to end; Slurm may be a minute early."""
_TIMEOUT_S = 60.0
_POLL_S = (1.0, 15.0)
"""The shortest and the longest time between two questions to Slurm, which serves everybody."""
TEMPLATE = """\
#!/bin/bash
#SBATCH --job-name={{ name }}
#SBATCH --array={{ array }}
#SBATCH --output={{ log }}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@{{ notice_s }}
#SBATCH --nodes=1
#SBATCH --ntasks=1
{% for option in options -%}
#SBATCH {{ option }}
{% endfor -%}
exec {{ worker }} "$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {{ units }})"
"""


@dataclass(frozen=True, slots=True)
class _Job:
    """An array: the names of its units, and how many of them run at once, None for all."""

    units: Sequence[str]
    at_once: int | None

    def slots(self, n: int) -> int:
        """Return how many of the units may run, with ``n`` of them in the queue."""
        return n if self.at_once is None else min(self.at_once, n)


class Slurm(Executor):
    """Units on a Slurm cluster; its jobs keep running when the head ends.

    Slurm limits each array by itself, so units that follow while others are queued, such as retries, wait here until
    all arrays together run less than ``jobs``.
    """

    outlives_head = True

    def __init__(self, placement: Placement, results: Path, jobs: int | None, template: Path | None) -> None:
        if shutil.which("sbatch") is None:
            raise UsageError("sbatch not found; run on a login node of the cluster, or --on local")
        self._placement, self.at_once = placement, jobs
        self._template = _template(template)
        self._folder = results.absolute() / FLEET / ".slurm"
        self._arrays: dict[str, _Job] = {}
        self._queued: dict[str, set[str]] = {}
        """The units that wait or run in Slurm, by job, when it was last asked."""
        self._held: list[Unit] = []
        self._began = self._asked_at = -_POLL_S[1]

    def check(self, gpus: int) -> None:
        script = self._script("0", gpus, Path("units"))
        self._accepted(_run(["sbatch", "--test-only"], script))

    def submit(self, units: Sequence[Unit]) -> None:
        self._began = time.monotonic()
        self._held += units
        self._hand_over()

    def poll(self) -> set[str]:
        now = time.monotonic()
        shortest, longest = _POLL_S
        if self._arrays and now - self._asked_at >= min(longest, shortest + (now - self._began) / 20):
            self._asked_at = now
            self._queued = self._ask()
            self._hand_over()
        return {unit.name for unit in self._held}.union(*self._queued.values())

    def attach(self, units: Sequence[Unit]) -> None:
        wanted = {unit.name for unit in units}
        # Of an earlier head, or of another one in this process.
        for path in self._folder.glob("job-*.json"):
            try:
                document = read_json(path)
                if wanted & set(document["units"]):
                    self._arrays[document["job"]] = _Job(document["units"], document.get("at_once"))
            except (DataError, KeyError, TypeError):
                continue
        self._queued = self._ask() if self._arrays else {}

    def cancel(self) -> None:
        self._held = []
        if self._arrays:
            _run(["scancel", *self._arrays])
            deadline = time.monotonic() + _TIMEOUT_S
            while self._ask() and time.monotonic() < deadline:
                time.sleep(0.2)
        self.close()

    def close(self) -> None:
        with suppress(BusyError, UsageError):
            self._queued = self._ask() if self._arrays else {}
            self._hand_over(leaving=True)
            # Jobs that are left running need their scripts; so may those of a Slurm that does not answer.
            if not self._queued:
                shutil.rmtree(self._folder, ignore_errors=True)

    def _hand_over(self, *, leaving: bool = False) -> None:
        """Submit what is held, as far as the limit allows; when ``leaving``, all of it, to start after what is queued.

        An array beside others has no more units than are free, so that it does not keep the limit of that moment.
        """
        # Of two workers of a unit the slower one may have ended it after all.
        self._held = [unit for unit in self._held if done_of(unit) is None]
        while self._held:
            used = sum(self._arrays[job].slots(len(names)) for job, names in self._queued.items())
            free = len(self._held) if self.at_once is None else self.at_once - used
            if free <= 0 and not leaving:
                return
            alike = [unit for unit in self._held if unit.gpus == self._held[0].gpus]
            chosen = alike if leaving or not used else alike[:free]
            job = self._sbatch(chosen, after=list(self._queued) if leaving else [])
            self._arrays[job] = _Job([unit.name for unit in chosen], self.at_once)
            self._held = [unit for unit in self._held if unit not in chosen]
            # Known before it is first asked for.
            self._queued[job] = set(self._arrays[job].units)
            write_json(self._folder / f"job-{job}.json", {"job": job, **asdict(self._arrays[job])})
            self._asked_at = time.monotonic()

    def _ask(self) -> dict[str, set[str]]:
        """Ask Slurm which units wait or run; a job that it has forgotten has ended."""
        asked = _run(["squeue", "--noheader", "--array", "--format=%F %K"])
        if asked.returncode:
            raise BusyError(
                f"squeue failed ({_said(asked)}); the jobs keep running; run the same command again to attach"
            )
        names: dict[str, set[str]] = {}
        for line in asked.stdout.splitlines():
            job, _, task = line.partition(" ")
            units = self._arrays[job].units if job in self._arrays else ()
            if task.isdecimal() and int(task) < len(units):
                names.setdefault(job, set()).add(units[int(task)])
        return names

    def _sbatch(self, units: Sequence[Unit], after: Sequence[str]) -> str:
        stamp = timestamp()
        script, listed = self._folder / f"{stamp}.sh", self._folder / f"{stamp}.units"
        write_text(listed, "".join(f"{unit.folder}\n" for unit in units))
        at_once = f"%{self.at_once}" if self.at_once else ""
        write_text(script, self._script(f"0-{len(units) - 1}{at_once}", units[0].gpus, listed))
        order = [f"--dependency=afterany:{':'.join(after)}"] if after else []
        return self._accepted(_run(["sbatch", "--parsable", *order, str(script)])).split(";")[0].strip()

    def _script(self, array: str, gpus: int, listed: Path) -> str:
        settings = self._placement.settings
        values = {
            "name": "evalsuite",
            "array": array,
            "log": str(self._folder / "%A_%a.log"),
            "notice_s": _notice_s(settings) if "time" in settings else _NOTICE_S,
            "options": _options(settings, gpus),
            "gpus": gpus,
            "settings": dict(settings),
            "worker": shlex.join(WORKER),
            "units": shlex.quote(str(listed)),
        }
        return self._template.render(values)

    @staticmethod
    def _accepted(ended: subprocess.CompletedProcess[str]) -> str:
        if ended.returncode:
            raise UsageError(f"Slurm refuses the jobs: {_said(ended)}; {_partitions()}")
        return ended.stdout


def _options(settings: Mapping[str, str], gpus: int) -> list[str]:
    names = {"cpus": "cpus-per-task"}
    options = [f"--{names.get(key, key)}={value}" for key, value in settings.items()]
    return [*options, *([f"--gres=gpu:{gpus}"] if gpus else [])]


def _notice_s(settings: Mapping[str, str]) -> int:
    """Return the notice before a time limit: a quarter of a short one."""
    days, dash, clock = settings["time"].rpartition("-")
    parts = [days or "0", *clock.split(":")]
    if not all(part.isdecimal() for part in parts):
        return _NOTICE_S
    # Slurm reads days-hours, days-hours:minutes, hours:minutes:seconds, minutes:seconds and minutes.
    units = (86400, 3600, 60, 1) if dash or len(parts) == 4 else (0, 60, 1)
    seconds = sum(int(part) * unit for part, unit in zip(parts, units, strict=False))
    return max(1, min(_NOTICE_S, seconds // 4))


def _template(path: Path | None) -> jinja2.Template:
    import jinja2

    text = TEMPLATE if path is None else read_text(path, remedy="give a Jinja file with --slurm-template")
    try:
        return jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True).from_string(text)  # noqa: S701
    except jinja2.TemplateError as error:
        raise UsageError(f"{path} is not a Jinja template ({error}); see recipes/slurm/") from error


def _run(command: Sequence[str], given: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise BusyError(f"{command[0]} does not answer; run the same command again to attach") from error


def _said(ended: subprocess.CompletedProcess[Any]) -> str:
    lines = [line.strip() for line in (ended.stderr or ended.stdout).splitlines() if line.strip()]
    return "; ".join(line.partition("error: ")[2] or line for line in lines) or f"exit code {ended.returncode}"


def _partitions() -> str:
    """List the partitions of the cluster, with the GPUs of their nodes; raises BusyError for one that is down."""
    ended = _run(["sinfo", "--noheader", "--format=%R %D %G"])
    if ended.returncode:
        raise BusyError(
            f"Slurm does not answer ({_said(ended)}); check that slurmctld is running and SLURM_CONF names its file"
        )
    rows = [row.split()[:3] for row in ended.stdout.splitlines() if row.strip()]
    found = [f"{name} ({plural(int(n), 'node')}, {'no GPUs' if gres == '(null)' else gres})" for name, n, gres in rows]
    return f"partitions: {', '.join(found) or 'none'}"
