"""Loggers that keep the curves of a training run: TensorBoard, W&B, trackio and MLflow, each an optional package.

``evalsuite sft`` hands their names to transformers' trainer; ``run`` and ``watch`` write figures with their own
clients, one run per training or model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pydantic

from evalsuite.errors import ServerError, UsageError, first_line, unknown
from evalsuite.packages import require

LOGGERS = ("tensorboard", "wandb", "trackio", "mlflow")
PROJECT = "evalsuite"

Write = Callable[[Mapping[str, float], int], None]


def check_loggers(names: Sequence[str]) -> None:
    """Raise UsageError for a name that is not in ``LOGGERS``, and for one whose package is not installed."""
    for name in names:
        if name not in LOGGERS:
            raise UsageError(unknown("logger", name, LOGGERS))
        require(f"logging to {name}", name)


def _checked(names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        check_loggers(names)
    except UsageError as error:
        raise ValueError(str(error)) from error
    return names


Loggers = Annotated[tuple[str, ...], pydantic.AfterValidator(_checked)]
"""An option that takes names of loggers."""


class Tracker(AbstractContextManager["Tracker"]):
    """One run of one logger, open until the end of the ``with`` block.

    ``run_id`` is the same each time, so that a run that is continued does not become a second one (W&B, trackio).
    TensorBoard's files go to ``folder``/RUN-ID. The others take their server from their own environment variables.
    """

    def __init__(self, logger: str, run: str, run_id: str, folder: Path) -> None:
        try:
            self._write, self._end = _OPEN[logger](run, run_id, folder)
        except Exception as error:  # each client raises its own types, all before anything was written
            raise ServerError(f"--log-to {logger} cannot begin ({first_line(error)}); check its settings") from error
        self.logger = logger

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Write figures by name at a training step."""
        self._write(figures, step)

    def __exit__(self, *_: object) -> None:
        self._end()


def _tensorboard(run: str, run_id: str, folder: Path) -> tuple[Write, Callable[[], None]]:
    # TensorBoard's own writer, which needs neither torch nor TensorFlow.
    summary: Any = import_module("tensorboard.summary")
    writer = summary.Writer(str(folder / f"{run}-{run_id}"))

    def write(figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return write, writer.close


def _wandb(run: str, run_id: str, folder: Path) -> tuple[Write, Callable[[], None]]:
    wandb: Any = import_module("wandb")
    folder.mkdir(parents=True, exist_ok=True)
    kept = wandb.init(project=PROJECT, name=run, id=run_id, resume="allow", dir=str(folder))
    # W&B drops what comes with a smaller step than before; a metric as the axis may go back.
    kept.define_metric("*", step_metric="step")
    return lambda figures, step: kept.log({**figures, "step": step}), kept.finish


def _trackio(run: str, run_id: str, _: Path) -> tuple[Write, Callable[[], None]]:
    trackio: Any = import_module("trackio")
    trackio.init(project=PROJECT, name=f"{run}-{run_id}", resume="allow")
    return lambda figures, step: trackio.log(dict(figures), step=step), trackio.finish


def _mlflow(run: str, run_id: str, _: Path) -> tuple[Write, Callable[[], None]]:
    mlflow: Any = import_module("mlflow")
    mlflow.set_experiment(PROJECT)
    mlflow.start_run(run_name=f"{run}-{run_id}")
    # MLflow takes no "@" and such in names; "/" makes folders there.
    return lambda figures, step: mlflow.log_metrics(dict(figures), step=step), mlflow.end_run


_OPEN: Mapping[str, Callable[[str, str, Path], tuple[Write, Callable[[], None]]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
    "mlflow": _mlflow,
}
