"""Waits for a training run's checkpoints and evaluates each once it is complete.

What is finished is in the results: killed and started again, only the rest is evaluated. Checkpoints that are ready
at the same time share one run, and with it one start of the judge's server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalsuite.checkpoint.training_run import checkpoints_in, is_over, step_of, training_step, what_is_missing
from evalsuite.errors import CheckpointError, EvalsuiteError, UsageError
from evalsuite.exports.tracked import log_figures
from evalsuite.progress import NoProgress, Progress
from evalsuite.runs.runner import run
from evalsuite.runs.shared import Shared
from evalsuite.watching.settings import WatchConfig

_REMOVED = "the trainer removed it before it was evaluated; raise save_total_limit"


@dataclass(slots=True)
class Watched:
    """What came of it: the results folders of the evaluated checkpoints, and why others were not evaluated."""

    folders: list[Path] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    n_unscored: int = 0
    n_items: int = 0


def watch(
    config: WatchConfig, progress: Progress | None = None, *, sleep: Callable[[float], None] = time.sleep
) -> Watched:
    """Evaluate the checkpoints of ``config.run_dir`` until the training ends, or for long none is added.

    Raises UsageError without that folder, and whatever stops a run, except what is wrong with a checkpoint alone.
    """
    if not config.run_dir.is_dir():
        raise UsageError(f"{config.run_dir} is not a folder; give the folder that the trainer saves its checkpoints to")
    with Shared(config, keep_judge=config.keep_judge) as shared:
        watching = _Watching(config, progress or NoProgress(), shared)
        while not watching.look():
            sleep(config.poll_s)
    return watching.found


@dataclass(slots=True)
class _Watching:
    """Which steps are settled, and when something last changed."""

    config: WatchConfig
    progress: Progress
    shared: Shared
    found: Watched = field(default_factory=Watched)
    settled: set[int] = field(default_factory=set)
    changed_at: float = field(default_factory=time.monotonic)
    said: str = ""

    def look(self) -> bool:
        """Evaluate what is ready; return whether nothing more will come."""
        while True:
            # Asked before the list is read, so that a checkpoint which ends the training is in the list.
            over = is_over(self.config.run_dir)
            ready, waiting = self._ready(over=over)
            if not ready:
                break
            self._evaluate(ready)
            self.changed_at = time.monotonic()
        stalled = time.monotonic() - self.changed_at > 60 * self.config.wait
        if over or stalled:
            self.found.left_out |= waiting
            if stalled and not over:
                self.progress.log(f"no new checkpoint for {self.config.wait:g} minutes; start again for later ones")
            return True
        said = "; ".join(f"{name}: {why}" for name, why in waiting.items())
        said = f"waiting for {said or f'the next checkpoint in {self.config.run_dir}'}"
        if said != self.said:
            self.said = said
            self.progress.step(said)
        return False

    def _ready(self, *, over: bool) -> tuple[dict[int, Path], dict[str, str]]:
        """Return the complete checkpoints that are still to be evaluated, by step, and what others lack."""
        found = {step_of(path) or 0: path for path in reversed(checkpoints_in(self.config.run_dir))}
        if over and (state := training_step(self.config.run_dir)) is not None:
            # The finished model of a training run that keeps no checkpoints.
            found.setdefault(state["step"], self.config.run_dir)
        every, last = self.config.every, max(found, default=0) if over else None
        ready: dict[int, Path] = {}
        waiting: dict[str, str] = {}
        for step, path in sorted(found.items()):
            if step in self.settled or (every is not None and step % every and step != last):
                continue
            if missing := what_is_missing(path):
                waiting[path.name] = missing
            else:
                ready[step] = path
        return ready, waiting

    def _evaluate(self, ready: Mapping[int, Path]) -> None:
        """Evaluate checkpoints in one run; where one of them cannot be served, each on its own."""
        folders = list(ready.values())
        try:
            outcome = run(self.config.run_config(folders), self.progress, self.shared)
        except EvalsuiteError as error:
            gone = [path for path in folders if not path.is_dir()]
            if not isinstance(error, CheckpointError) and not gone:
                raise
            if len(folders) > 1:
                for step, path in ready.items():
                    self._evaluate({step: path})
                return
            self._leave_out(folders[0].name, _REMOVED if gone else str(error))
        else:
            self.found.folders += outcome.folders
            self.found.n_unscored += outcome.n_unscored
            self.found.n_items += outcome.n_items
            log_figures(self.config.log_to, self.config.results, outcome.folders)
            for path in folders:
                self.progress.log(f"{path.name} is evaluated")
        self.settled |= set(ready)

    def _leave_out(self, name: str, why: str) -> None:
        self.found.left_out[name] = why
        self.progress.log(f"{name} is left out: {why}")
