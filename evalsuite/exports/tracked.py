"""Figures of a run for TensorBoard, W&B, trackio and MLflow: ``--log-to`` of ``run`` and ``watch``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evalsuite.report.figures import columns_of, figures_of
from evalsuite.results.reading import ModelResult, models_in
from evalsuite.tracking import Tracker

FOLDER = "tracking"
"""The folder among the results that TensorBoard's and W&B's files are written to."""


def log_figures(loggers: Sequence[str], results: Path, folders: Sequence[Path]) -> None:
    """Write the figures of models' folders to each logger, the checkpoints of one training into one run of it.

    A figure is ``evalsuite/COLUMN``, with the ends of its interval under ``/low`` and ``/high``. Checkpoints stand at
    their training step, other models at 0. Raises ServerError where a logger cannot begin.
    """
    models = [models_in(folder)[0] for folder in folders] if loggers else []
    runs: dict[tuple[str, str], list[ModelResult]] = {}
    for model in models:
        runs.setdefault(_run_of(model), []).append(model)
    for (run, run_id), members in runs.items():
        for logger in loggers:
            with Tracker(logger, run, run_id, results / FOLDER) as tracker:
                for model in sorted(members, key=_step):
                    tracker.log(_metrics(model), _step(model))


def _run_of(model: ModelResult) -> tuple[str, str]:
    at = model.scores.training_step
    variant = f"-{model.scores.variant}" if model.scores.variant else ""
    if at is None:
        return f"{model.scores.model.name}{variant}", model.scores.model.fingerprint[:8]
    return f"{at['run']}{variant}", str(at["run_id"])


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
