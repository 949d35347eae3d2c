"""Multi-process training: accelerate's launcher on GPUs, torch's on a CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from evalsuite.errors import TrainingError
from evalsuite.files import read_json, write_text
from evalsuite.serving.guarded import Guarded
from evalsuite.training.plan import Plan

_KILLED = 128 + 9


def accelerate_config(plan: Plan) -> dict[str, Any]:
    """Return accelerate's config for several GPUs: FSDP 2, each layer's weights sharded."""
    return {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "FSDP",
        "num_machines": 1,
        "num_processes": plan.devices.n,
        "machine_rank": 0,
        "main_process_port": 0,
        "mixed_precision": "bf16" if plan.devices.bfloat16 else "no",
        "fsdp_config": {
            "fsdp_version": 2,
            "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "fsdp_reshard_after_forward": True,
            "fsdp_cpu_ram_efficient_loading": True,
            "fsdp_state_dict_type": "SHARDED_STATE_DICT",
            # FSDP's own activation checkpointing; the trainer's would gather weights twice.
            "fsdp_activation_checkpointing": plan.config.gradient_checkpointing,
        },
    }


def launch_command(plan: Plan, plan_file: Path, config_file: Path) -> list[str]:
    """Return the command: accelerate's launcher on GPUs, torch's on a CPU, where accelerate starts one process."""
    worker = ["--module", "evalsuite.training.worker", str(plan_file)]
    if plan.devices.kind == "cpu":
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(plan.devices.n)]
    else:
        launcher = ["accelerate.commands.launch", "--config_file", str(config_file)]
    return [sys.executable, "-m", *launcher, *worker]


def launch(plan: Plan) -> None:
    """Run the plan in ``plan.devices.n`` processes; raises TrainingError with the message of the failed process."""
    plan_file, config_file = plan.write(), plan.folder / "accelerate.yaml"
    write_text(config_file, yaml.safe_dump(accelerate_config(plan), sort_keys=True))
    failure = plan.folder / "failure.json"
    failure.unlink(missing_ok=True)
    # Each worker has its own process group: without the guard a killed training would leave workers on the devices.
    with Guarded(launch_command(plan, plan_file, config_file)) as guarded:
        code = guarded.process.wait()
    if failure.is_file():
        raise TrainingError(str(read_json(failure)["message"]))
    if code == _KILLED:
        raise TrainingError(
            "a training process was killed, most likely out of memory; lower micro_batch_size or max_length, "
            "then run the same command again to resume from the last checkpoint"
        )
    if code:
        raise TrainingError(
            f"the training processes exited with code {code}, see their output above; "
            "run the same command again to resume from the last checkpoint"
        )
