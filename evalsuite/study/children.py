"""A stage in a process of its own: guarded, logged, its last words kept.

What serves, trains or runs lm-eval is started as ``evalsuite COMMAND``: a server's client, torch and lm-eval (which
wants the main thread) leave memory and state behind, and a crash there must not take the study along. The guard of
the servers ends the process when the study ends in whatever way, kill -9 included.
"""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalsuite.errors import StoreError
from evalsuite.serving.guarded import Guarded

COMMAND = (sys.executable, "-m", "evalsuite")
_SIGNALLED = 128
_LAST_LINES = 40


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code, what it printed on stdout, and its last lines on stderr."""

    exit_code: int
    stdout: str
    last_lines: Sequence[str]

    @property
    def reason(self) -> str:
        """The sentence in which evalsuite says why, else the last thing that the process said."""
        said = [line for line in self.last_lines if line.strip()]
        own = [line.removeprefix("evalsuite: ") for line in said if line.startswith("evalsuite: ")]
        words = own[-1] if own else said[-1].strip() if said else "it said nothing"
        if self.exit_code > _SIGNALLED:
            return f"killed by signal {self.exit_code - _SIGNALLED} (out of memory?); last words: {words}"
        return words

    @property
    def is_servers_fault(self) -> bool:
        """Whether a model or a server failed, or the process was killed, rather than its words or data wrong."""
        return self.exit_code == 3 or self.exit_code > _SIGNALLED


def run_child(command: Sequence[str], log: Path, on_line: Callable[[str], None] = lambda _: None) -> Ended:
    """Run a command to its end; its stderr goes to ``log`` and line by line to ``on_line``.

    The process never outlives this one; when this one is interrupted it ends first. Raises StoreError when the log
    cannot be written.
    """
    printed = log.with_suffix(".out")
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as said, printed.open("wb") as stdout:
            last: deque[str] = deque(maxlen=_LAST_LINES)

            def hear(line: str) -> None:
                said.write(line)
                said.flush()
                last.append(line.rstrip("\n"))
                on_line(line.strip())

            code = _guarded(command, stdout.fileno(), hear)
    except OSError as error:
        raise StoreError(
            f"cannot write {log}: {error.strerror or error}; give a writable folder with --results"
        ) from error
    return Ended(code, printed.read_text(encoding="utf-8", errors="replace"), tuple(last))


def _guarded(command: Sequence[str], stdout: int, hear: Callable[[str], None]) -> int:
    """Run the command behind the guard, hear it out, and return its exit code."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": subprocess.PIPE}
    with Guarded(command, **streams, text=True, encoding="utf-8", errors="replace") as guarded:
        process = guarded.process
        try:
            for line in process.stderr or ():
                hear(line)
            return process.wait()
        finally:
            guarded.end()
            if process.stderr:
                process.stderr.close()
