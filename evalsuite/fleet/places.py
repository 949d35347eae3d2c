"""From the value of ``--on`` to the executor."""

from __future__ import annotations

from pathlib import Path

from evalsuite.errors import UsageError
from evalsuite.fleet.executors import Executor, Local
from evalsuite.fleet.on_ray import OnRay
from evalsuite.fleet.on_slurm import Slurm
from evalsuite.placement import Placement


def executor_of(placement: Placement, results: Path, jobs: int | None = None, template: Path | None = None) -> Executor:
    """Return the executor of ``--on``; raises UsageError where it is not there."""
    if template is not None and placement.kind != "slurm":
        raise UsageError("--slurm-template needs --on slurm")
    if placement.kind == "slurm":
        return Slurm(placement, results, jobs, template)
    if placement.kind == "ray":
        return OnRay(placement.address, jobs)
    return Local(jobs)
