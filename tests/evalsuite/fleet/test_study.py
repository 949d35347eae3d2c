"""Studies on executors: every stage as soon as what it takes is there; what fails stops only what rests on it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from evalsuite.generation.manifest import read_manifest
from evalsuite.study.graph import KINDS
from evalsuite.study.run import run_study
from evalsuite.study.state import Failed
from tests.evalsuite.fleet.clusters import slurm_cluster
from tests.evalsuite.fleet.test_fleet import figures, long, started, wait_for, workers
from tests.evalsuite.runs.test_runner import obliging
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply
from tests.evalsuite.study_toys import Toys, toy_study, write_models, write_study

pytestmark = pytest.mark.slow

DEMO = Path(__file__).resolve().parents[3] / "recipes" / "demo-study.yaml"


class Meeting(Toys):
    """Stages of which some wait for others, which must so be under way at the same time."""

    def __init__(self, waits: dict[str, str], failing: dict[str, Failed | Exception]) -> None:
        super().__init__(failing)
        self.waits = waits
        self.begun = {name: threading.Event() for name in waits.values()}
        self.met: dict[str, bool] = {}

    def __call__(self, tasks, workspace):
        for task in tasks:
            if (event := self.begun.get(task.stage.name)) is not None:
                event.set()
            if (other := self.waits.get(task.stage.name)) is not None:
                self.met[task.stage.name] = self.begun[other].wait(60)
        return super().__call__(tasks, workspace)


def test_stages_run_at_once_and_a_failing_one_stops_only_what_rests_on_it(tmp_path):
    # Two trainings at once; a model is evaluated while another one trains; the last needs a mix that failed.
    waits = {"sft T-A-2": "sft T-B-4", "sft T-A-4": "run T-B-4"}
    toys = Meeting(waits, {"mix B-2": Failed("no such mix")})
    study = toy_study(tmp_path)
    outcome = run_study(study, tmp_path / "results", adapters=dict.fromkeys(KINDS, toys), placed={"on": "local"})
    assert toys.met == {"sft T-A-2": True, "sft T-A-4": True}
    cells = {cell.stage.name: cell for cell in outcome.cells}
    not_done = {name: cell.status for name, cell in cells.items() if cell.status != "done"}
    assert not_done == {"mix B-2": "failed", "sft T-B-2": "skipped", "run T-B-2": "skipped"}
    assert "depends on mix B-2" in cells["sft T-B-2"].reason
    again = run_study(study, tmp_path / "results", adapters=dict.fromkeys(KINDS, Toys()), placed={"on": "local"})
    assert [cell.stage.name for cell in again.cells if cell.status == "done"][:3] == list(not_done)


@pytest.fixture
def served(tmp_path):
    """A study of two models behind URLs: its file, the servers, and an event without which they do not answer."""
    go = threading.Event()
    go.set()

    def answering(name):
        def answer(path, body):
            go.wait(120)
            # Alike answers would be one question to the judge on one machine, and two in units.
            return obliging(path, body) if name == "judge" else (200, text_reply(f"I am {name}."))

        return answer

    with ExitStack() as stack:
        urls = {name: stack.enter_context(StubEndpoint(answering(name), model=name)) for name in ("a", "b", "judge")}
        stack.callback(go.set)
        write_models(tmp_path)
        specs = {name: f"{name}@{stub.url}" for name, stub in urls.items()}
        dgms = {"A": {"model": specs["a"]}, "B": {"model": specs["b"]}}
        changes = {"dgms": dgms, "judge": specs["judge"], "blends": [], "sizes": [2]}
        run = {"suites": ["mt_bench"], "data": "mini", "limit": 2, "bases": False}
        yield write_study(tmp_path, **changes, run=run, compare={"prompts": "mt_bench"}, analyze=[]), urls, go


def study_command(file: Path, results: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "evalsuite", "study", str(file), "--results", str(results), "--json"]
    for only in ("generate", "run A", "run B", "compare"):
        words += ["--only", only]
    return [*words, *more]


def test_its_commands_run_in_units_and_give_the_figures_of_one_machine(served, tmp_path):
    file, urls, _ = served
    plain = subprocess.run(study_command(file, tmp_path / "plain"), capture_output=True, text=True)
    placed = subprocess.run(
        study_command(file, tmp_path / "placed", "--on", "local", "--jobs", "3"), capture_output=True, text=True
    )
    for ended in (plain, placed):
        cells = {cell["stage"]: cell["status"] for cell in json.loads(ended.stdout)["stages"]}
        done = {name for name, status in cells.items() if status == "done"}
        assert done == {"generate A", "generate B", "run A", "run B", "compare T"}, ended.stderr
    assert figures(tmp_path / "placed") == figures(tmp_path / "plain") != {}
    assert preferences(tmp_path / "placed") == preferences(tmp_path / "plain")
    manifests = [
        {
            path.parent.name: read_manifest(path)
            for path in (tmp_path / name).glob("studies/toy/generate/*/_manifest.json")
        }
        for name in ("plain", "placed")
    ]
    assert manifests[0].keys() == manifests[1].keys() != set()
    for name, manifest in manifests[0].items():
        assert all(manifests[1][name][key] == manifest[key] for key in ("shards", "counts", "tokens", "settings"))
    assert not list(tmp_path.glob("placed/**/unit.json"))
    before = sum(len(stub.requests) for stub in urls.values())
    again = subprocess.run(study_command(file, tmp_path / "placed", "--on", "local"), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert sum(len(stub.requests) for stub in urls.values()) == before


def preferences(results: Path) -> list[dict[str, object]]:
    """Return what the comparisons of a study found, without times and paths."""
    found = []
    for path in sorted(results.glob("comparisons/*/preferences.json")):
        document = json.loads(path.read_text())
        found.append({key: document[key] for key in ("pairs", "ranking", "models") if key in document})
    assert found
    return found


def test_an_interrupt_ends_the_units_and_a_second_call_resumes(served, tmp_path):
    file, urls, go = served
    go.clear()
    words = study_command(file, tmp_path / "r", "--on", "local", "--jobs", "2")
    with started(words, tmp_path / "log") as head:
        wait_for(lambda: any(stub.requests for stub in urls.values()))
        assert len(workers(tmp_path / "r")) == 2
        head.send_signal(signal.SIGTERM)
        assert head.wait(60) == 130
    wait_for(lambda: not workers(tmp_path / "r"))
    go.set()
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@long
def test_on_slurm_a_killed_head_attaches_to_the_jobs_of_all_stages(served, tmp_path):
    file, urls, go = served
    plain = subprocess.run(study_command(file, tmp_path / "plain"), capture_output=True, text=True)
    assert plain.returncode == 0, plain.stderr
    before = sum(len(stub.requests) for stub in urls.values())
    words = study_command(file, tmp_path / "r", "--on", "slurm:gpus=0")
    (tmp_path / "slurm").mkdir()
    with slurm_cluster(tmp_path / "slurm") as slurm:
        go.clear()
        with started(words, tmp_path / "log", SLURM_CONF=str(slurm.config)) as head:
            wait_for(lambda: len(workers(tmp_path / "r")) == 4)
            head.kill()
        go.set()
        environment = {**os.environ, "SLURM_CONF": str(slurm.config)}
        ended = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert figures(tmp_path / "r") == figures(tmp_path / "plain")
    assert preferences(tmp_path / "r") == preferences(tmp_path / "plain")
    assert sum(len(stub.requests) for stub in urls.values()) == 2 * before, "every question was asked once"


def figures_anywhere(results: Path) -> dict[str, object]:
    """Return the figures without what depends on the folder: a trained checkpoint's path, and its run's random id."""
    found = figures(results)
    for scores in (each for each in found.values() if isinstance(each, dict)):
        del scores["model"]["path"]
        if "training_step" in scores:
            del scores["training_step"]["run_id"]
    return found


@long
@pytest.mark.timeout(5400)
def test_a_whole_study_on_slurm_is_that_of_one_machine(tmp_path):
    """Real models and trainings: answer, mix, train, evaluate, compare, analyze and show, in float32."""
    document = yaml.safe_load(DEMO.read_text("utf-8"))
    document |= {
        "sizes": [8],
        "serve": {"dtype": "float32", "max_model_len": 2048},
        "run": {**document["run"], "limit": 1},
    }
    document["sft"] |= {"epochs": 1}
    file = tmp_path / "study.yaml"
    document["dgms"]["by_hand"]["answers"] = document["generate"]["prompts"] = str(DEMO.with_name("mini_chats.jsonl"))
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    words = [sys.executable, "-m", "evalsuite", "study", str(file), "--json"]
    ended = subprocess.run([*words, "--results", str(tmp_path / "plain")], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    (tmp_path / "slurm").mkdir()
    with slurm_cluster(tmp_path / "slurm") as slurm:
        place = ["--results", str(tmp_path / "placed"), "--on", "slurm:gpus=0", "--jobs", "2"]
        environment = {**os.environ, "SLURM_CONF": str(slurm.config)}
        ended = subprocess.run([*words, *place], capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert {cell["status"] for cell in json.loads(ended.stdout)["stages"]} == {"done"}
    assert figures_anywhere(tmp_path / "placed") == figures_anywhere(tmp_path / "plain") != {}
    assert preferences(tmp_path / "placed") == preferences(tmp_path / "plain")
