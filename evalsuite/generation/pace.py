"""The speed of generation once it is under way: answer tokens by stretches of time, without its beginning and end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from judges.statistics import mean_and_stderr

MOST_STRETCHES = 32
_FIRST_STRETCH_S = 1.0
LEAST_STRETCHES = 5
"""Fewer say nothing of how the speed varies."""

Stretch = Sequence[float]
"""Seconds, and the answer tokens that arrived in them."""


@dataclass(slots=True)
class Pace:
    """Counts what arrives between the warm-up and the end of a call.

    The warm-up lasts until as many conversations are finished as are answered at once (``ahead``), the end begins when
    there is none left to begin: in both the server is not full.
    """

    ahead: int
    stretches: list[tuple[float, float]] = field(default_factory=list)
    _length: float = _FIRST_STRETCH_S
    _finished: int = 0
    _since: tuple[float, int] | None = None
    _tokens: int = 0

    def pause(self) -> None:
        """Begin with a warm-up again, as after a restart of the server."""
        self._finished, self._since = 0, None

    def finished(self, now: float, tokens: int, *, is_full: bool) -> None:
        """Note a conversation that is finished at ``now``, with ``tokens`` in all; ``is_full``: others are to begin.

        One that came from the store, without new tokens, does not count.
        """
        if tokens == self._tokens:
            return
        self._tokens = tokens
        self._finished += 1
        if not is_full or self._finished < self.ahead:
            self._since = None
        elif self._since is None:
            self._since = (now, tokens)
        elif (seconds := now - self._since[0]) >= self._length:
            self.stretches.append((round(seconds, 3), tokens - self._since[1]))
            self._since = (now, tokens)
            if len(self.stretches) > MOST_STRETCHES:
                self.stretches = joined(self.stretches)
                self._length *= 2


def joined(stretches: Sequence[Stretch]) -> list[tuple[float, float]]:
    """Join neighbours until there are at most ``MOST_STRETCHES``."""
    kept = [(seconds, tokens) for seconds, tokens in stretches]
    while len(kept) > MOST_STRETCHES:
        pairs = [kept[place : place + 2] for place in range(0, len(kept), 2)]
        kept = [(sum(seconds for seconds, _ in pair), sum(tokens for _, tokens in pair)) for pair in pairs]
    return kept


def speed_of(stretches: Sequence[Stretch]) -> tuple[float, float] | None:
    """Return tokens per second and the standard error of its logarithm; None for fewer than five stretches.

    The stretches are batch means (Law, Simulation Modeling and Analysis, chapter 9), weighted by their seconds.
    """
    seconds, tokens = (math.fsum(each) for each in zip(*stretches, strict=True)) if stretches else (0.0, 0.0)
    if len(stretches) < LEAST_STRETCHES or not tokens:
        return None
    speed = tokens / seconds
    mean_s = seconds / len(stretches)
    # The residuals of a ratio, of which the mean is zero.
    _, stderr = mean_and_stderr([(got - speed * lasted) / (speed * mean_s) for lasted, got in stretches])
    return None if stderr is None else (speed, stderr)
