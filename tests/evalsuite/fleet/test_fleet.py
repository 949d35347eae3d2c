"""``--on``: the figures of units, wherever they run and whatever is killed, are those of one machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

import psutil
import pytest

from evalsuite.config import read_config
from evalsuite.errors import UsageError
from evalsuite.fleet.on_ray import OnRay
from evalsuite.fleet.units import Unit, commit, done_of
from evalsuite.placement import Placement, read_placement
from evalsuite.runs.runner import run
from tests.evalsuite.fleet.clusters import SlurmCluster, ray_cluster, slurm_cluster
from tests.evalsuite.runs.test_runner import obliging, without_times
from tests.evalsuite.stub_endpoint import StubEndpoint

pytestmark = pytest.mark.slow
long = pytest.mark.skipif(not os.environ.get("EVALSUITE_TEST_CLUSTER"), reason="long; make test-cluster runs it")


FAILING = """
import runpy, sys
if "/b-" in sys.argv[2]:
    print("evalsuite: it is broken", file=sys.stderr)
    sys.exit(2)
runpy.run_module("evalsuite", run_name="__main__")
"""


class Held:
    """Endpoints of three models and a judge; ``hold`` keeps answers back after so many until ``go``."""

    def __init__(self, stack: ExitStack) -> None:
        self.go = threading.Event()
        self.go.set()
        self.left = 0
        self.servers = {
            name: stack.enter_context(StubEndpoint(self._answer, model=name)) for name in ("a", "b", "c", "judge")
        }
        stack.callback(self.go.set)

    def hold(self, after: int) -> None:
        self.left = after
        self.go.clear()

    @property
    def is_holding(self) -> bool:
        return self.left < 0

    def _answer(self, path, body):
        if not self.go.is_set():
            self.left -= 1
            if self.left < 0:
                self.go.wait(120)
        return obliging(path, body)

    def spec(self, name: str) -> str:
        return f"{name}@{self.servers[name].url}"

    @property
    def asked(self) -> int:
        return sum(len(server.requests) for server in self.servers.values())


@pytest.fixture
def models() -> Iterator[Held]:
    with ExitStack() as stack:
        yield Held(stack)


def expected(models: Held, results: Path, names: str = "ab") -> dict[str, object]:
    values = {"models": [models.spec(name) for name in names], "judge": models.spec("judge")}
    run(read_config({**values, "suites": ["mt_bench"], "data": "mini", "results": results}))
    return figures(results)


def figures(results: Path) -> dict[str, object]:
    """Return what must be equal of each model: scores without times, and the records byte by byte.

    Except the document of lm-eval's in the head of its records, which has times and addresses of functions.
    """
    found: dict[str, object] = {}
    for folder in sorted(path.parent for path in results.glob("*/scores.json")):
        found[folder.name] = without_times(json.loads((folder / "scores.json").read_text()))
        for path in folder.glob("records/*"):
            head, rows = path.read_bytes().split(b"\n", 1)
            found[str(path.relative_to(results))] = ({**json.loads(head), "document": None}, rows)
    return found


def command(models: Held, results: Path, *more: str, names: str = "ab") -> list[str]:
    words = [sys.executable, "-m", "evalsuite", "run", *(models.spec(name) for name in names)]
    words += ["--judge", models.spec("judge"), "--suite", "mt_bench", "--data", "mini", "--results", str(results)]
    return [*words, *more]


def wait_for(condition: Callable[[], object], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def workers(results: Path) -> list[psutil.Process]:
    """Return the processes that run units of a results folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "evalsuite.fleet.worker" in line and any(str(results) in word for word in line) and "-I" not in line:
            found.append(process)
    return found


def assert_equal_and_clean(results: Path, wanted: dict[str, object]) -> None:
    assert figures(results) == wanted
    assert not list((results / "fleet").rglob("unit.json"))
    wait_for(lambda: not workers(results))


@contextmanager
def started(words: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(words, stdout=out, stderr=out, env={**os.environ, **environment})
        try:
            yield process
        finally:
            process.kill()
            process.wait()


# Without a cluster ------------------------------------------------------------------------------------


def test_places_are_read_and_faults_named():
    assert read_placement("ray:10.0.0.1:6379") == Placement("ray", "10.0.0.1:6379")
    assert read_placement("ray:10.0.0.1:6379,gpus=0") == Placement("ray", "10.0.0.1:6379", gpus=0)
    assert read_placement("ray:gpus=2") == Placement("ray", gpus=2)
    assert read_placement("slurm:partition=gpu,gpus=2,time=4:00:00").gpus == 2
    for text, fault in (
        ("mars", "not a place to run"),
        ("slurm:partion=x", "'partition'"),
        ("slurm:gpus=x", "not a number"),
        ("ray:auto,partition=x", "partition"),
    ):
        with pytest.raises(UsageError, match=fault):
            read_placement(text)


def test_the_first_of_two_workers_that_ends_is_the_result(tmp_path):
    unit = Unit(tmp_path / "u", "u", ("-c",))
    unit.write()
    script = "import time, sys; time.sleep(0.5); print(sys.argv)"
    environment = {**os.environ, "EVALSUITE_UNIT_COMMAND": f"{sys.executable} {tmp_path / 'script.py'}"}
    (tmp_path / "script.py").write_text(script)
    words = [sys.executable, "-m", "evalsuite.fleet.worker", str(unit.folder)]
    both = [subprocess.Popen(words, env=environment) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    done = done_of(unit)
    assert done is not None
    assert "--json" in done.stdout
    assert len(list((unit.folder / "attempts").iterdir())) == 2
    assert not commit(unit.folder / "done.json", {"exit_code": 9})
    assert done_of(unit) == done


def test_a_folder_that_a_node_does_not_see_is_named_with_the_node(tmp_path):
    unit = Unit(tmp_path / "u", "u", ("run",), reads=(tmp_path / "shared", tmp_path / "ckpt"))
    (tmp_path / "shared").mkdir()
    unit.write()
    assert subprocess.run([sys.executable, "-m", "evalsuite.fleet.worker", str(unit.folder)]).returncode == 2
    done = done_of(unit)
    assert done is not None
    host = socket.gethostname()
    remedy = "put it in a folder that all nodes see under the same path"
    assert done.reason == f"{tmp_path / 'ckpt'} does not exist on {host}; {remedy}"


def test_on_this_machine_the_figures_are_equal_and_nothing_is_left_behind(models, tmp_path):
    wanted = expected(models, tmp_path / "plain")
    ended = subprocess.run(
        command(models, tmp_path / "r", "--on", "local", "--jobs", "2", "--json"), capture_output=True
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert [one["model"]["name"] for one in json.loads(ended.stdout)["models"]] == ["a", "b"]
    assert_equal_and_clean(tmp_path / "r", wanted)
    assert not (tmp_path / "r" / "fleet").exists()
    config = (next((tmp_path / "r").glob("a-*")) / "config.yaml").read_text()
    assert f"results: {tmp_path / 'r'}\n" in config
    asked = models.asked
    assert subprocess.run(command(models, tmp_path / "r", "--on", "local"), capture_output=True).returncode == 0
    assert models.asked == asked, "a second time nothing is asked"


@long
def test_a_killed_head_resumes_and_a_second_one_is_refused(models, tmp_path):
    wanted = expected(models, tmp_path / "plain")
    words = command(models, tmp_path / "r", "--on", "local", "--jobs", "2")
    models.hold(6)
    with started(words, tmp_path / "log") as head:
        wait_for(lambda: models.is_holding)
        second = subprocess.run(words, capture_output=True, text=True)
        assert second.returncode == 75
        assert f"process {head.pid} on" in second.stderr
        head.kill()
    wait_for(lambda: not workers(tmp_path / "r"))
    models.go.set()
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert_equal_and_clean(tmp_path / "r", wanted)


def test_a_signal_keeps_what_was_answered(models, tmp_path):
    wanted = expected(models, tmp_path / "plain", "a")
    words = command(models, tmp_path / "r", "--on", "local", names="a")
    models.hold(7)
    before = models.asked
    with started(words, tmp_path / "log"):
        wait_for(lambda: models.is_holding)
        # Whatever is asked at once has been asked, and the seven answers that were given have reached the store.
        time.sleep(2)
        held = models.asked - before
        (worker,) = workers(tmp_path / "r")
        worker.send_signal(signal.SIGTERM)
        wait_for(lambda: "again: " in (tmp_path / "log").read_text())
        stores = list((tmp_path / "r" / "fleet").glob("*/attempts/*/results/store.sqlite"))
        assert stores, "the store's copy is in the unit's folder"
        models.go.set()
        wait_for(lambda: list((tmp_path / "r").glob("a-*/manifest.json")))
        wait_for(lambda: not (tmp_path / "r" / "fleet").exists())
    assert figures(tmp_path / "r") == wanted
    n = len({json.dumps(body, sort_keys=True) for server in models.servers.values() for _, body in server.requests})
    # What was in flight at the signal is asked again, what was answered is not.
    assert models.asked - before <= n + held - 7


@long
def test_a_failing_model_is_named_and_the_others_have_their_figures(models, tmp_path):
    wanted = expected(models, tmp_path / "plain", "a")
    words = command(models, tmp_path / "r", "--on", "local", "--jobs", "2", names="a")
    words.insert(words.index("--judge"), str(tmp_path / "plain"))
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 2, "a folder that is not a checkpoint is refused before anything is started"
    (tmp_path / "failing.py").write_text(FAILING)
    words = command(models, tmp_path / "r", "--on", "local", "--jobs", "2")
    environment = {**os.environ, "EVALSUITE_UNIT_COMMAND": f"{sys.executable} {tmp_path / 'failing.py'}"}
    ended = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert ended.returncode == 2, ended.stderr
    assert "failed: it is broken" in ended.stderr
    assert {key: value for key, value in figures(tmp_path / "r").items() if key in wanted} == wanted


# Slurm ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def on_slurm(slurm: SlurmCluster, words: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SLURM_CONF": str(slurm.config)}
    return subprocess.run(words, capture_output=True, text=True, env=environment)


def jobs_of(slurm: SlurmCluster) -> set[str]:
    return set(slurm.run("squeue", "-h", "-r", "-o", "%F").split())


def test_slurm_gives_the_figures_of_one_machine_through_kills_and_attaching(slurm, models, tmp_path):
    """In one pass, as each start of evalsuite costs seconds: an undisturbed model, a killed worker, a killed head."""
    wanted = expected(models, tmp_path / "plain", "abc")
    words = command(models, tmp_path / "r", "--on", "slurm:gpus=0", "--jobs", "3", names="abc")
    models.hold(6)
    with started(words, tmp_path / "log", SLURM_CONF=str(slurm.config)) as head:
        wait_for(lambda: models.is_holding)
        wait_for(lambda: len(workers(tmp_path / "r")) == 3)
        jobs = jobs_of(slurm)
        assert len(jobs) == 1, "one array"
        head.kill()
    workers(tmp_path / "r")[0].kill()
    with started(words, tmp_path / "log", SLURM_CONF=str(slurm.config)) as head:
        attempts = lambda: len(list((tmp_path / "r" / "fleet").glob("*/attempts/*")))  # noqa: E731
        wait_for(lambda: attempts() == 4)
        models.go.set()
        assert head.wait(240) == 0, (tmp_path / "log").read_text()
    assert_equal_and_clean(tmp_path / "r", wanted)


@long
def test_detached_jobs_go_on_and_are_attached_to(slurm, models, tmp_path):
    wanted = expected(models, tmp_path / "plain", "a")
    words = command(models, tmp_path / "r", "--on", "slurm:gpus=0", names="a")
    ended = on_slurm(slurm, [*words, "--detach"])
    assert ended.returncode == 75
    assert "left running" in ended.stderr
    wait_for(lambda: list((tmp_path / "r" / "fleet").glob("*/done.json")))
    asked = models.asked
    ended = on_slurm(slurm, words)
    assert ended.returncode == 0, ended.stderr
    assert models.asked == asked
    assert_equal_and_clean(tmp_path / "r", wanted)


@long
def test_an_interrupt_without_a_terminal_ends_the_jobs(slurm, models, tmp_path):
    models.hold(2)
    words = command(models, tmp_path / "r", "--on", "slurm:gpus=0", names="a")
    with started(words, tmp_path / "log", SLURM_CONF=str(slurm.config)) as head:
        wait_for(lambda: models.is_holding)
        head.terminate()
        assert head.wait(60) == 130
    assert not jobs_of(slurm)
    wait_for(lambda: not workers(tmp_path / "r"))


@long
def test_what_slurm_cannot_run_is_said_with_what_is_there(slurm, models, tmp_path):
    faults = (("slurm:partition=nope", "Invalid partition"), ("slurm:gpus=2", "generic resource"))
    for (place, fault), more in product(faults, ([], ["--dry-run"])):
        ended = on_slurm(slurm, command(models, tmp_path / "r", "--on", place, *more, names="a"))
        assert ended.returncode == 2
        assert fault in ended.stderr
        assert "partitions: all (3 nodes, no GPUs)" in ended.stderr
        assert not list((tmp_path / "r").rglob("*.yaml"))


@long
def test_a_node_that_dies_and_a_job_past_its_time_limit(slurm, models, tmp_path):
    wanted = expected(models, tmp_path / "plain", "ab")
    words = command(models, tmp_path / "r", "--on", "slurm:gpus=0,time=1", "--jobs", "2")
    models.hold(5)
    with started(words, tmp_path / "log", SLURM_CONF=str(slurm.config)) as head:
        wait_for(lambda: models.is_holding)
        # Both units are told to end at three quarters of a minute, keep their answers, and are queued again.
        wait_for(lambda: not workers(tmp_path / "r"), 120)
        wait_for(lambda: len(workers(tmp_path / "r")) == 2, 180)
        node = slurm.run("squeue", "-h", "-t", "R", "-o", "%N").split()[0]
        pid = int((slurm.folder / f"slurmd-{node}.pid").read_text())
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            process.kill()
        models.go.set()
        slurm.start_node(int(node[1:]))
        assert head.wait(300) == 0, (tmp_path / "log").read_text()
    assert_equal_and_clean(tmp_path / "r", wanted)


# Ray --------------------------------------------------------------------------------------------------


def test_ray_gives_the_figures_of_one_machine_through_kills(models, tmp_path):
    wanted = expected(models, tmp_path / "plain", "abc")
    with ray_cluster() as cluster:
        words = command(models, tmp_path / "r", "--on", f"ray:{cluster.address}", "--jobs", "3", names="abc")
        models.hold(6)
        with started(words, tmp_path / "log") as head:
            wait_for(lambda: models.is_holding)
            wait_for(lambda: len(workers(tmp_path / "r")) == 3)
            workers(tmp_path / "r")[0].kill()
            # The Ray worker that runs another unit, and with it the guard of that unit.
            unit = workers(tmp_path / "r")[-1]
            task = next(
                one
                for one in unit.parents()
                if "ray::" in " ".join(one.cmdline()) or "default_worker" in " ".join(one.cmdline())
            )
            task.kill()
            wait_for(lambda: not unit.is_running() or unit.status() == psutil.STATUS_ZOMBIE)
            models.go.set()
            assert head.wait(240) == 0, (tmp_path / "log").read_text()
        assert_equal_and_clean(tmp_path / "r", wanted)


def test_a_ray_address_that_does_not_answer_is_refused_at_once():
    pytest.importorskip("ray")
    with pytest.raises(UsageError, match="no Ray cluster answers at"):
        OnRay("127.0.0.1:9", None)


@long
def test_more_gpus_than_a_ray_node_has_are_refused():
    with ray_cluster(nodes=1) as cluster:
        executor = OnRay(cluster.address, None)
        try:
            with pytest.raises(UsageError, match="needs 2 GPUs on one node, and the largest of this cluster has 0"):
                executor.check(2)
        finally:
            executor.close()
