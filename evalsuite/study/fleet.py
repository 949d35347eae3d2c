"""The commands of a study as units of work on one executor, from a thread per stage.

``generate`` and ``run`` are planned here and divided among units; ``sft`` and ``compare`` are a unit each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalsuite.config import RunConfig, read_as
from evalsuite.errors import EvalsuiteError
from evalsuite.fleet.children import Ended
from evalsuite.fleet.executors import Executor, Shared
from evalsuite.fleet.generate import generate_on
from evalsuite.fleet.head import Head, end_units, heading
from evalsuite.fleet.places import executor_of
from evalsuite.fleet.run import run_on
from evalsuite.fleet.units import Done, Unit, delete, unit_folder
from evalsuite.generation.settings import GenerateConfig
from evalsuite.placement import Placement, read_placement
from evalsuite.progress import Progress
from evalsuite.results.merging import merge_results
from evalsuite.runs.runner import Outcome

AT_ONCE = 64
"""Stages in progress at once; each is a thread that waits for its units."""


class Titled(Progress):
    """Shows the progress of one of several stages under its title."""

    def __init__(self, shown: Progress, title: str) -> None:
        self._shown, self._title = shown, title

    def step(self, message: str) -> None:
        self._shown.step(message and f"{self._title}: {message}")

    def begin(self, task: str, total: int | None) -> None:
        self._shown.begin(f"{self._title}: {task}", total)

    def advance(self, task: str, count: int = 1) -> None:
        self._shown.advance(f"{self._title}: {task}", count)

    def update(self, task: str, done: int, total: int) -> None:
        self._shown.update(f"{self._title}: {task}", done, total)

    def note(self, task: str, text: str) -> None:
        self._shown.note(f"{self._title}: {task}", text)

    def log(self, message: str) -> None:
        self._shown.log(f"  {self._title}: {message}")


@dataclass(frozen=True, slots=True)
class Fleet:
    """Where a study's units run, and who hands them over; ``settings`` are the options --on, --jobs and the like."""

    placement: Placement
    executor: Executor
    shared: Shared
    head: Head
    results: Path
    settings: Mapping[str, Any]

    @contextmanager
    def ending_units(self) -> Iterator[None]:
        """At an interrupt end all units, or leave them if the user says so; their threads end then."""
        try:
            yield
        except BaseException:
            self.shared.stop()
            end_units(self.executor)
            raise

    def generate(self, config: Path, progress: Progress) -> Ended:
        """Carry ``evalsuite generate --config FILE`` out in units."""
        try:
            generated = generate_on(read_as(GenerateConfig, self.settings, config), progress, self.head)
        except EvalsuiteError as error:
            return _ended(error)
        return Ended(0, json.dumps({"models": [dict(manifest) for manifest in generated.manifests]}), ())

    def run(self, config: Path, progress: Progress) -> Outcome:
        """Carry ``evalsuite run --config FILE`` out in units; models that failed are in the outcome's failures."""
        return run_on(read_as(RunConfig, self.settings, config), progress, self.head)

    def carry_out(self, arguments: Sequence[str], name: str, key: str, gpus: int, progress: Progress) -> Ended:
        """Run one command as a unit; what it writes into its results folder is merged."""
        folder = unit_folder(self.results, name, key)
        gpus = gpus if self.placement.gpus is None else self.placement.gpus
        unit = Unit(folder, name, tuple(arguments), gpus=gpus)
        stdout = ""

        def take(unit: Unit, done: Done) -> None:
            nonlocal stdout
            stdout = done.stdout
            if done.results.is_dir():
                with self.head.merging:
                    merge_results([done.results], self.results, keep_first=True)
            delete([unit])

        try:
            replace(self.head, progress=progress).carry_out([unit], take)
        except EvalsuiteError as error:
            return _ended(error)
        return Ended(0, stdout, ())


def _ended(error: EvalsuiteError) -> Ended:
    return Ended(error.exit_code, "", (f"evalsuite: {error}",))


@contextmanager
def fleet_of(settings: Mapping[str, Any], results: Path) -> Iterator[Fleet | None]:
    """Open the executor that ``settings["on"]`` names; None without one."""
    if settings.get("on") is None:
        yield None
        return
    placement, template = read_placement(settings["on"]), settings.get("slurm_template")
    with heading(results):
        executor = executor_of(placement, results, settings.get("jobs"), Path(template) if template else None)
        shared = Shared(executor)
        try:
            yield Fleet(placement, executor, shared, Head(shared), results, settings)
        finally:
            shared.close()
