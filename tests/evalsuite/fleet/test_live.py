"""Real vLLMs of the demo model under Ray: the figures of one machine, and none left when a cluster is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from importlib import util
from pathlib import Path

import psutil
import pytest

from tests.evalsuite.fleet.clusters import ray_cluster
from tests.evalsuite.fleet.test_fleet import figures, long, started, wait_for, workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


def served_for(results: Path) -> list[psutil.Process]:
    """Return the processes of vLLM that units of a results folder have started: by their mark or their parents."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if ("vllm" in line.lower()) and str(results) in " ".join(process.environ().values()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def command(results: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "evalsuite", "run", "demo", "--suite", "mt_bench", "--data", "mini", "--no-judge"]
    words += ["--limit", "2", "--dtype", "float32", "--max-model-len", "2048", "--results", str(results)]
    return [*words, *more]


@long
def test_two_servers_under_ray_and_none_left_when_its_nodes_are_killed(tmp_path, monkeypatch):
    if util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed (make setup)")
    # In the environment of every process that a unit starts, by which what is left is found.
    monkeypatch.setenv("EVALSUITE_TEST_OF", str(tmp_path))
    assert subprocess.run(command(tmp_path / "plain")).returncode == 0
    with ray_cluster() as cluster:
        place = ["--on", f"ray:{cluster.address},gpus=0", "--jobs", "2"]
        with started(command(tmp_path / "r", *place, "--seed", "1"), tmp_path / "log") as first:
            second = subprocess.Popen(command(tmp_path / "other", *place))
            wait_for(lambda: sum("EngineCore" in one.name() for one in served_for(tmp_path)) == 2, 900)
            raylets = [one for one in psutil.process_iter(["name"]) if one.info["name"] == "raylet"]
            ours = [one for one in raylets if cluster.address.partition(":")[2] in " ".join(one.cmdline())]
            assert len(ours) == 3
            for process in [*ours, first]:
                process.send_signal(signal.SIGKILL)
            second.kill()
            second.wait()
            deadline = time.monotonic() + 60
            while (served_for(tmp_path) or workers(tmp_path)) and time.monotonic() < deadline:
                time.sleep(0.5)
            assert served_for(tmp_path) == []
            assert not workers(tmp_path)
    # On a new cluster the same command resumes, with the figures of one machine.
    with ray_cluster() as cluster:
        ended = subprocess.run(
            command(tmp_path / "other", "--on", f"ray:{cluster.address},gpus=0"), capture_output=True, text=True
        )
    assert ended.returncode == 0, ended.stderr
    assert figures(tmp_path / "other") == figures(tmp_path / "plain")
    assert served_for(tmp_path) == []
