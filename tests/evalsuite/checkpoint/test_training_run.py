"""The checkpoints of a training: their order, whether they are complete, and what the trainer says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalsuite.checkpoint import resolve
from evalsuite.checkpoint.training_run import (
    checkpoints_in,
    in_training_order,
    is_over,
    matching_folders,
    training_step,
    what_is_missing,
)
from evalsuite.config import read_config
from evalsuite.errors import UsageError
from tests.evalsuite.tiny_checkpoint import write_checkpoint


def write_step(run: Path, step: int, *, max_steps: int = 50, state: bool = True) -> Path:
    """Write a checkpoint as transformers' trainer does: its state last."""
    folder = write_checkpoint(run / f"checkpoint-{step}")
    logs = [
        {"step": one, "loss": 5.0 / one, "learning_rate": 1e-4 / one, "num_tokens": 100.0 * one} for one in (1, step)
    ]
    if state:
        document = {"global_step": step, "max_steps": max_steps, "epoch": step / 10, "log_history": logs}
        (folder / "trainer_state.json").write_text(json.dumps({**document, "num_input_tokens_seen": 0}))
    return folder


def test_step_tokens_and_learning_rate_are_read_and_runs_of_one_name_are_told_apart(tmp_path):
    at = training_step(write_step(tmp_path / "out", 20))
    other = training_step(write_step(tmp_path / "elsewhere" / "out", 20))
    assert at == {
        "run": "out",
        "run_id": at["run_id"],
        "step": 20,
        "max_steps": 50,
        "epoch": 2.0,
        "tokens": 2000,
        "learning_rate": 5e-6,
        "loss": 0.25,
    }
    assert at["run_id"] == training_step(write_step(tmp_path / "out", 30))["run_id"] != other["run_id"]
    assert resolve(str(tmp_path / "out" / "checkpoint-20")).training_step == at


@pytest.mark.parametrize("text", ["{", "[]", '{"global_step": "5"}', "null"])
def test_a_state_that_cannot_be_read_is_not_a_step(tmp_path, text):
    folder = write_step(tmp_path, 5)
    (folder / "trainer_state.json").write_text(text)
    assert training_step(folder) is None
    assert what_is_missing(folder) == "trainer_state.json is not written yet"


def test_a_checkpoint_is_complete_when_its_weights_and_then_its_state_are(tmp_path):
    folder = write_step(tmp_path, 5, state=False)
    assert "trainer_state.json" in what_is_missing(folder)
    write_step(tmp_path, 5)
    assert what_is_missing(folder) == ""
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    assert "truncated" in what_is_missing(folder)
    weights.unlink()
    assert "no weights" in what_is_missing(folder)


def test_checkpoints_are_in_the_order_of_steps_wherever_sft_keeps_them(tmp_path):
    for step in (1000, 200, 30):
        write_step(tmp_path, step)
    (tmp_path / "checkpoint-best").mkdir()
    write_step(tmp_path / ".training" / "checkpoints", 40)
    assert [path.name for path in checkpoints_in(tmp_path)] == [f"checkpoint-{step}" for step in (30, 40, 200, 1000)]
    work = tmp_path / ".training" / "checkpoints" / "checkpoint-40"
    assert training_step(work)["run_id"] == training_step(tmp_path / "checkpoint-30")["run_id"]
    given = [f"out/checkpoint-{step}" for step in (1000, 200)]
    assert in_training_order([given[0], "demo", given[1]]) == (given[1], "demo", given[0])


def test_a_training_is_over_at_its_last_step_or_with_a_finished_model(tmp_path):
    write_step(tmp_path, 40)
    assert not is_over(tmp_path)
    write_step(tmp_path, 50)
    assert is_over(tmp_path)
    stopped = tmp_path / "stopped-early"
    write_step(stopped, 40)
    write_checkpoint(stopped)
    assert is_over(stopped)
    (stopped / "model.safetensors").unlink()
    assert not is_over(stopped), "config and tokenizer may be there from the start"


def test_run_takes_a_folder_of_checkpoints_or_a_pattern(tmp_path):
    for step in (100, 20):
        write_step(tmp_path, step)
    write_step(tmp_path, 130, state=False)
    complete = tuple(str(tmp_path / f"checkpoint-{step}") for step in (20, 100))
    assert read_config({"checkpoints": tmp_path}).models == complete
    assert read_config({"checkpoints": str(tmp_path), "models": ["demo"]}).models == ("demo", *complete)
    assert read_config({"models": [str(tmp_path / "checkpoint-1*")]}).models == tuple(
        str(tmp_path / f"checkpoint-{step}") for step in (100, 130)
    )
    assert matching_folders("name@http://host/v1?a=1") == ["name@http://host/v1?a=1"]
    with pytest.raises(UsageError, match="no folder matches"):
        read_config({"models": [str(tmp_path / "step-*")]})
    with pytest.raises(UsageError, match="has no complete checkpoint-N"):
        read_config({"checkpoints": tmp_path / "empty"})
