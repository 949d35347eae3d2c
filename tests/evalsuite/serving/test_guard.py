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
mode = sys.argv[2]
time.sleep(300) if mode == "wait" else time.sleep(1.5)
raise RuntimeError("boom")
"""


def family(owner: subprocess.Popen[str]) -> list[psutil.Process]:
    pids = [int(owner.stdout.readline()) for _ in range(2)]
    processes = [psutil.Process(pid) for pid in pids]
    return [*processes, *processes[0].children(recursive=True)]


def gone(processes: list[psutil.Process], timeout_s: float = 20.0) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def quick_guard(tmp_path):
    """The guard with a short grace period."""
    copy = tmp_path / "guard.py"
    copy.write_text(GUARD.read_text().replace("_GRACE_S = 10.0", "_GRACE_S = 0.5"))
    return copy


def start(guard: Path, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OWNER, str(guard), mode], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_with_its_killed_owner(quick_guard, number):
    owner = start(quick_guard, "wait")
    processes = family(owner)
    assert len(set(processes)) == 4, "guard, server and both of its children"
    os.kill(owner.pid, number)
    owner.wait(timeout=20)
    assert gone(processes)
    owner.stdout.close()


def test_the_server_ends_with_an_owner_that_raises(quick_guard):
    owner = start(quick_guard, "raise")
    processes = family(owner)
    owner.wait(timeout=20)
    assert gone(processes)
    owner.stdout.close()


def test_the_server_and_its_children_end_when_their_guard_is_killed(quick_guard):
    """As Ray does when a cluster is shut down: first the guard, then nobody else."""
    owner = start(quick_guard, "wait")
    processes = family(owner)
    assert len(set(processes)) == 4
    processes[0].kill()
    assert gone(processes)
    owner.kill()
    owner.wait()
    owner.stdout.close()


def test_everything_ends_when_all_descendants_of_the_owner_are_killed_but_the_servers_workers(quick_guard):
    owner = start(quick_guard, "wait")
    guard, child, *rest = family(owner)
    server = next(process for process in guard.children() if process.pid != child.pid)
    for process in (guard, server, owner):
        process.kill()
    owner.wait()
    assert gone([guard, server, child, *rest])
    owner.stdout.close()


def test_a_guard_that_ends_in_order_leaves_no_watcher(quick_guard):
    mark = str(quick_guard)
    read_end, write_end = os.pipe()
    command = [sys.executable, "-I", mark, str(read_end), sys.executable, "-c", "pass"]
    assert subprocess.run(command, pass_fds=(read_end,), timeout=20, check=False).returncode == 0
    left = [each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or ())]
    assert gone(left)
    os.close(read_end)
    os.close(write_end)


def test_the_guard_reports_the_servers_exit_code():
    read_end, write_end = os.pipe()
    guard = subprocess.Popen(
        [sys.executable, "-I", str(GUARD), str(read_end), sys.executable, "-c", "raise SystemExit(7)"],
        pass_fds=(read_end,),
    )
    os.close(read_end)
    began = time.monotonic()
    assert guard.wait(timeout=20) == 7
    assert time.monotonic() - began < 10
    os.close(write_end)
