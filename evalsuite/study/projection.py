"""What a plan will take: hours a stage from the speeds of earlier runs, else from stated assumptions.

A speed that was measured on this very model (or, for a checkpoint to be trained, on its base) comes first, then what
the study file states for the model, then its general assumption. Each row says which it was. A device is a GPU, or
the whole machine where there is none; hours are of the clock, device-hours are hours times devices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from evalsuite.errors import DataError
from evalsuite.files import read_json
from evalsuite.study.file import Assumptions, Study
from evalsuite.study.plan import Stage, weights_of
from evalsuite.study.run import FOLDER, Cell, Outcome

_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Speeds:
    """What earlier runs in a results folder measured: tokens a second by model fingerprint, seconds of a start."""

    answering: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, float] = field(default_factory=dict)
    start_s: float | None = None
    n_runs: int = 0


@dataclass(frozen=True, slots=True)
class Projected:
    """What a stage will take; ``basis`` says what the figure rests on. None hours: seconds, not worth projecting."""

    hours: float | None
    device_hours: float | None
    basis: str


def recorded_speeds(results: Path) -> Speeds:
    """Read the manifests of runs, of generated answers and of trainings; a broken one is passed over."""
    answering: dict[str, list[float]] = {}
    training: dict[str, list[float]] = {}
    starts: list[float] = []
    paths = [*results.glob("*/manifest.json"), *results.glob(f"{FOLDER}/*/generate/*/_manifest.json")]
    read = [document for path in paths if (document := _read(path)) is not None]
    for document in read:
        own = _told(_answering, document)
        if own is not None:
            answering.setdefault(own[0], []).append(own[1])
        start = _told(_start_s, document)
        starts += [start[1]] if start is not None else []
    trainings = [document["model"].get("training") for document in read]
    trainings += [_read(path, needs=()) for path in results.glob(f"{FOLDER}/*/sft/*/*/training.json")]
    for made in trainings:
        trained = _told(_training, made) if isinstance(made, dict) else None
        if trained is not None:
            training.setdefault(trained[0], []).append(trained[1])
    return Speeds(
        {model: median(found) for model, found in answering.items()},
        {base: median(found) for base, found in training.items()},
        median(starts) if starts else None,
        len(read),
    )


def _read(path: Path, needs: Sequence[str] = ("model", "seconds")) -> dict[str, Any] | None:
    try:
        document = read_json(path)
    except DataError:
        return None
    whole = isinstance(document, dict) and all(isinstance(document.get(key), dict) for key in needs)
    return document if whole else None


def _told(
    measure: Callable[[Mapping[str, Any]], tuple[str, float] | None], document: Mapping[str, Any]
) -> tuple[str, float] | None:
    """What a document tells, None where it tells nothing or its figures are none: then others are asked."""
    try:
        found = measure(document)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
    return found if found is not None and 0 < found[1] < math.inf else None


def _answering(document: Mapping[str, Any]) -> tuple[str, float] | None:
    """Fingerprint and answer tokens a second, None where everything came from the store."""
    usage = (document.get("costs") or {}).get("usage") or (document.get("usage") or {}).get("candidate") or {}
    tokens, seconds = usage.get("completion_tokens") or 0, document["seconds"].get("generate") or 0
    fingerprint = document["model"].get("fingerprint")
    return (str(fingerprint), tokens / seconds) if tokens and seconds and fingerprint else None


def _start_s(document: Mapping[str, Any]) -> tuple[str, float] | None:
    """Mean seconds of one start of the server, None where none was started."""
    serve = float(document["seconds"].get("serve") or 0)
    n_starts = (document.get("costs") or {}).get("starts", 1 + document.get("server_restarts", 0))
    return ("start", serve / n_starts) if serve and n_starts else None


def _training(made: Mapping[str, Any]) -> tuple[str, float] | None:
    """The base's fingerprint and the tokens a second of a training on it."""
    speed, base = made.get("tokens_per_second"), made.get("base_fingerprint")
    return (str(base), float(speed)) if speed and base else None


def project(study: Study, outcome: Outcome, results: Path) -> dict[str, Projected]:
    """Project every stage that is to be done, by its name."""
    speeds, stated = recorded_speeds(results), study.assumptions
    projected: dict[str, Projected] = {}
    judge_counted = False
    for cell in outcome.cells:
        if cell.status != "to do":
            continue
        one = _project_one(cell.stage, study, speeds, stated)
        if cell.stage.kind == "run" and not judge_counted and one.hours is not None:
            judge_counted = True
            start = (speeds.start_s or stated.serve_start_s) / _HOUR_S
            one = Projected(one.hours + start, (one.hours + start) * cell.stage.devices, f"{one.basis}, judge's too")
        projected[cell.stage.name] = one
    return projected


def _project_one(stage: Stage, study: Study, speeds: Speeds, stated: Assumptions) -> Projected:
    start = speeds.start_s or stated.serve_start_s
    start_basis = f"start {start:.0f} s {'measured' if speeds.start_s else _who('serve_start_s', stated)}"
    work = stage.work
    if stage.kind == "generate":
        speed, basis = _answer_speed(stage, study, speeds)
        tokens = min(stated.tokens_per_answer, work["max_new_tokens"])
        answers = work["conversations"] * stated.turns_per_conversation
        return _of(stage, start + answers * tokens / speed, f"{basis}; {start_basis}")
    if stage.kind == "run":
        speed, basis = _answer_speed(stage, study, speeds)
        return _of(stage, start + work["items"] * stated.tokens_per_item / speed, f"{basis}; {start_basis}")
    if stage.kind == "sft":
        measured = speeds.training.get(weights_of(stage.settings["base"]))
        conversations = min(work["conversations"], work.get("at_most_conversations", work["conversations"]))
        seconds = conversations * stated.tokens_per_conversation / (measured or stated.train_tokens_per_second)
        basis = f"{measured:.0f} tokens/s measured" if measured else _said("train_tokens_per_second", stated)
        return _of(stage, stated.train_start_s + seconds, basis)
    if stage.kind == "compare":
        seconds = start + work["verdicts"] / stated.verdicts_per_second
        return _of(stage, seconds, f"{_said('verdicts_per_second', stated)}; {start_basis}")
    return Projected(None, None, "seconds")


def _answer_speed(stage: Stage, study: Study, speeds: Speeds) -> tuple[float, str]:
    stated = study.assumptions
    trained = next((need.removeprefix("sft ") for need in stage.needs), None)
    name = trained.partition("-")[0] if trained else stage.cell
    model = stage.settings.get("model")
    if model is None:
        # A checkpoint answers as fast as its base; the plan knows the base by the training's settings.
        model = stage.words.get("base_identity")
    speed = speeds.answering.get(weights_of(str(model)))
    if speed is not None:
        return speed, f"{speed:.0f} tokens/s measured{' on its base' if trained else ''}"
    if name in stated.by_model:
        return stated.by_model[name], f"{stated.by_model[name]:g} tokens/s stated"
    return stated.answer_tokens_per_second, _said("answer_tokens_per_second", stated)


def _said(name: str, stated: Assumptions) -> str:
    unit = "verdicts/s" if name == "verdicts_per_second" else "tokens/s"
    return f"{getattr(stated, name):g} {unit} {_who(name, stated)}"


def _who(name: str, stated: Assumptions) -> str:
    return "stated" if name in stated.model_fields_set else "assumed"


def _of(stage: Stage, seconds: float, basis: str) -> Projected:
    return Projected(seconds / _HOUR_S, seconds / _HOUR_S * max(1, stage.devices), basis)


def device_word(study: Study) -> str:
    """The word for a device in the plan's heading."""
    from evalsuite.serving.device import gpu_names

    return study.assumptions.device or ("GPU" if gpu_names() else "machine")


def servers_started(cells: Sequence[Cell]) -> int:
    """How many times the cells that are to be done start a server: each model once a stage, a judge once for all."""
    todo = [cell.stage for cell in cells if cell.status == "to do"]
    runs = sum(stage.kind == "run" for stage in todo)
    return sum(stage.kind in ("generate", "compare") for stage in todo) + runs + (1 if runs else 0)


def plan_document(study: Study, outcome: Outcome, results: Path) -> dict[str, Any]:
    """Return the plan in JSON's own types: every stage with its state, hours and what they rest on, and the sums."""
    projected = project(study, outcome, results)
    rows = []
    for cell in outcome.cells:
        own = projected.get(cell.stage.name)
        rows.append(
            cell.as_json()
            | {
                "hours": own.hours if own else None,
                "device_hours": own.device_hours if own else None,
                "basis": own.basis if own else None,
            }
        )
    return {
        "study": study.name,
        "folder": str(outcome.folder),
        "device": device_word(study),
        "stages": rows,
        "to_do": outcome.counted("to do"),
        "kept": outcome.counted("kept"),
        "hours": sum(own.hours or 0.0 for own in projected.values()),
        "device_hours": sum(own.device_hours or 0.0 for own in projected.values()),
        "servers_started": servers_started(outcome.cells),
        "notes": list(outcome.notes),
    }
