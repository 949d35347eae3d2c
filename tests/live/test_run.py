"""The command line on a real vLLM: all four suites, a real kill, and nothing left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.live.conftest import Live


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "evalsuite", "run", *words, "--data", "mini", "--json"]


def attached(live: Live, demo_folder: Path, results: Path) -> list[str]:
    return command(str(demo_folder), "--judge", str(demo_folder), "--base-url", live.url, "--results", str(results))


def answers_in(results: Path) -> int:
    if not (results / "store.sqlite").exists():
        return 0
    with sqlite3.connect(results / "store.sqlite") as db:
        try:
            return int(db.execute("SELECT COUNT(*) FROM completions").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def test_a_run_killed_half_way_ends_like_one_that_was_not(live: Live, demo_folder, tmp_path):
    words = attached(live, demo_folder, tmp_path)
    killed = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    target = random.Random(0).randint(20, 60)
    while answers_in(tmp_path) < target and killed.poll() is None:
        time.sleep(0.2)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    kept = answers_in(tmp_path)
    assert kept >= target
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        before = dict(db.execute("SELECT key, value FROM completions"))

    resumed = subprocess.run(words, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    (document,) = json.loads(resumed.stdout)["models"]
    suites = document["suites"]
    assert set(suites) == {"mt_bench", "alpaca_eval", "openllm", "mixeval"}
    assert suites["mt_bench"]["n_scored"] == suites["mt_bench"]["n"]
    assert suites["alpaca_eval"]["n_total"] == 8
    assert all(suites["openllm"][part]["score"] is not None for part in ("bbh", "gpqa", "math", "musr", "ifeval"))
    assert suites["mixeval"]["n_scored"] == suites["mixeval"]["n"]
    assert document["average"]["paper"] is not None
    with sqlite3.connect(tmp_path / "store.sqlite") as db:
        after = dict(db.execute("SELECT key, value FROM completions"))
    assert before.items() <= after.items(), "nothing that was answered is lost or answered again"

    began = time.monotonic()
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    seconds = time.monotonic() - began
    assert json.loads(again.stdout)["models"] == [document]
    assert answers_in(tmp_path) == len(after), "a second run asks nothing"
    print(f"second run: {seconds:.1f} s")


def test_no_vllm_outlives_a_killed_run(tmp_path):
    run = subprocess.Popen(
        command("demo", "--suite", "mt_bench", "--results", str(tmp_path)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    servers: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while not servers and time.monotonic() < deadline:
        children = psutil.Process(run.pid).children(recursive=True)
        servers = [child for child in children if "vllm.entrypoints" in " ".join(child.cmdline())]
        time.sleep(0.2)
    assert servers, "the run never started a server"
    time.sleep(3)
    family = psutil.Process(run.pid).children(recursive=True)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_says_how_to_go_on(tmp_path, signal_name):
    run = subprocess.Popen(
        command("demo", "--suite", "mt_bench", "--results", str(tmp_path)),
        stderr=subprocess.PIPE,
        text=True,
        # A background shell starts its programs with SIGINT ignored; a terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "logs").exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(2)
    family = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(getattr(signal, signal_name))
    _, words = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "run the same command again" in words
    assert "Traceback" not in words
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
