"""How long a plan will take: hours per stage from the speeds of earlier runs, else from stated assumptions.

A speed measured on the model itself (or, for a checkpoint still to be trained, on its base) comes first, then what
the study file states for the model, then its general assumption. Each row names its basis. A device is a GPU, or the
whole machine if there is none; hours are wall-clock hours, device-hours are hours times devices.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from evalsuite.documents import DocumentT, validated
from evalsuite.errors import DataError
from evalsuite.files import read_json
from evalsuite.generation.measured import Measured, Training
from evalsuite.serving.device import gpu_names
from evalsuite.study.file import Study
from evalsuite.study.graph import Stage
from evalsuite.study.identities import weights_of
from evalsuite.study.run import Outcome
from evalsuite.study.sections import Assumptions
from evalsuite.study.state import FOLDER

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Speeds:
    """What earlier runs measured: tokens per second by model fingerprint, seconds per start of a server."""

    answering: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, float] = field(default_factory=dict)
    start_s: float | None = None


@dataclass(frozen=True, slots=True)
class Projected:
    """How long a stage will take, and the ``basis`` of the figure; None hours: seconds, not worth projecting."""

    hours: float | None
    device_hours: float | None
    basis: str


def recorded_speeds(results: Path) -> Speeds:
    """Read the manifests of runs, of generated answers and of trainings; damaged ones are skipped."""
    paths = [*results.glob("*/manifest.json"), *results.glob(f"{FOLDER}/*/generate/*/_manifest.json")]
    manifests = list(_readable(Measured, paths))
    trainings = [manifest.model.training for manifest in manifests if manifest.model.training]
    trainings += _readable(Training, results.glob(f"{FOLDER}/*/sft/*/*/training.json"))
    starts = [start for manifest in manifests if (start := manifest.start_s)]
    return Speeds(
        _medians((manifest.model.fingerprint, manifest.answer_speed) for manifest in manifests),
        _medians((training.base_fingerprint, training.tokens_per_second) for training in trainings),
        median(starts) if starts else None,
    )


def _medians(measured: Iterable[tuple[str | None, float | None]]) -> dict[str, float]:
    speeds: dict[str, list[float]] = {}
    for model, speed in measured:
        if model and speed:
            speeds.setdefault(model, []).append(speed)
    return {model: median(values) for model, values in speeds.items()}


def _readable(kind: type[DocumentT], paths: Iterable[Path]) -> Iterator[DocumentT]:
    for path in paths:
        try:
            yield validated(kind, read_json(path), path, "")
        except DataError:
            continue


def project(study: Study, outcome: Outcome, results: Path) -> dict[str, Projected]:
    """Project every stage that is to do, by its name."""
    speeds = recorded_speeds(results)
    start_s = speeds.start_s or study.assumptions.serve_start_s
    projected: dict[str, Projected] = {}
    judge_counted = False
    for stage in (cell.stage for cell in outcome.cells if cell.status == "to do"):
        seconds, basis = _estimate(stage, study, speeds, start_s)
        if stage.kind == "run" and not judge_counted and seconds is not None:
            judge_counted, seconds, basis = True, seconds + start_s, f"{basis}, judge's too"
        hours = None if seconds is None else seconds / _HOUR_S
        projected[stage.name] = Projected(hours, None if hours is None else hours * max(1, stage.devices), basis)
    return projected


def _estimate(stage: Stage, study: Study, speeds: Speeds, start_s: float) -> tuple[float | None, str]:
    """Return the seconds of a stage, and the basis of the figure; None for one that takes seconds anyway."""
    assumptions, work = study.assumptions, stage.work
    start = f"start {start_s:.0f} s {'measured' if speeds.start_s else _origin('serve_start_s', assumptions)}"
    if stage.kind in ("generate", "run"):
        speed, basis = _answer_speed(stage, study, speeds)
        if stage.kind == "run":
            tokens = work["items"] * assumptions.tokens_per_item
        else:
            per_answer = min(assumptions.tokens_per_answer, work["max_new_tokens"])
            tokens = work["conversations"] * assumptions.turns_per_conversation * per_answer
        return start_s + tokens / speed, f"{basis}; {start}"
    if stage.kind == "sft":
        measured = speeds.training.get(weights_of(stage.settings["base"]))
        conversations = min(work["conversations"], work.get("at_most_conversations", work["conversations"]))
        tokens = conversations * assumptions.tokens_per_conversation
        basis = f"{measured:.0f} tokens/s measured" if measured else _basis("train_tokens_per_second", assumptions)
        return assumptions.train_start_s + tokens / (measured or assumptions.train_tokens_per_second), basis
    if stage.kind == "compare":
        seconds = start_s + work["verdicts"] / assumptions.verdicts_per_second
        return seconds, f"{_basis('verdicts_per_second', assumptions)}; {start}"
    return None, "seconds"


def _answer_speed(stage: Stage, study: Study, speeds: Speeds) -> tuple[float, str]:
    """Return the tokens per second at which a stage's model answers, and the basis of the figure."""
    assumptions = study.assumptions
    trained = next((need.removeprefix("sft ") for need in stage.needs), None)
    name = trained.partition("-")[0] if trained else stage.cell
    # A checkpoint still to be trained answers as fast as its base.
    identity = stage.settings.get("model") or stage.arguments.get("base_identity")
    speed = speeds.answering.get(weights_of(str(identity)))
    if speed is not None:
        return speed, f"{speed:.0f} tokens/s measured{' on its base' if trained else ''}"
    if name in assumptions.by_model:
        return assumptions.by_model[name], f"{assumptions.by_model[name]:g} tokens/s stated"
    return assumptions.answer_tokens_per_second, _basis("answer_tokens_per_second", assumptions)


def _basis(name: str, assumptions: Assumptions) -> str:
    unit = "verdicts/s" if name == "verdicts_per_second" else "tokens/s"
    return f"{getattr(assumptions, name):g} {unit} {_origin(name, assumptions)}"


def _origin(name: str, assumptions: Assumptions) -> str:
    return "stated" if name in assumptions.model_fields_set else "assumed"


def _critical_path(outcome: Outcome, projected: Mapping[str, Projected]) -> dict[str, Any]:
    """Return the longest chain of stages that wait for one another: the time that no number of machines shortens.

    As a critical path method without limits on devices (Kelley and Walker, 1959), over projected hours.
    """
    ends: dict[str, tuple[float, tuple[str, ...]]] = {}
    # A stage comes after those that it depends on.
    for stage in (cell.stage for cell in outcome.cells if cell.status == "to do"):
        before = max((ends[name] for name in stage.takes if name in ends), default=(0.0, ()))
        hours = projected[stage.name].hours or 0.0
        ends[stage.name] = (before[0] + hours, (*before[1], *([stage.name] if hours else [])))
    hours, stages = max(ends.values(), default=(0.0, ()))
    return {"hours": hours, "stages": list(stages)}


def plan_document(study: Study, outcome: Outcome, results: Path) -> dict[str, Any]:
    """Return the plan in JSON's own types: every stage with its status, hours and their basis, and the sums.

    A server starts for each model and stage, and one judge for all runs.
    """
    projected = project(study, outcome, results)
    unknown: dict[str, Any] = dict.fromkeys(("hours", "device_hours", "basis"))
    kinds = Counter(cell.stage.kind for cell in outcome.cells if cell.status == "to do")
    rows = [
        cell.as_json() | (asdict(projected[cell.stage.name]) if cell.stage.name in projected else unknown)
        for cell in outcome.cells
    ]
    return {
        "study": study.name,
        "folder": str(outcome.folder),
        "device": study.assumptions.device or ("GPU" if gpu_names() else "machine"),
        "stages": rows,
        "to_do": outcome.count("to do"),
        "kept": outcome.count("kept"),
        "hours": sum(row["hours"] or 0.0 for row in rows),
        "device_hours": sum(row["device_hours"] or 0.0 for row in rows),
        "critical_path": _critical_path(outcome, projected),
        "servers_started": kinds["generate"] + kinds["compare"] + kinds["run"] + min(kinds["run"], 1),
        "notes": list(outcome.notes),
    }
