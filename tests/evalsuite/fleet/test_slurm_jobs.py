"""``--jobs`` on Slurm: at most so many units at once, whatever is retried or follows."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalsuite.fleet.head import Head
from evalsuite.fleet.on_slurm import Slurm
from evalsuite.fleet.units import Unit, done_of
from evalsuite.placement import Placement
from evalsuite.progress import NoProgress
from tests.evalsuite.fleet.clusters import SlurmCluster, slurm_cluster
from tests.evalsuite.fleet.test_fleet import jobs_of, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


SCRIPTED = """
import sys, time
from pathlib import Path
log, name, failures = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
tries = sum(path.name.startswith(name) for path in log.iterdir())
mine = log / f"{name}{tries}"
mine.touch()
if tries < failures:
    sys.exit(3)
began = time.time()
while not (log.parent / "go").exists():
    time.sleep(0.05)
time.sleep(1)
mine.write_text(f"{began} {time.time()}")
"""
"""A unit that fails so often at first, then waits for a file "go" and writes down from when to when it ran."""


def scripted(tmp_path: Path, monkeypatch, slurm: SlurmCluster, failures: str) -> list[Unit]:
    """Return units in place of evalsuite's commands: one per digit, which says how often it fails."""
    (tmp_path / "script.py").write_text(SCRIPTED)
    (tmp_path / "log").mkdir()
    monkeypatch.setenv("SLURM_CONF", str(slurm.config))
    monkeypatch.setenv("EVALSUITE_UNIT_COMMAND", f"{sys.executable} {tmp_path / 'script.py'}")
    units = []
    for number, times in enumerate(failures):
        name = "abcdef"[number]
        units.append(Unit(tmp_path / "r" / "fleet" / name, name, (str(tmp_path / "log"), name, times)))
    return units


def most_at_once(log: Path) -> int:
    times = [tuple(map(float, path.read_text().split())) for path in log.iterdir() if path.read_text()]
    return max(sum(began <= moment < ended for began, ended in times) for moment, _ in times)


def test_retries_stay_within_the_limit(slurm, monkeypatch, tmp_path):
    units = scripted(tmp_path, monkeypatch, slurm, "2000")
    log = tmp_path / "log"
    executor = Slurm(Placement("slurm"), tmp_path / "r", jobs=2, template=None)
    head = threading.Thread(target=Head(executor).carry_out, args=[units])
    head.start()
    # The first has failed, two others have its place and wait, and it waits to be submitted again.
    wait_for(lambda: {path.name for path in log.iterdir()} == {"a0", "b0", "c0"})
    wait_for(lambda: list((tmp_path / "r" / "fleet" / "a").glob("attempts/*/ended.json")))
    # Longer than Slurm and the head take for a retry: the latter asks every second or two.
    time.sleep(6)
    assert {path.name for path in log.iterdir()} == {"a0", "b0", "c0"}
    (tmp_path / "go").touch()
    head.join(120)
    assert {path.name for path in log.iterdir()} == {"a0", "a1", "a2", "b0", "c0", "d0"}
    assert most_at_once(log) <= 2


def test_a_cancelled_unit_is_tried_again_and_said_to_be_stopped(slurm, monkeypatch, tmp_path):
    class Said(NoProgress):
        def log(self, message: str) -> None:
            said.append(message)

    said: list[str] = []
    wait_for(lambda: not jobs_of(slurm))
    units = scripted(tmp_path, monkeypatch, slurm, "00")
    log = tmp_path / "log"
    executor = Slurm(Placement("slurm"), tmp_path / "r", jobs=2, template=None)
    head = threading.Thread(target=Head(executor, Said()).carry_out, args=[units])
    head.start()
    wait_for(lambda: {path.name for path in log.iterdir()} == {"a0", "b0"})
    [job] = jobs_of(slurm)
    slurm.run("scancel", f"{job}_0")
    wait_for(lambda: (log / "a1").exists())
    (tmp_path / "go").touch()
    head.join(120)
    assert said == [
        "again: a: it was stopped from outside: its job was cancelled, its process killed, or its node lost"
    ]
    assert all(done_of(unit) for unit in units)


def test_what_is_held_when_the_head_leaves_follows_what_runs(slurm, monkeypatch, tmp_path):
    wait_for(lambda: not jobs_of(slurm))
    units = scripted(tmp_path, monkeypatch, slurm, "000")
    executor = Slurm(Placement("slurm"), tmp_path / "r", jobs=1, template=None)
    for unit in units:
        unit.write()
        # As a study hands its stages over.
        executor.submit([unit])
    assert len(jobs_of(slurm)) == 1
    executor.close()
    assert len(jobs_of(slurm)) == 2
    (tmp_path / "go").touch()
    wait_for(lambda: not jobs_of(slurm))
    assert all(done_of(unit) for unit in units)
    assert most_at_once(tmp_path / "log") == 1
