"""A command in its own process, guarded and logged.

What serves, trains or runs lm-eval is started as ``evalsuite COMMAND``: a server's client, torch and lm-eval (which
needs the main thread) leave memory and state behind, and a crash there must not end what waits for it. The guard ends
the process however its owner ends, kill -9 included.
"""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalsuite.files import writing
from evalsuite.serving.guarded import Guarded

COMMAND = (sys.executable, "-m", "evalsuite")
_SIGNALLED = 128
_LAST_LINES = 40
_PREFIX = "evalsuite: "


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code, its stdout, and its last lines on stderr."""

    exit_code: int
    stdout: str
    last_lines: Sequence[str]

    @property
    def reason(self) -> str:
        """The message of evalsuite where there is one, else the last line of stderr."""
        lines = [line.strip() for line in self.last_lines if line.strip()]
        messages = [line.removeprefix(_PREFIX) for line in lines if line.startswith(_PREFIX)]
        message = next(iter([*messages[-1:], *lines[-1:]]), "no output")
        if self.exit_code > _SIGNALLED:
            return f"killed by signal {self.exit_code - _SIGNALLED} (out of memory?); last output: {message}"
        return message

    @property
    def is_servers_fault(self) -> bool:
        """Whether a model or a server failed, or the process was killed; else its arguments or data are at fault."""
        return self.exit_code == 3 or self.exit_code > _SIGNALLED


def run_child(command: Sequence[str], log: Path, on_line: Callable[[str], None] = lambda _: None) -> Ended:
    """Run a command to its end; its stderr goes to ``log`` and line by line to ``on_line``.

    The process never outlives this one, and ends first when this one is interrupted. Raises StoreError when the log
    cannot be written.
    """
    output = log.with_suffix(".out")
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as written, output.open("wb") as stdout:
            streams = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": subprocess.PIPE}
            with Guarded(command, **streams, text=True, encoding="utf-8", errors="replace") as guarded:
                process = guarded.process
                try:
                    for line in process.stderr or ():
                        written.write(line)
                        written.flush()
                        last.append(line.rstrip("\n"))
                        on_line(line.strip())
                    code = process.wait()
                finally:
                    guarded.end()
                    if process.stderr:
                        process.stderr.close()
    return Ended(code, output.read_text(encoding="utf-8", errors="replace"), tuple(last))
