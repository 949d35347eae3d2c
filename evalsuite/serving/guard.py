"""Terminate a command when the process that started it exits.

Run as a script: ``python -I guard.py FD COMMAND...``. ``FD`` is the read end of a pipe whose write end
only the owner has. When the owner exits, even by kill -9, the kernel closes the pipe, and the guard
terminates the command's process group and all processes that left it. If the guard itself is killed,
the kernel kills the command (PR_SET_PDEATHSIG), and a watcher in its own session, child of no process
that a cluster's manager would end with the guard, kills what the command had started: every process that has
the guard's mark in its environment. Standard library only, so that it starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 10.0
_POLL_S = 0.2
_MARK = "EVALSUITE_GUARD"


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


def _start_watcher(mark: str, *unused: int) -> int:
    """Start the watcher; return the descriptor on which to tell it that all has ended in order."""
    reading, writing = os.pipe()
    if (first := os.fork()) == 0:
        os.setsid()
        # Its parent ends at once, so that it is not a descendant of the guard, nor of the guard's owner.
        if os.fork() == 0:
            null = os.open(os.devnull, os.O_RDWR)
            for standard in range(3):
                os.dup2(null, standard)
            for other in (writing, null, *unused):
                os.close(other)
            for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(ignored, signal.SIG_IGN)
            if not os.read(reading, 1):
                _kill_marked(mark)
        os._exit(0)
    os.waitpid(first, 0)
    os.close(reading)
    return writing


def _kill_marked(mark: str) -> None:
    """Kill all processes with the mark in their environment, until there are none."""
    deadline = time.monotonic() + _GRACE_S
    while time.monotonic() < deadline:
        marked = list(_marked(mark.encode()))
        if not marked:
            return
        for pid in marked:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _marked(mark: bytes) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                yield int(folder.name)


def main(arguments: list[str]) -> int:
    owner, command = int(arguments[0]), arguments[1:]
    # A core dump of the server, or of the watcher, would hold its key; the server's also the prompts.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    mark = secrets.token_hex(16)
    watcher = _start_watcher(mark, owner)
    # What a command starts under guards of its own has their marks too.
    environment = {**os.environ, _MARK: f"{os.environ.get(_MARK, '')}:{mark}"}
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    # preexec_fn is a single prctl call, which is safe here.
    die_with_guard = partial(_prctl, _PR_SET_PDEATHSIG, signal.SIGKILL)
    server = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=die_with_guard)  # noqa: PLW1509
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    while server.poll() is None:
        closed, _, _ = select.select([owner], [], [], _POLL_S)
        if stopping or (closed and not os.read(owner, 1)):
            break
    _end_group(server)
    _end_adopted()
    os.write(watcher, b".")
    return server.returncode if server.returncode >= 0 else 128 - server.returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
