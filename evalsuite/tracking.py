"""Loggers that keep the curves of a training run: TensorBoard, W&B, trackio and MLflow, each an optional package.

``evalsuite sft`` hands their names to transformers' trainer; ``run`` and ``watch`` write figures with their own
clients, one run per training or model.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import pydantic

from evalsuite.errors import ServerError, UsageError, first_line, unknown
from evalsuite.packages import require

LOGGERS = ("tensorboard", "wandb", "trackio", "mlflow")
PROJECT = "evalsuite"
_MLFLOW_TAG = "evalsuite.run_id"

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


@contextmanager
def _calling(logger: str) -> Iterator[None]:
    """Call a client: what it prints goes to stderr, since stdout is for figures, and what it raises is one sentence."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Exception as error:  # each client raises its own types
        raise ServerError(
            f"--log-to {logger} failed ({first_line(error)}); check its settings and run the same command again"
        ) from error


class Tracker(AbstractContextManager["Tracker"]):
    """One run of one logger, open until the end of the ``with`` block.

    A run of the same ``run_id`` is continued (W&B, trackio, MLflow). TensorBoard's files go to ``folder``/RUN-ID. The
    others take their server and project from their own environment variables. Raises ServerError.
    """

    def __init__(self, logger: str, run: str, run_id: str, folder: Path) -> None:
        self.logger = logger
        with _calling(logger):
            self._write, self._end = _OPEN[logger](run, run_id, folder)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Write figures by name at a training step."""
        with _calling(self.logger):
            self._write(figures, step)

    def __exit__(self, *_: object) -> None:
        with _calling(self.logger):
            self._end()


def _tensorboard(run: str, run_id: str, folder: Path) -> tuple[Write, Callable[[], None]]:
    # TensorBoard's own writer, which needs neither torch nor TensorFlow.
    summary: Any = import_module("tensorboard.summary")
    writer = summary.Writer(str(folder / f"{run.replace('/', '_')}-{run_id}"))

    def write(figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return write, writer.close


def _wandb(run: str, run_id: str, folder: Path) -> tuple[Write, Callable[[], None]]:
    wandb: Any = import_module("wandb")
    folder.mkdir(parents=True, exist_ok=True)
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    kept = wandb.init(project=project, name=run, id=run_id, resume="allow", dir=str(folder))
    # W&B drops what comes with a smaller step than before; a metric as the axis may go back.
    kept.define_metric("*", step_metric="step")
    return lambda figures, step: kept.log({**figures, "step": step}), kept.finish


def _trackio(run: str, run_id: str, _: Path) -> tuple[Write, Callable[[], None]]:
    trackio: Any = import_module("trackio")
    trackio.init(project=PROJECT, name=f"{run}-{run_id}", resume="allow")
    return lambda figures, step: trackio.log(dict(figures), step=step), trackio.finish


def _mlflow(run: str, run_id: str, _: Path) -> tuple[Write, Callable[[], None]]:
    mlflow: Any = import_module("mlflow")
    experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    # MLflow gives its runs ids of its own; the tag finds one that is continued.
    tagged = f"tags.`{_MLFLOW_TAG}` = '{run_id}'"
    known = mlflow.search_runs([experiment.experiment_id], tagged, max_results=1, output_format="list")
    if known:
        mlflow.start_run(run_id=known[0].info.run_id)
    else:
        mlflow.start_run(run_name=f"{run}-{run_id}", tags={_MLFLOW_TAG: run_id})
    return lambda figures, step: mlflow.log_metrics(dict(figures), step=step), mlflow.end_run


_OPEN: Mapping[str, Callable[[str, str, Path], tuple[Write, Callable[[], None]]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
    "mlflow": _mlflow,
}
