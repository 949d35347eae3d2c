"""Running a study: up-to-date stages are kept, and a failed one is named and skips only what depends on it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from evalsuite.errors import EvalsuiteError, UsageError, unknown
from evalsuite.exits import is_worth_another_try
from evalsuite.fleet.children import COMMAND
from evalsuite.progress import NoProgress, Progress
from evalsuite.study.file import Study
from evalsuite.study.graph import KINDS, Kind, Stage, key_of
from evalsuite.study.identities import UNRESOLVED, count_rows, find_identities
from evalsuite.study.plan import left_out, n_to_answer, plan_study
from evalsuite.study.state import FOLDER, TELLING, Adapter, Failed, Made, State, Task, Workspace

Status = Literal["done", "kept", "failed", "skipped", "left out", "to do"]
GROUPED: frozenset[Kind] = frozenset({"run"})
"""Kinds whose stages run together, so that what they share (the judge's server) starts only once."""


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
        """Return the cell in JSON's own types."""
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
    """A pass over the stages in their order: the cells settled so far, with what they made and their keys."""

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
            inputs = {name: self.made[name] for name in (*stage.needs, *stage.uses) if name in self.made}
            return Task(stage, key, inputs)
        return None

    def _missing_inputs(self, stage: Stage) -> str:
        missing = [name for name in stage.needs if name not in self.made]
        if missing:
            cell = self.cells[missing[0]]
            status = f"was skipped ({cell.reason})" if cell.status == "skipped" else cell.status
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
        return [f"the hours of generating are for all of {settings.prompts}; those in {settings.language} are fewer"]
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
    """Run what is not up to date, stage by stage; a failed stage skips only what depends on it.

    After a kill the next call resumes: finished stages are kept, and the interrupted one continues from what it had
    written. ``only`` selects kinds or names of stages. ``placed`` are the options that say where models answer and are
    judged (``on``, ``jobs``, ``slurm_template``). Raises UsageError for a study that cannot start.
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
        workspace = Workspace(study, results, state, progress, command, placed or {})
        for batch in _batches(stages):
            tasks = [task for stage in batch if (task := walk.task_of(stage, planning=False))]
            if tasks:
                _run_tasks(tasks, adapters[tasks[0].stage.kind], walk, workspace, stages)
        progress.step("")
        outcome = walk.outcome(study, stages, notes)
        state.write_summary([cell.as_json() for cell in outcome.cells])
    return outcome


def _run_tasks(
    tasks: Sequence[Task], adapter: Adapter, walk: _Walk, workspace: Workspace, stages: Sequence[Stage]
) -> None:
    """Run tasks of one kind and settle their cells."""
    numbers = {stage.name: number for number, stage in enumerate(stages, 1)}
    first, last = numbers[tasks[0].stage.name], numbers[tasks[-1].stage.name]
    span = f"{first}" if first == last else f"{first}-{last}"
    workspace.progress.log(f"[{span}/{len(stages)}] {', '.join(task.stage.name for task in tasks)}")
    started = time.monotonic()
    try:
        results: Mapping[str, Made | Failed] = adapter(tasks, workspace)
    except Exception as error:  # a fault of one stage, expected or not, is named and must not stop the others
        results = dict.fromkeys((task.stage.name for task in tasks), Failed.of(error))
    seconds = (time.monotonic() - started) / len(tasks)
    for task in tasks:
        result = results.get(task.stage.name, Failed("its adapter returned no result for it"))
        if isinstance(result, Made):
            try:
                walk.state.finish(task.stage, task.key, result, seconds)
            except EvalsuiteError as error:
                result = Failed.of(error)
        if isinstance(result, Failed):
            workspace.progress.log(f"  failed: {task.stage.name}: {result.reason}")
            walk.settle(Cell(task.stage, "failed", task.key, seconds, result.reason, result.exit_code))
        else:
            walk.settle(Cell(task.stage, "done", task.key, seconds, notes=result.notes), result)


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
