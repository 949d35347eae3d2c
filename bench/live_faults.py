"""``bench/faults.py --live``: a real vLLM is killed, and the run that owns it."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil

from bench.tally import Tally
from evalsuite.files import read_json
from tests.evalsuite.kills import NEVER, contents, differences, orphans, start

_SERVER_WORDS = "api_server"
_PATIENCE_S = 300.0
_LOG_PROB_TOLERANCE = 1e-3
_WORDS = ("run", "demo", "--data", "mini", "--suite", "mt_bench", "--dtype", "float32", "--limit", "3", "--results")


def bench_live(place: Path, tally: Tally) -> None:
    """Run once undisturbed; then kill a run, resume it, kill its vLLM, let it end, and compare."""
    whole, cut = place / "whole", place / "cut"
    code = _end_of(start([*_WORDS, str(whole)], place / "whole-out", NEVER, cold=True))
    if code != 0:
        raise SystemExit(f"the undisturbed run failed with code {code}: {_words(place / 'whole-out')}")
    n_answers = _n_answers(whole)

    run = start([*_WORDS, str(cut)], place / "out", NEVER, cold=True)
    _wait_for_answers(run, cut, max(1, n_answers // 4))
    os.kill(run, signal.SIGKILL)
    _end_of(run)
    left = [f"a vLLM outlived its run: {one}" for one in orphans(())]
    tally.add(["kill -9 of the run, with a real vLLM"], left)

    kept = _n_answers(cut)
    run = start([*_WORDS, str(cut)], place / "out", NEVER, cold=True)
    _wait_for_answers(run, cut, max(kept + 1, n_answers // 2))
    os.killpg(os.getpgid(_server_of(run)), signal.SIGKILL)
    code = _end_of(run)
    faults = [] if code == 0 else [f"the run ended with code {code}: {_words(place / 'out')}"]
    manifests = [read_json(path) for path in cut.glob("*/manifest.json")]
    restarts = [manifest["server_restarts"] for manifest in manifests]
    faults += [] if restarts == [1] else [f"the manifest tells of {restarts} restarts; expected one"]
    faults += [f"{name} differs" for name in differences(contents(whole), contents(cut), _LOG_PROB_TOLERANCE)]
    faults += [f"left running: {one}" for one in orphans(())]
    tally.add(["kill -9 of vLLM in the middle of a run"], faults)


def _end_of(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _words(out: Path) -> str:
    return Path(f"{out}.stderr").read_text(encoding="utf-8", errors="replace")[-1500:]


def _n_answers(results: Path) -> int:
    path = results / "store.sqlite"
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path, timeout=60)) as db:
        try:
            return int(db.execute("SELECT COUNT(*) FROM completions").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def _wait_for_answers(run: int, results: Path, count: int) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while _n_answers(results) < count:
        if time.monotonic() > deadline or psutil.Process(run).status() == psutil.STATUS_ZOMBIE:
            raise SystemExit(f"no {count} answers in {results}")
        time.sleep(0.1)


def _server_of(run: int) -> int:
    """Return vLLM's process below the run: the child of its guard."""
    children: list[Any] = psutil.Process(run).children(recursive=True)
    servers = [
        child
        for child in children
        if _SERVER_WORDS in " ".join(child.cmdline()) and "guard.py" not in " ".join(child.cmdline())
    ]
    if not servers:
        raise SystemExit("the run has no vLLM")
    return int(servers[0].pid)
