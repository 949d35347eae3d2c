"""Running a study: up-to-date stages are kept, and a failed one is named and skips only what depends on it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from evalsuite.errors import EvalsuiteError, UsageError, unknown
from evalsuite.exits import is_worth_another_try
from evalsuite.fleet.children import COMMAND
from evalsuite.progress import NoProgress, Progress
from evalsuite.study.file import Study
from evalsuite.study.fleet import AT_ONCE, Fleet, fleet_of
from evalsuite.study.graph import KINDS, Kind, Stage, key_of
from evalsuite.study.identities import UNRESOLVED, count_rows, find_identities
from evalsuite.study.plan import left_out, n_to_answer, plan_study
from evalsuite.study.state import FOLDER, TELLING, Adapter, Failed, Made, State, Task, Workspace

_Running = Future[tuple[Mapping[str, "Made | Failed"], float]]
Status = Literal["done", "kept", "failed", "skipped", "left out", "to do"]
GROUPED: frozenset[Kind] = frozenset({"run"})
"""Kinds whose stages run together, so that what they share (the judge's server) starts only once."""
IN_UNITS: frozenset[Kind] = frozenset({"generate", "sft", "run", "compare"})
"""Kinds that run elsewhere where the study has a place for units; the others run here, one after another."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A stage and its status.

    ``kept`` was up to date; ``to do`` is what a plan would run; ``skipped`` depends on a stage that failed;
    ``left out`` is not selected by --only.
    """

    stage: Stage
    status: Status
    key: str | None = None
    seconds: float | None = None
    reason: str = ""
    exit_code: int = 0
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage.name,
            "status": self.status,
            "key": self.key,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "reason": self.reason or None,
            "notes": list(self.notes),
            **({"again": is_worth_another_try(self.exit_code)} if self.status == "failed" else {}),
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """All cells of a study in their order."""

    study: str
    folder: Path
    cells: Sequence[Cell]
    notes: Sequence[str] = ()

    def count(self, status: Status) -> int:
        return sum(cell.status == status for cell in self.cells)

    @property
    def exit_code(self) -> int:
        """0 when nothing failed or was skipped, else the first of 3, 70 and 75 that a stage ended with, else 1."""
        codes = {cell.exit_code for cell in self.cells}
        if telling := [code for code in TELLING if code in codes]:
            return telling[0]
        return 1 if self.count("failed") or self.count("skipped") else 0


@dataclass(slots=True)
class _Walk:
    """A pass over the stages: the cells settled so far, with what they made and their keys."""

    state: State
    only: frozenset[str]
    cells: dict[str, Cell] = field(default_factory=dict)
    made: dict[str, Made] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    def settle(self, cell: Cell, made: Made | None = None) -> None:
        self.cells[cell.stage.name] = cell
        if made is not None and cell.key is not None:
            self.made[cell.stage.name] = made
            self.keys[cell.stage.name] = cell.key

    def task_of(self, stage: Stage, *, planning: bool) -> Task | None:
        """Return the task of a stage that has to run; None for one that is settled without."""
        wanted = not self.only or bool(self.only & {stage.kind, stage.name})
        key = key_of(stage, self.keys)
        if reason := self._missing_inputs(stage):
            self.settle(Cell(stage, "skipped" if wanted else "left out", reason=reason))
        elif record := self.state.record_of(key):
            self.settle(Cell(stage, "kept", key, record.seconds, notes=record.notes), record)
        elif not wanted:
            self.settle(Cell(stage, "left out", key, reason="not selected by --only"))
        elif planning:
            self.settle(Cell(stage, "to do", key), Made({}))
        else:
            inputs = {name: self.made[name] for name in stage.takes if name in self.made}
            return Task(stage, key, inputs)
        return None

    def _missing_inputs(self, stage: Stage) -> str:
        missing = [name for name in stage.needs if name not in self.made]
        if missing:
            cell = self.cells[missing[0]]
            said = {"skipped": f"was skipped ({cell.reason})", "left out": "is left out"}
            status = said.get(cell.status, cell.status)
            return f"depends on {', '.join(missing)}, which {status}"
        available = sum(name in self.made for name in stage.uses)
        if available < stage.at_least:
            names = f"{', '.join(stage.uses[:4])}{' ...' if len(stage.uses) > 4 else ''}"
            return f"needs {stage.at_least} of {names}; available: {available}"
        return ""

    def outcome(self, study: Study, stages: Sequence[Stage], notes: Sequence[str]) -> Outcome:
        cells = tuple(self.cells[stage.name] for stage in stages)
        return Outcome(study.name, self.state.folder, cells, (*notes, *left_out(study, stages)))


def plan_only(study: Study, results: Path, *, only: Sequence[str] = ()) -> Outcome:
    """Return what is up to date and what there is to do; starts and downloads nothing."""
    identities, notes = find_identities(study, fetch=False)
    n_rows = _count_rows(study)
    stages = plan_study(study, identities, n_rows)
    walk = _Walk(State(results / FOLDER / study.name), _selected(only, stages))
    for stage in stages:
        walk.task_of(stage, planning=True)
    return walk.outcome(study, stages, (*notes, *_count_notes(study, n_rows)))


def _count_rows(study: Study) -> Mapping[str, int]:
    """Count the conversations on this machine; raises UsageError where they are too few for a mix."""
    n_rows = count_rows(study)
    if shortages := study.shortages(n_rows):
        raise UsageError("; ".join(shortages))
    return n_rows


def _count_notes(study: Study, n_rows: Mapping[str, int]) -> list[str]:
    """Say where the projected hours of generating are based on an unknown number of conversations."""
    settings = study.generate
    if settings is None or not any(dgm.is_asked for dgm in study.dgms.values()):
        return []
    if n_to_answer(study, n_rows) is None:
        return [
            f"the number of conversations in {settings.prompts} is unknown until it is read; all of them are answered, "
            f"and the hours are for {max(study.sizes):,}, the largest size: set generate.limit for a reliable figure"
        ]
    if settings.limit is None and settings.language is not None:
        return [f"the hours to generate are for all of {settings.prompts}; in {settings.language} there are fewer"]
    return []


def run_study(
    study: Study,
    results: Path,
    *,
    only: Sequence[str] = (),
    progress: Progress | None = None,
    adapters: Mapping[Kind, Adapter] | None = None,
    command: Sequence[str] = COMMAND,
    placed: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run what is not up to date; a failed stage skips only what depends on it.

    Stages run one after the other on this machine. With ``placed``, the options that name another place (``on``,
    ``jobs``, ``slurm_template``), all whose inputs are there run at once, in units of work.

    After a kill the next call resumes: finished stages are kept, and the interrupted one continues from what it had
    written. ``only`` selects kinds or names of stages. Raises UsageError for a study that cannot start.
    """
    from evalsuite.study.stages import ADAPTERS

    progress, adapters = progress or NoProgress(), adapters or ADAPTERS
    results = results.absolute()
    state = State(results / FOLDER / study.name)
    with state.locked():
        identities, notes = find_identities(study, fetch=True, on_step=progress.step)
        if unresolved := [spec for spec, identity in identities.items() if identity.startswith(UNRESOLVED)]:
            raise UsageError(
                f"{', '.join(unresolved)} not found in the local caches, and network access is disabled; give a "
                "folder, or allow network access"
            )
        stages = plan_study(study, identities, _count_rows(study))
        walk = _Walk(state, _selected(only, stages))
        with fleet_of(placed or {}, results) as fleet:
            workspace = Workspace(study, results, state, progress, command, fleet)
            job = _Job(walk, workspace, adapters, [stage.name for stage in stages])
            if fleet is None:
                job.run_in_order(stages)
            else:
                job.run_at_once(stages, fleet)
        progress.step("")
        outcome = walk.outcome(study, stages, notes)
        state.write_summary([cell.as_json() for cell in outcome.cells])
    return outcome


@dataclass(frozen=True, slots=True)
class _Job:
    """Runs the stages of a walk; ``names`` are those of all stages in their order."""

    walk: _Walk
    workspace: Workspace
    adapters: Mapping[Kind, Adapter]
    names: Sequence[str]

    def run_in_order(self, stages: Sequence[Stage]) -> None:
        for batch in _batches(stages):
            if tasks := self._tasks(batch):
                self._settle(tasks, *self._results(tasks))

    def run_at_once(self, stages: Sequence[Stage], fleet: Fleet) -> None:
        """Run every stage as soon as what it takes is settled."""
        waiting, mine, running = list(stages), list[list[Task]](), dict[_Running, list[Task]]()
        with ThreadPoolExecutor(AT_ONCE) as elsewhere, fleet.ending_units():
            while waiting or mine or running:
                ready = [stage for stage in waiting if all(name in self.walk.cells for name in stage.takes)]
                waiting = [stage for stage in waiting if stage not in ready]
                for batch in _batches(ready):
                    if not (tasks := self._tasks(batch)):
                        continue
                    if batch[0].kind in IN_UNITS:
                        running[elsewhere.submit(self._results, tasks)] = tasks
                    else:
                        mine.append(tasks)
                if ready:
                    continue
                patience = None
                if mine:
                    # In this thread, which an interrupt reaches.
                    tasks, patience = mine.pop(0), 0
                    self._settle(tasks, *self._results(tasks))
                for future in wait(running, patience, FIRST_COMPLETED).done:
                    self._settle(running.pop(future), *future.result())

    def _tasks(self, batch: Sequence[Stage]) -> list[Task]:
        """Return what has to run of a batch of one kind."""
        tasks = [task for stage in batch if (task := self.walk.task_of(stage, planning=False))]
        if tasks:
            numbers = [self.names.index(task.stage.name) + 1 for task in tasks]
            span = f"{numbers[0]}" if len(tasks) == 1 else f"{numbers[0]}-{numbers[-1]}"
            titles = ", ".join(task.stage.name for task in tasks)
            self.workspace.progress.log(f"[{span}/{len(self.names)}] {titles}")
        return tasks

    def _results(self, tasks: Sequence[Task]) -> tuple[Mapping[str, Made | Failed], float]:
        """Run tasks of one kind; return how they ended and the seconds of each."""
        started = time.monotonic()
        results: Mapping[str, Made | Failed]
        try:
            results = self.adapters[tasks[0].stage.kind](tasks, self.workspace)
        except Exception as error:  # a fault of one stage, expected or not, is named and must not stop the others
            results = dict.fromkeys((task.stage.name for task in tasks), Failed.of(error))
        return results, (time.monotonic() - started) / len(tasks)

    def _settle(self, tasks: Sequence[Task], results: Mapping[str, Made | Failed], seconds: float) -> None:
        for task in tasks:
            result = results.get(task.stage.name, Failed("its adapter returned no result for it"))
            if isinstance(result, Made):
                try:
                    self.walk.state.finish(task.stage, task.key, result, seconds)
                except EvalsuiteError as error:
                    result = Failed.of(error)
            if isinstance(result, Failed):
                self.workspace.progress.log(f"  failed: {task.stage.name}: {result.reason}")
                self.walk.settle(Cell(task.stage, "failed", task.key, seconds, result.reason, result.exit_code))
            else:
                self.walk.settle(Cell(task.stage, "done", task.key, seconds, notes=result.notes), result)


def _batches(stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """Yield stages one by one, those of a grouped kind together."""
    for _, batch in groupby(stages, key=lambda stage: stage.kind if stage.kind in GROUPED else stage.name):
        yield list(batch)


def _selected(only: Sequence[str], stages: Sequence[Stage]) -> frozenset[str]:
    """Check the values of --only; raises UsageError with the nearest kind or stage."""
    known = [*KINDS, *(stage.name for stage in stages)]
    for name in only:
        if name not in known:
            raise UsageError(unknown("stage", name, known if name.split(" ")[0] in KINDS else KINDS))
    return frozenset(only)
