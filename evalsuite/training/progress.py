"""Training progress: step, loss, tokens per second, time left, and MFU if the GPU's peak is known."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from evalsuite.progress import Progress, clock

TASK = "sft"


@dataclass(slots=True)
class TrainingProgress:
    """Counts steps, tokens and time; ``flops_per_token`` and ``peak_flops`` (of all devices) give the MFU.

    ``before`` are the seconds trained before the run was interrupted.
    """

    show: Progress
    steps: int
    flops_per_token: float = 0.0
    peak_flops: float | None = None
    before: float = 0.0
    _tokens: int = 0
    _started_at: float = 0.0
    _stepped_at: float = 0.0
    _first_step: int = 0
    _step: int = 0

    def begin(self, step: int) -> None:
        self._started_at, self._first_step, self._step = time.monotonic(), step, step
        self.show.begin(TASK, self.steps)
        self.show.update(TASK, step, self.steps)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, including those before an interruption."""
        return self.before + (time.monotonic() - self._started_at if self._started_at else 0.0)

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens per second from the start of this process's training to its last step, without padding.

        The training checkpoint that is saved after the last step does not count.
        """
        elapsed = self._stepped_at - self._started_at
        return self._tokens / elapsed if self._tokens and elapsed > 0 else None

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilization: share of the devices' bf16 peak, 0 to 1."""
        rate = self.tokens_per_second
        return rate * self.flops_per_token / self.peak_flops if rate and self.peak_flops else None

    def count(self, n_tokens: int) -> None:
        """Add tokens trained on, over all processes."""
        self._tokens += n_tokens

    def at_step(self, step: int) -> None:
        self._step, self._stepped_at = step, time.monotonic()
        self.show.update(TASK, step, self.steps)

    def summary(self, loss: float) -> str:
        parts = [f"step {self._step}/{self.steps}", f"loss {loss:.3f}"]
        if rate := self.tokens_per_second:
            parts.append(f"{rate:,.0f} tokens/s")
        if done := self._step - self._first_step:
            left = (self.steps - self._step) * (time.monotonic() - self._started_at) / done
            parts.append(f"{clock(math.ceil(left))} left")
        if (share := self.mfu) is not None:
            parts.append(f"MFU {share:.0%}")
        return " · ".join(parts)
