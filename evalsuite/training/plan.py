"""The complete settings of a training process."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evalsuite.files import read_json, write_json
from evalsuite.recipes.training import TrainingConfig
from evalsuite.training.devices import Devices

_SHRUNK_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Plan:
    """A training run. ``work`` is the folder of the tokens, the training checkpoints and the finished checkpoint.

    ``steps`` are optimizer steps, ``accumulation`` micro-batches per step and device; ``end_id`` is
    the end-of-turn token; ``template`` is the chat template. ``adapter`` is the folder of an adapter on which training
    goes on.
    """

    base: str
    base_folder: str
    template: str
    end_id: int
    config: TrainingConfig
    devices: Devices
    seed: int
    work: str
    packed: bool
    n_windows: int
    n_tokens: int
    n_conversations: int
    steps: int
    warmup_steps: int
    accumulation: int
    log_to: tuple[str, ...] = ()
    trust_remote_code: bool = False
    adapter: str | None = None
    tokenizer_folder: str = ""

    @property
    def folder(self) -> Path:
        return Path(self.work)

    @property
    def checkpoints(self) -> Path:
        return self.folder.parent if self.config.keep_checkpoints else self.folder / "checkpoints"

    @property
    def finished(self) -> Path:
        return self.folder / "finished"

    def write(self) -> Path:
        """Write the plan to plan.json in its folder and return the path."""
        path = self.folder / "plan.json"
        # What is not set is left out: the config refuses LoRA settings without method: lora.
        write_json(path, asdict(self) | {"config": self.config.model_dump(mode="json", exclude_unset=True)})
        return path


def read_plan(path: Path) -> Plan:
    values: dict[str, Any] = read_json(path)
    config, devices = TrainingConfig.model_validate(values["config"]), Devices(**values["devices"])
    return Plan(**values | {"config": config, "devices": devices, "log_to": tuple(values["log_to"])})


def count_steps(config: TrainingConfig, n_windows: int, n_devices: int) -> int:
    """Return the number of optimizer steps; the last step of an epoch may be smaller."""
    batches = math.ceil(n_windows / (config.micro_batch_size * n_devices))
    per_epoch = max(1, math.ceil(batches / (config.batch_size // (config.micro_batch_size * n_devices))))
    steps = max(1, math.ceil(config.epochs * per_epoch))
    return min(steps, config.max_steps) if config.max_steps else steps


def shrink_warmup(warmup: int, steps: int) -> int:
    """Return the warm-up steps: ``warmup``, or a tenth of ``steps`` if it is more than half of them."""
    return warmup if warmup * 2 <= steps else max(1, round(steps * _SHRUNK_SHARE)) if steps > 1 else 0
