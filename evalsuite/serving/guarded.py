"""A subprocess that never outlives this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from evalsuite.serving import guard

_STOP_TIMEOUT_S = 30.0


class Guarded(AbstractContextManager["Guarded"]):
    """A command run by the guard, which terminates it with all its descendants; a context manager.

    ``process`` is the guard, with the command's output and exit code.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        """Start the command; ``options`` are those of ``subprocess.Popen``."""
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
        """Terminate the command if it is running, and wait for it; idempotent."""
        if self._lifeline >= 0:
            # Closing this end of the pipe makes the guard terminate the command.
            os.close(self._lifeline)
            self._lifeline = -1
        try:
            self.process.wait(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __exit__(self, *_: object) -> None:
        self.end()
