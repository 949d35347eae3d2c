"""The checkpoints that a training run saves along the way: which are complete, and what the trainer recorded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any

from evalsuite.checkpoint.adapters import SETTINGS, adapter_weights
from evalsuite.checkpoint.json_files import MAX_TEXT_BYTES, read_config
from evalsuite.checkpoint.shards import weight_files
from evalsuite.checkpoint.tensors import check_tensors, read_tensors
from evalsuite.errors import CheckpointError, DataError
from evalsuite.files import exists, read_json
from evalsuite.fingerprint import text_sha256
from evalsuite.text import well_formed

STATE = "trainer_state.json"
"""What transformers' trainer writes last into a checkpoint (transformers 5.19: Trainer._save_checkpoint)."""
_CHECKPOINT = re.compile(r"checkpoint-(\d+)")
_SFT_WORK = Path(".training") / "checkpoints"
"""Where ``evalsuite sft`` keeps the checkpoints that it resumes from, inside its --out."""


def step_of(folder: Path) -> int | None:
    """Return the step in the name of a training checkpoint's folder, ``checkpoint-500``; None for another name."""
    match = _CHECKPOINT.fullmatch(folder.name)
    return int(match[1]) if match else None


def checkpoints_in(folder: Path) -> list[Path]:
    """Return the training checkpoints of a run in the order of their steps, complete or not."""
    found = [path for parent in (folder, folder / _SFT_WORK) for path in parent.glob("checkpoint-*") if path.is_dir()]
    return sorted((path for path in found if step_of(path) is not None), key=lambda path: (step_of(path) or 0, path))


def matching_folders(model: str) -> list[str]:
    """Return the folders that a pattern such as ``out/checkpoint-*`` stands for, else what was given, in a list.

    Raises ValueError for a pattern without any.
    """
    if not any(mark in model for mark in "*?[") or "://" in model or exists(Path(model).expanduser()):
        return [model]
    matched = glob(str(Path(model).expanduser()))  # noqa: PTH207 (a whole pattern, absolute or not)
    found = sorted(path for path in matched if Path(path).is_dir())
    if not found:
        raise ValueError(f"no folder matches {model}; give the folder of a checkpoint")
    return found


def in_training_order(models: Sequence[str]) -> tuple[str, ...]:
    """Return models with the checkpoints of one run in the order of their steps: a shell sorts 1000 before 200."""
    by_run: dict[Path, list[str]] = {}
    for model in models:
        if step_of(path := Path(model)) is not None:
            by_run.setdefault(path.parent, []).append(model)
    ordered = {run: iter(sorted(own, key=lambda model: step_of(Path(model)) or 0)) for run, own in by_run.items()}
    return tuple(next(ordered[Path(model).parent]) if step_of(Path(model)) is not None else model for model in models)


def what_is_missing(folder: Path) -> str:
    """Say what a training checkpoint still lacks; "" once it is complete.

    A trainer writes the weights first and ``trainer_state.json`` last; the weights are compared with their headers.
    """
    if training_step(folder) is None:
        return f"{STATE} is not written yet"
    try:
        if (folder / SETTINGS).is_file():
            adapter_weights(folder, allow_pickle=True)
        else:
            tensors = read_tensors(weight_files(folder, allow_pickle=True))
            check_tensors(folder, tensors, read_config(folder / "config.json"))
    except (CheckpointError, OSError) as error:
        return str(error)
    return ""


def training_step(folder: Path) -> dict[str, Any] | None:
    """Return how far the training of a checkpoint had come; None where its folder has no readable trainer_state.json.

    {"run", "run_id", "step", "max_steps", "epoch", "tokens", "learning_rate", "loss"}: ``run`` names the run's folder
    and ``run_id`` tells runs of that name apart; what the trainer did not count or log is None.
    """
    try:
        state = read_json(folder / STATE, MAX_TEXT_BYTES)
    except (DataError, OSError):
        return None
    step = state.get("global_step") if isinstance(state, dict) else None
    if not isinstance(step, int) or isinstance(step, bool):
        return None
    whole = folder.resolve()
    run = whole.parent if step_of(whole) is not None else whole
    if run.parts[-2:] == _SFT_WORK.parts:
        run = run.parent.parent
    history = state.get("log_history")
    logs = [log for log in history if isinstance(log, dict)] if isinstance(history, list) else []
    tokens = _number(state.get("num_input_tokens_seen")) or _last(logs, "num_tokens")
    return {
        "run": well_formed(run.name),
        "run_id": text_sha256(str(run))[:8],
        "step": step,
        "max_steps": state.get("max_steps") if isinstance(state.get("max_steps"), int) else None,
        "epoch": _number(state.get("epoch")),
        "tokens": None if not tokens else int(tokens),
        "learning_rate": _last(logs, "learning_rate"),
        "loss": _last(logs, "loss"),
    }


def is_over(folder: Path) -> bool:
    """Whether a run's training has ended: its last step is saved, or a finished model is in its folder.

    A finished model that is older than the last checkpoint is an earlier run's.
    """
    checkpoints = checkpoints_in(folder)
    for path in checkpoints[-1:]:
        state = training_step(path)
        if state is not None and state["max_steps"] and state["step"] >= state["max_steps"]:
            return True
    begun = max((path.stat().st_mtime for path in checkpoints), default=0.0)
    # Some trainers write config and tokenizer at their start; the weights come at the end.
    weights = [*folder.glob("*model*.safetensors"), *folder.glob("*model*.bin")]
    return any(file.stat().st_mtime >= begun for file in weights)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _last(logs: Sequence[dict[str, Any]], name: str) -> float | None:
    return next((value for log in reversed(logs) if (value := _number(log.get(name))) is not None), None)
