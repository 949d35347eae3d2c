"""Figures of a run for TensorBoard, W&B, trackio and MLflow: ``--log-to`` of ``run`` and ``watch``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evalsuite.files import read_json, write_json
from evalsuite.fingerprint import text_sha256
from evalsuite.report.figures import columns_of, figures_of
from evalsuite.results.reading import ModelResult, models_in
from evalsuite.tracking import Tracker

FOLDER = "tracking"
"""The folder among the results that TensorBoard's and W&B's files are written to."""
LOGGED = "logged.json"
"""What was written, in ``FOLDER``: logger and run -> step -> figures."""


def log_figures(loggers: Sequence[str], results: Path, folders: Sequence[Path]) -> None:
    """Write the figures of models' folders to each logger, the checkpoints of one training into one run of it.

    A figure is ``evalsuite/COLUMN``, with the ends of its interval under ``/low`` and ``/high``. Checkpoints stand at
    their training step, other models at 0. What ``LOGGED`` says was written is not written again. Raises ServerError
    where a logger fails.
    """
    models = [models_in(folder)[0] for folder in folders] if loggers else []
    runs: dict[tuple[str, str], list[ModelResult]] = {}
    for model in models:
        runs.setdefault(_run_of(model), []).append(model)
    path = results / FOLDER / LOGGED
    for (run, run_id), members in runs.items():
        figures = {_step(model): _metrics(model) for model in sorted(members, key=_step)}
        for logger in loggers:
            logged = read_json(path) if path.is_file() else {}
            own = logged.setdefault(f"{logger} {run}-{run_id}", {})
            new = {step: _changed(found, own.get(str(step), {})) for step, found in figures.items()}
            if not any(new.values()):
                continue
            with Tracker(logger, run, run_id, results / FOLDER) as tracker:
                for step, found in new.items():
                    if found:
                        tracker.log(found, step)
            own |= {str(step): own.get(str(step), {}) | found for step, found in new.items()}
            write_json(path, logged)


def _changed(found: Mapping[str, float], logged: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if logged.get(name) != value}


def _run_of(model: ModelResult) -> tuple[str, str]:
    """Return a run's name and id: of a training, or of a model alone; a variant has its own."""
    at, variant = model.scores.training_step, model.scores.variant
    if at is None:
        run, run_id = model.scores.model.name, model.scores.model.fingerprint[:8]
    else:
        run, run_id = str(at["run"]), str(at["run_id"])
    return (f"{run}-{variant}", text_sha256(f"{run_id} {variant}")[:8]) if variant else (run, run_id)


def _step(model: ModelResult) -> int:
    return int((model.scores.training_step or {}).get("step", 0))


def _metrics(model: ModelResult) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, figure in figures_of(model, columns_of([model], [])).items():
        if figure.value is not None:
            name = f"evalsuite/{key}"
            found[name] = figure.value
            found |= {} if figure.ci95 is None else dict(zip((f"{name}/low", f"{name}/high"), figure.ci95, strict=True))
    return found
