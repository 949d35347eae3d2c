"""Terminate a command when the process that started it exits.

Run as a script: ``python -I guard.py FD COMMAND...``. ``FD`` is the read end of a pipe whose write end
only the owner has. When the owner exits, even by kill -9, the kernel closes the pipe, and the guard
terminates the command's process group and all processes that left it. If the guard itself is killed,
the kernel kills the command (PR_SET_PDEATHSIG). Standard library only, so that it starts in milliseconds.
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
from functools import partial
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 10.0
_POLL_S = 0.2


def _prctl(option: int, value: int) -> None:
    """Set a process attribute on Linux; on other systems only the pipe protects."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _end_group(server: subprocess.Popen[bytes]) -> None:
    """Terminate the process group, then kill it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_S
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    # Child processes share the group and may outlive their parent.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def _children() -> list[int]:
    """Return the guard's children; none if the kernel does not list them."""
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text("ascii").split()]
    except OSError:
        return []


def _end_adopted() -> None:
    """Kill descendants in other process groups, which are the guard's children now (subreaper)."""
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
    # preexec_fn is a single prctl call, which is safe here.
    die_with_guard = partial(_prctl, _PR_SET_PDEATHSIG, signal.SIGKILL)
    server = subprocess.Popen(command, start_new_session=True, preexec_fn=die_with_guard)  # noqa: PLW1509
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
