"""Running a study with toy stages: what is redone, what fails, what depends on it, and real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from evalsuite.errors import BusyError, DataError, ServerError, UsageError
from evalsuite.fleet.children import run_child
from evalsuite.study.run import plan_only, run_study
from evalsuite.study.state import Failed, State
from tests.evalsuite.serving.test_guard import gone
from tests.evalsuite.study_toys import Toys, toy_study

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]


def run_toy(study, results, toys=None, **options):
    toys = toys or Toys()
    return run_study(study, results, adapters=toys.adapters, **options), toys


def statuses(outcome):
    return {cell.stage.name: cell.status for cell in outcome.cells}


def test_every_stage_runs_once_after_what_it_depends_on(tmp_path):
    outcome, toys = run_toy(toy_study(tmp_path), tmp_path / "results")
    assert set(statuses(outcome).values()) == {"done"}
    assert outcome.exit_code == 0
    assert len(toys.did) == len(set(toys.did)) == len(outcome.cells)
    for name, inputs in toys.inputs.items():
        assert all(toys.did.index(one) < toys.did.index(name) for one in inputs), name


def test_a_second_call_does_nothing(tmp_path):
    run_toy(toy_study(tmp_path), tmp_path / "results")
    outcome, toys = run_toy(toy_study(tmp_path), tmp_path / "results")
    assert toys.did == []
    assert set(statuses(outcome).values()) == {"kept"}


def test_all_models_are_run_in_one_call(tmp_path):
    _, toys = run_toy(toy_study(tmp_path), tmp_path / "results")
    (runs,) = [batch for batch in toys.batches if batch[0].startswith("run ")]
    assert len(runs) == 7  # T, A, and T trained on A and B at two sizes each and on their blend


@pytest.mark.parametrize(
    ("changes", "redone", "kept"),
    [
        ({"compare": {"method": "reasoned"}}, {"compare"}, {"generate", "mix", "sft", "run", "analyze"}),
        ({"sft": {"learning_rate": 1e-4}}, {"sft", "run", "compare"}, {"generate", "mix"}),
        ({"mix": {"filters": {"max_turns": 3}}}, {"mix", "sft", "run", "compare"}, {"generate"}),
        ({"generate": {"prompts": "prompts.jsonl", "limit": 4, "max_new_tokens": 9}}, {"generate"}, set()),
        ({"run": {"data": "full", "limit": 2}}, {"mix", "sft", "run"}, {"generate"}),
        ({"analyze": ["style"]}, {"tables", "paper", "report"}, {"generate", "mix", "sft", "run", "compare"}),
        (
            {"assumptions": {"answer_tokens_per_second": 1}},
            set(),
            {"generate", "mix", "sft", "run", "tables", "report"},
        ),
        ({"serve": {"in_flight": 3}}, set(), {"generate", "mix", "sft", "run", "tables", "report"}),
    ],
)
def test_a_changed_line_redoes_only_what_depends_on_it(tmp_path, changes, redone, kept):
    run_toy(toy_study(tmp_path), tmp_path / "results")
    outcome, _ = run_toy(toy_study(tmp_path, **changes), tmp_path / "results")
    by_kind: dict[str, set[str]] = {}
    for cell in outcome.cells:
        by_kind.setdefault(cell.stage.kind, set()).add(cell.status)
    assert all("done" in by_kind[kind] for kind in redone)
    assert all(by_kind[kind] == {"kept"} for kind in kept)


def test_another_recorded_answer_redoes_only_the_mixes_that_hold_it(tmp_path):
    run_toy(toy_study(tmp_path), tmp_path / "results")
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "New?"}, {"role": "assistant", "content": "Yes."}]}\n')
    outcome, _ = run_toy(toy_study(tmp_path), tmp_path / "results")
    mixes = {name: status for name, status in statuses(outcome).items() if name.startswith("mix ")}
    assert mixes == {
        "mix A-2": "kept",
        "mix A-4": "kept",
        "mix B-2": "done",
        "mix B-4": "done",
        "mix A-and-B-4": "done",
    }


def test_other_weights_under_the_same_path_are_another_model(tmp_path):
    from tests.evalsuite.tiny_checkpoint import write_checkpoint

    run_toy(toy_study(tmp_path), tmp_path / "results")
    write_checkpoint(tmp_path / "models" / "a", context=777)
    outcome, _ = run_toy(toy_study(tmp_path), tmp_path / "results")
    found = statuses(outcome)
    assert found["generate A"] == found["mix A-2"] == found["sft T-A-2"] == found["run A"] == "done"
    assert found["mix B-2"] == found["sft T-B-2"] == found["run T-B-2"] == found["run T"] == "kept"


def test_a_stage_whose_output_was_changed_is_redone(tmp_path):
    outcome, _ = run_toy(toy_study(tmp_path), tmp_path / "results")
    record = State(outcome.folder).record_of(next(c.key for c in outcome.cells if c.stage.name == "mix B-2"))
    record.outputs["file"].write_text("tampered")
    outcome, toys = run_toy(toy_study(tmp_path), tmp_path / "results")
    assert toys.did == ["mix B-2"]


@pytest.mark.parametrize(
    ("trouble", "exit_code"),
    [
        (Failed("no memory", 3), 3),
        (Failed("too few rows"), 1),
        (ServerError("vLLM ended"), 3),
        (BusyError("the quota is used up"), 75),
        (Failed("an unexpected error", 70), 70),
        (DataError("no such column"), 1),
        (RuntimeError("unforeseen"), 1),
    ],
)
def test_a_failed_cell_is_named_and_skips_only_what_depends_on_it(tmp_path, trouble, exit_code):
    toys = Toys({"sft T-B-2": trouble})
    outcome, _ = run_toy(toy_study(tmp_path), tmp_path / "results", toys)
    found = {cell.stage.name: cell for cell in outcome.cells}
    assert outcome.exit_code == exit_code
    assert found["sft T-B-2"].status == "failed"
    assert (trouble.reason if isinstance(trouble, Failed) else str(trouble)) in found["sft T-B-2"].reason
    assert found["run T-B-2"].status == "skipped"
    assert "sft T-B-2, which failed" in found["run T-B-2"].reason
    others = {name for name, cell in found.items() if cell.status != "done"}
    assert others == {"sft T-B-2", "run T-B-2"}
    assert "run T-B-2" not in toys.inputs["report toy"]

    again, toys = run_toy(toy_study(tmp_path), tmp_path / "results")
    assert again.exit_code == 0
    assert "sft T-B-2" in toys.did
    assert "run T-B-2" in toys.did
    assert "report toy" in toys.did  # it knows one model more now
    assert "sft T-B-4" not in toys.did


def test_without_its_generation_nothing_of_a_dgm_is_mixed(tmp_path):
    outcome, _ = run_toy(toy_study(tmp_path), tmp_path / "results", Toys({"generate A": Failed("broken", 3)}))
    found = statuses(outcome)
    assert {found[name] for name in ("mix A-2", "mix A-4", "mix A-and-B-4", "sft T-A-2", "run T-A-2")} == {"skipped"}
    assert found["run T-B-4"] == found["run A"] == found["compare T"] == "done"


def test_an_adapter_that_writes_nothing_has_failed(tmp_path):
    from evalsuite.study.state import Made

    study = toy_study(tmp_path)
    toys = Toys()
    liar = toys.adapters | {"generate": lambda tasks, _: {t.stage.name: Made({}, (tmp_path / "no",)) for t in tasks}}
    outcome = run_study(study, tmp_path / "results", adapters=liar)
    (cell,) = [cell for cell in outcome.cells if cell.status == "failed"]
    assert "ended without writing" in cell.reason


def test_the_plan_starts_nothing_and_agrees_with_the_run(tmp_path):
    study = toy_study(tmp_path)
    before = plan_only(study, tmp_path / "results")
    assert set(statuses(before).values()) == {"to do"}
    assert not (tmp_path / "results").exists()
    outcome, _ = run_toy(study, tmp_path / "results")
    assert [cell.key for cell in before.cells] == [cell.key for cell in outcome.cells]
    after = plan_only(study, tmp_path / "results")
    assert set(statuses(after).values()) == {"kept"}


def test_only_takes_kinds_and_single_stages(tmp_path):
    study = toy_study(tmp_path)
    outcome, toys = run_toy(study, tmp_path / "results", only=["generate", "mix B-2"])
    assert toys.did == ["generate A", "mix B-2"]
    assert outcome.exit_code == 0
    outcome, toys = run_toy(study, tmp_path / "results", only=["sft T-A-2"])
    assert toys.did == []
    assert outcome.exit_code == 1  # what it depends on is missing
    with pytest.raises(UsageError, match="did you mean 'generate'"):
        run_toy(study, tmp_path / "results", only=["generat"])


def test_a_study_that_is_running_is_not_started_twice(tmp_path):
    study = toy_study(tmp_path)
    with (
        State(tmp_path / "results" / "studies" / "toy").locked(),
        pytest.raises(BusyError, match="another process runs the study"),
    ):
        run_toy(study, tmp_path / "results")


def test_a_stage_with_a_broken_record_runs_again(tmp_path):
    outcome, _ = run_toy(toy_study(tmp_path), tmp_path / "results")
    key = next(cell.key for cell in outcome.cells if cell.stage.name == "mix B-2")
    (outcome.folder / "done" / f"{key}.json").write_text('{"schema": 1, "key"')
    _, toys = run_toy(toy_study(tmp_path), tmp_path / "results")
    assert toys.did == ["mix B-2"]


def test_a_child_tells_its_reason_its_code_and_what_it_printed(tmp_path):
    script = "import sys; print('{}'); print('evalsuite: no such model', file=sys.stderr); sys.exit(2)"
    ended = run_child([sys.executable, "-c", script], tmp_path / "logs" / "x.log")
    assert (ended.exit_code, ended.reason, ended.stdout.strip()) == (2, "no such model", "{}")
    assert not ended.is_servers_fault
    killed = run_child([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path / "x.log")
    assert killed.is_servers_fault
    assert "signal 9" in killed.reason


# A stage whose "slow" file is there is a real process that does not end by itself; it takes the file away.
KILLED = """
import sys
from pathlib import Path
from evalsuite.fleet.children import run_child
from evalsuite.study.graph import KINDS
from evalsuite.study.run import run_study
from evalsuite.study.state import Made
from tests.evalsuite.study_toys import toy_study

folder = Path(sys.argv[1])
CHILD = (
    "import os, sys, time; from pathlib import Path; slow = Path(sys.argv[2]);"
    "print('working', file=sys.stderr, flush=True);"
    "slow.unlink(); Path(sys.argv[1] + '.pid').write_text(str(os.getpid()) + '.'); time.sleep(600)"
)

def adapter(tasks, workspace):
    made = {}
    for task in tasks:
        out = workspace.state.folder / f"{task.stage.kind}-{task.key[:12]}"
        slow = folder / f"slow-{task.stage.kind}"
        out.parent.mkdir(parents=True, exist_ok=True)
        if slow.exists():
            ended = run_child([sys.executable, "-c", CHILD, str(out), str(slow)], workspace.state.log_of(task.stage))
            assert ended.exit_code == 0, ended
        out.write_text("x")
        with (folder / "did.txt").open("a") as did:
            did.write(task.stage.name + "\\n")
        made[task.stage.name] = Made({}, (out,))
    return made

study = toy_study(folder, sizes=[2], blends=[], analyze=[], paper=False)
outcome = run_study(study, folder / "results", adapters=dict.fromkeys(KINDS, adapter))
sys.exit(outcome.exit_code)
"""


def pid_of_child(folder: Path, study: subprocess.Popen, timeout_s: float = 240) -> int:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        assert study.poll() is None, f"the study ended with code {study.returncode} before its slow stage began"
        for file in folder.rglob("*.pid"):
            if (words := file.read_text()).endswith("."):
                file.unlink()
                return int(words.rstrip("."))
        time.sleep(0.05)
    raise AssertionError("the slow stage never began")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_during_a_stage_it_resumes_there_and_leaves_no_process(tmp_path, number):
    toy_study(tmp_path)
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    options = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    for kind in ("mix", "sft"):
        (tmp_path / f"slow-{kind}").touch()
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, **options) as study:
            try:
                child = psutil.Process(pid_of_child(tmp_path, study))
                study.send_signal(number)
                study.wait(timeout=60)
            finally:
                study.kill()
        assert gone([child])
    finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, **options)
    assert finished.returncode == 0, finished.stderr
    did = (tmp_path / "did.txt").read_text().splitlines()
    assert len(did) == len(set(did))  # what had finished before a kill was not done again
    assert {name.split()[0] for name in did} == {"generate", "mix", "sft", "run", "compare", "tables", "report"}
