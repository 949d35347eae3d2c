"""Carrying a study out: what is up to date is kept, what fails is named, and only what rests on it is skipped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalsuite.errors import EvalsuiteError, UsageError, unknown
from evalsuite.progress import Progress, Silence
from evalsuite.study.children import COMMAND
from evalsuite.study.file import Study
from evalsuite.study.identities import count_rows, find_identities
from evalsuite.study.plan import KINDS, UNRESOLVED, Kind, Stage, key_of, left_out, n_to_answer, plan_study
from evalsuite.study.state import Failed, Made, State
from evalsuite.study.tasks import Adapter, Bench, Task

Status = Literal["done", "kept", "failed", "skipped", "left out", "to do"]
FOLDER = "studies"
GROUPED: frozenset[Kind] = frozenset({"run"})
"""Kinds whose stages are carried out together, so that what they share (the judge's server) starts once."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one stage.

    ``kept`` was up to date; ``to do`` is what a plan would carry out; ``skipped`` rests on what failed; ``left out``
    is not what --only asks for.
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
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """All cells of a study in their order."""

    study: str
    folder: Path
    cells: Sequence[Cell]
    notes: Sequence[str] = ()

    def counted(self, status: Status) -> int:
        return sum(cell.status == status for cell in self.cells)

    @property
    def exit_code(self) -> int:
        """0 when nothing failed or was skipped, 3 when a model or a server failed, else 1."""
        if any(cell.exit_code == 3 for cell in self.cells):
            return 3
        return 1 if self.counted("failed") or self.counted("skipped") else 0


@dataclass(slots=True)
class _Walk:
    """What is known so far while the stages are gone through in order."""

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

    def look(self, stage: Stage, *, planning: bool) -> Task | None:
        """Settle a stage that is up to date or cannot be done; return the task of one that is to be done."""
        wanted = not self.only or bool(self.only & {stage.kind, stage.name})
        if reason := self._hindrance(stage):
            self.settle(Cell(stage, "skipped" if wanted else "left out", reason=reason))
            return None
        inputs = {name: self.made[name] for name in (*stage.needs, *stage.uses) if name in self.made}
        key = key_of(stage, self.keys)
        record = self.state.done(key)
        if record is not None:
            self.settle(Cell(stage, "kept", key, record.seconds, notes=record.notes), record.made)
            return None
        if not wanted:
            self.settle(Cell(stage, "left out", key, reason="not named by --only"))
            return None
        if planning:
            self.settle(Cell(stage, "to do", key), Made({}))
            return None
        return Task(stage, key, inputs)

    def _hindrance(self, stage: Stage) -> str:
        missing = [name for name in stage.needs if name not in self.made]
        if missing:
            return f"rests on {', '.join(missing)}, which {_became(self.cells[missing[0]])}"
        there = sum(name in self.made for name in stage.uses)
        if there < stage.at_least:
            shown = f"{', '.join(stage.uses[:4])}{' ...' if len(stage.uses) > 4 else ''}"
            return f"needs {stage.at_least} of {shown}; {there} of them there"
        return ""


def plan_only(study: Study, results: Path, *, only: Sequence[str] = ()) -> Outcome:
    """Tell what is up to date and what is to be done, and start nothing; nothing is downloaded either."""
    identities, notes = find_identities(study, fetch=False)
    held = _counted(study)
    stages = plan_study(study, identities, held)
    walk = _Walk(State(results / FOLDER / study.name), _checked(only, stages))
    for stage in stages:
        walk.look(stage, planning=True)
    return Outcome(
        study.name,
        walk.state.folder,
        tuple(walk.cells[stage.name] for stage in stages),
        (*notes, *left_out(study, stages), *_open_counts(study, held)),
    )


def _counted(study: Study) -> Mapping[str, int]:
    """Count the conversations that are here; raises UsageError where they are too few for a mix."""
    held = count_rows(study)
    if shortages := study.shortages(held):
        raise UsageError("; ".join(shortages))
    return held


def _open_counts(study: Study, held: Mapping[str, int]) -> list[str]:
    """Say where the hours of generating rest on a number of conversations that is not known."""
    how = study.generate
    if how is None or not any(dgm.is_asked for dgm in study.dgms.values()):
        return []
    if n_to_answer(study, held) is None:
        return [
            f"how many conversations {how.prompts} holds is not known before it is read; all of them are answered, and "
            f"the hours are for {max(study.sizes):,}, the largest size: set generate.limit for a figure that holds"
        ]
    if how.limit is None and how.language is not None:
        return [f"the hours of generating are for all of {how.prompts}; those in {how.language} are fewer"]
    return []


def run_study(
    study: Study,
    results: Path,
    *,
    only: Sequence[str] = (),
    progress: Progress | None = None,
    adapters: Mapping[Kind, Adapter] | None = None,
    command: Sequence[str] = COMMAND,
) -> Outcome:
    """Carry out what is not up to date, stage by stage; a stage that fails stops only what rests on it.

    Killed at any moment, the next call goes on: finished stages are kept, and the one that was under way goes on from
    what it had written. ``only`` are kinds or names of stages. Raises UsageError for a study that cannot begin.
    """
    progress = progress or Silence()
    chosen = adapters if adapters is not None else _all_adapters()
    state = State(results / FOLDER / study.name)
    with state.locked():
        identities, notes = find_identities(study, fetch=True, on_step=progress.step)
        if open_words := [word for word, identity in identities.items() if identity.startswith(UNRESOLVED)]:
            raise UsageError(
                f"{', '.join(open_words)} cannot be had: not in the local caches, and the hub must not be asked; "
                "give a folder, or allow the network"
            )
        stages = plan_study(study, identities, _counted(study))
        walk = _Walk(state, _checked(only, stages))
        bench = Bench(study, results, state, progress, command)
        for batch in _batches(stages):
            tasks = [task for stage in batch if (task := walk.look(stage, planning=False))]
            if tasks:
                _carry_out(tasks, chosen[tasks[0].stage.kind], walk, bench, stages)
        progress.step("")
        outcome = Outcome(
            study.name,
            state.folder,
            tuple(walk.cells[stage.name] for stage in stages),
            (*notes, *left_out(study, stages)),
        )
        state.remember([cell.as_json() for cell in outcome.cells])
    return outcome


def _carry_out(tasks: Sequence[Task], adapter: Adapter, walk: _Walk, bench: Bench, stages: Sequence[Stage]) -> None:
    """Let an adapter do its tasks, and write down what became of each."""
    place = {stage.name: number for number, stage in enumerate(stages, 1)}
    first, last = place[tasks[0].stage.name], place[tasks[-1].stage.name]
    span = f"{first}" if first == last else f"{first}-{last}"
    names = ", ".join(task.stage.name for task in tasks)
    bench.progress.say(f"[{span}/{len(stages)}] {names}")
    began = time.monotonic()
    try:
        became: Mapping[str, Made | Failed] = adapter(tasks, bench)
    except EvalsuiteError as error:
        became = {task.stage.name: Failed(str(error), _code(error)) for task in tasks}
    except Exception as error:  # one stage's unforeseen fault must not take the others along; it is named
        became = {task.stage.name: Failed(f"{type(error).__name__}: {error}") for task in tasks}
    seconds = (time.monotonic() - began) / len(tasks)
    for task in tasks:
        result = became.get(task.stage.name, Failed("its adapter told nothing about it"))
        if isinstance(result, Made):
            try:
                walk.state.finish(task.stage, task.key, result, seconds)
            except EvalsuiteError as error:
                result = Failed(str(error), _code(error))
        if isinstance(result, Failed):
            bench.progress.say(f"  failed: {task.stage.name}: {result.reason}")
            walk.settle(Cell(task.stage, "failed", task.key, seconds, result.reason, result.exit_code))
        else:
            walk.settle(Cell(task.stage, "done", task.key, seconds, notes=result.notes), result)


def _all_adapters() -> Mapping[Kind, Adapter]:
    from evalsuite.study.stages import ADAPTERS

    return ADAPTERS


def _code(error: EvalsuiteError) -> int:
    return 3 if error.exit_code == 3 else 1


def _batches(stages: Sequence[Stage]) -> Iterator[list[Stage]]:
    """Stages one by one, but those of a grouped kind together."""
    group: list[Stage] = []
    for stage in stages:
        if group and (stage.kind not in GROUPED or stage.kind != group[0].kind):
            yield group
            group = []
        if stage.kind in GROUPED:
            group.append(stage)
        else:
            yield [stage]
    if group:
        yield group


def _became(cell: Cell) -> str:
    return {"failed": "failed", "skipped": f"was skipped ({cell.reason})"}.get(cell.status, cell.status)


def _checked(only: Sequence[str], stages: Sequence[Stage]) -> frozenset[str]:
    known = [*KINDS, *(stage.name for stage in stages)]
    for word in only:
        if word not in known:
            raise UsageError(unknown("stage", word, known if word.split(" ")[0] in KINDS else KINDS))
    return frozenset(only)
