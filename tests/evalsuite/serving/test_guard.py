"""A server must never outlive its owner: tests with real processes and kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

GUARD = Path(__file__).resolve().parents[3] / "evalsuite" / "serving" / "guard.py"

# The owner starts a guarded "server", which itself starts two children that ignore SIGTERM: one in its own
# process group, one in another, as torch's launcher starts its workers.
OWNER = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell may have it ignored
server = (
    "import signal, subprocess, sys, time\\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
    "command = [sys.executable, '-c', 'import signal, time; "
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)']\\n"
    "subprocess.Popen(command, start_new_session=True)\\n"
    "child = subprocess.Popen(command)\\n"
    "print(child.pid, flush=True)\\n"
    "time.sleep(300)\\n"
)
read_end, write_end = os.pipe()
guard = subprocess.Popen(
    [sys.executable, "-I", sys.argv[1], str(read_end), sys.executable, "-c", server],
    pass_fds=(read_end,), start_new_session=True,
)
os.close(read_end)
print(guard.pid, flush=True)
sys.stdin.read()
raise RuntimeError("boom")
"""


def family(owner: subprocess.Popen[str]) -> list[psutil.Process]:
    pids = [int(owner.stdout.readline()) for _ in range(2)]
    processes = [psutil.Process(pid) for pid in pids]
    return [*processes, *processes[0].children(recursive=True)]


def gone(processes: list[psutil.Process], timeout_s: float = 20.0) -> bool:
    """Wait until all have ended; a zombie counts as ended."""
    deadline, left = time.monotonic() + timeout_s, processes
    while time.monotonic() < deadline:
        left = [process for process in left if not _has_ended(process)]
        if not left:
            return True
        time.sleep(0.05)
    return False


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def quick_guard(tmp_path):
    """The guard with a short grace period."""
    return guard_with(tmp_path, grace_s=0.5)


def guard_with(folder: Path, grace_s: float) -> Path:
    copy = folder / "guard.py"
    copy.write_text(GUARD.read_text().replace("_GRACE_S = 10.0", f"_GRACE_S = {grace_s}"))
    return copy


def start(guard: Path) -> subprocess.Popen[str]:
    """Start an owner, which raises when its stdin is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, str(guard)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_with_its_killed_owner(quick_guard, number):
    with start(quick_guard) as owner:
        processes = family(owner)
        assert len(set(processes)) == 4, "guard, server and both of its children"
        os.kill(owner.pid, number)
        owner.wait(timeout=20)
        assert gone(processes)


def test_the_server_ends_with_an_owner_that_raises(quick_guard):
    with start(quick_guard) as owner:
        processes = family(owner)
        owner.stdin.close()
        owner.wait(timeout=20)
        assert gone(processes)


def test_the_server_and_its_children_end_when_their_guard_is_killed(quick_guard):
    """As Ray does when a cluster is shut down: first the guard, then nobody else."""
    with start(quick_guard) as owner:
        processes = family(owner)
        assert len(set(processes)) == 4
        processes[0].kill()
        assert gone(processes)


def test_everything_ends_when_all_descendants_of_the_owner_are_killed_but_the_servers_workers(quick_guard):
    with start(quick_guard) as owner:
        guard, child, *rest = family(owner)
        server = next(process for process in guard.children() if process.pid != child.pid)
        for process in (guard, server, owner):
            process.kill()
        owner.wait()
        assert gone([guard, server, child, *rest])


def test_a_guard_that_ends_in_order_leaves_no_watcher(quick_guard):
    mark = str(quick_guard)
    read_end, write_end = os.pipe()
    command = [sys.executable, "-I", mark, str(read_end), sys.executable, "-c", "pass"]
    assert subprocess.run(command, pass_fds=(read_end,), timeout=20, check=False).returncode == 0
    left = [each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or ())]
    assert gone(left)
    os.close(read_end)
    os.close(write_end)


def test_the_guard_reports_the_servers_exit_code_without_a_period_of_grace(tmp_path):
    read_end, write_end = os.pipe()
    slow = guard_with(tmp_path, grace_s=1000)
    guard = subprocess.Popen(
        [sys.executable, "-I", str(slow), str(read_end), sys.executable, "-c", "raise SystemExit(7)"],
        pass_fds=(read_end,),
    )
    os.close(read_end)
    assert guard.wait(timeout=20) == 7
    os.close(write_end)
