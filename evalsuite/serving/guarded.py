"""A process that never outlives this one, however this one ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from evalsuite.serving import guard

_END_S = 30.0


class Guarded:
    """A command behind the guard, which ends it and all that it started; a context manager.

    ``process`` is the guard: its output is the command's, and so is its exit code.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        """Start at once; ``options`` are those of ``subprocess.Popen``."""
        reading, self._lifeline = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", guard.__file__, str(reading), *command], pass_fds=(reading,), **options
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(reading)

    def end(self) -> None:
        """End the command, if it still lives, and wait for it; safe to call twice."""
        if self._lifeline >= 0:
            # The guard ends what it guards as soon as nobody holds this end of the pipe.
            os.close(self._lifeline)
            self._lifeline = -1
        try:
            self.process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()
