"""Keep a server no longer than the process that started it.

Run as a script: ``python -I guard.py FD COMMAND...``. ``FD`` is the reading end of a pipe whose
writing end only the owner holds. When the owner ends in whatever way, kill -9 included, the
kernel closes the pipe, and the guard ends the server's whole process group and what left it. If the guard itself
is killed, the kernel ends the server (PR_SET_PDEATHSIG). Standard library only: it starts in
milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 10.0
_POLL_S = 0.2


def _prctl(option: int, value: int) -> None:
    """Ask Linux for a process property; other systems go without (the pipe still works)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _die_with_guard() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_group(server: subprocess.Popen[bytes]) -> None:
    """Ask the server's process group to stop, then make it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_S
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    # The engine's own processes share the group and may outlive their parent.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _children() -> list[int]:
    """Return the guard's own children; where the kernel does not list them, none."""
    try:
        return [
            int(word) for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
        ]
    except OSError:
        return []


def _end_adopted() -> None:
    """End what lives on in groups of its own: orphans of the server's are the guard's children by now."""
    deadline = time.monotonic() + _GRACE_S
    while (left := _children()) and time.monotonic() < deadline:
        for child in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def main(arguments: list[str]) -> int:
    owner, command = int(arguments[0]), arguments[1:]
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # The child hook is one prctl call: safe before exec.
    server = subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_guard)  # noqa: PLW1509
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    while server.poll() is None:
        closed, _, _ = select.select([owner], [], [], _POLL_S)
        if stopping or (closed and not os.read(owner, 1)):
            break
    _end_group(server)
    _end_adopted()
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
