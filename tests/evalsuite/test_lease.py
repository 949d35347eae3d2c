"""Leases: one holder at a time, taken over from the dead and the silent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from evalsuite.lease import Lease, holder_of

HOLDER = """
import sys, time
from pathlib import Path
from evalsuite.lease import Lease
print(Lease.take(Path(sys.argv[1]), "first") is not None, flush=True)
time.sleep(60)
"""


def test_one_holder_at_a_time(tmp_path):
    path = tmp_path / "folder" / "lease"
    with Lease.take(path, "me") as mine:
        assert mine.before is None
        assert Lease.take(path) is None
        assert holder_of(path)["owner"] == "me"
    assert not path.exists()
    with Lease.take(path) as again:
        assert again is not None


def test_it_is_taken_over_at_once_from_a_killed_process_of_this_machine(tmp_path):
    path = tmp_path / "lease"
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    assert Lease.take(path) is None
    holder.kill()
    holder.communicate()
    with Lease.take(path) as mine:
        assert mine.before == "first"
        assert Lease.take(path) is None
    assert list(tmp_path.iterdir()) == []


def test_on_another_machine_it_is_over_when_it_was_not_touched_for_long(tmp_path):
    path = tmp_path / "lease"
    path.write_text(json.dumps({"owner": "x", "host": "elsewhere", "pid": os.getpid(), "started": 0.0}))
    assert Lease.take(path, stale_s=60) is None
    os.utime(path, (time.time() - 61, time.time() - 61))
    with Lease.take(path, stale_s=60) as mine:
        assert mine.before == "x"


def test_a_holder_touches_it(tmp_path):
    path = tmp_path / "lease"
    with Lease.take(path, stale_s=0.3):
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 5
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert path.stat().st_mtime > 0


def test_of_many_that_see_it_end_one_gets_it(tmp_path):
    path = tmp_path / "lease"
    path.write_text(json.dumps({"owner": "x", "host": "elsewhere"}))
    os.utime(path, (0, 0))
    script = (
        "import sys, time; from pathlib import Path; from evalsuite.lease import Lease; sys.stdin.readline(); "
        "print(Lease.take(Path(sys.argv[1])) is not None, flush=True); sys.stdin.readline()"
    )
    command = [sys.executable, "-c", script, str(path)]
    takers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for taker in takers:
        taker.stdin.write("go\n")
        taker.stdin.flush()
    assert sorted(taker.stdout.readline().strip() for taker in takers) == ["False"] * 3 + ["True"]
    for taker in takers:
        taker.communicate("end\n")
