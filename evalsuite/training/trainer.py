"""trl's trainer, extended to stop at a NaN loss and, on a CPU, to compute logits only for answer tokens."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState, TrainingArguments
from trl import SFTTrainer

from evalsuite.errors import TrainingError
from evalsuite.files import read_json, write_json
from evalsuite.training.masks import IGNORED
from evalsuite.training.progress import TrainingProgress

_MAX_SELECTED = 4096
"""Above this many scored positions per batch, selecting them costs more memory than it saves time."""

COMPLETE_MARK = "whole.json"
"""The file that is written last into a training checkpoint."""


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
    """trl's SFTTrainer over prepared rows of ``input_ids`` and ``labels``."""

    def __init__(self, *, on_tokens: Callable[[int], None], **options: Any) -> None:
        super().__init__(**options)
        self._on_tokens = on_tokens

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise NonFiniteLossError(self.state.global_step + 1, float(loss), _samples(inputs))
        mask = inputs.get("attention_mask")
        self._on_tokens((inputs["input_ids"].numel() if mask is None else int(mask.sum())) * self.args.world_size)
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean loss over answer tokens.

        Without Triton, trl computes logits for every position. On a CPU, where that is a fifth of the
        work for a small model, they are computed for labelled positions only.
        """
        targets = inputs["labels"][:, 1:]
        labelled = (targets[0] != IGNORED).nonzero().squeeze(1)
        select = (
            not return_outputs
            and targets.shape[0] == 1
            and targets.device.type == "cpu"
            # trl's path gathers figures over processes, so all of them must take the same path.
            and self.accelerator.num_processes == 1
            # Another loss that the recipe asks of trl.
            and self.args.loss_type == "nll"
            and not self.args.label_smoothing_factor
            and 0 < labelled.numel() <= _MAX_SELECTED
            and self._accepts_positions()
        )
        if not select:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        model_inputs = {key: value for key, value in inputs.items() if key != "labels"}
        logits = model(**model_inputs, use_cache=False, logits_to_keep=labelled).logits[0]
        total = torch.nn.functional.cross_entropy(logits.float(), targets[0, labelled], reduction="sum")
        n = labelled.numel() if num_items_in_batch is None else num_items_in_batch
        return total / n

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no model card: training.json documents the checkpoint."""

    def _send_telemetry(self) -> None:
        """Send no telemetry."""

    def _accepts_positions(self) -> bool:
        model = self.accelerator.unwrap_model(self.model)
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        return "logits_to_keep" in inspect.signature(base.forward).parameters


class NonFiniteLossError(TrainingError):
    """The loss became NaN or infinite; ``samples`` are the token ids of the batch's conversations."""

    def __init__(self, step: int, loss: float, samples: Sequence[tuple[int, ...]]) -> None:
        super().__init__(f"the loss is {loss} at step {step}")
        self.step = step
        self.loss = loss
        self.samples = samples


class TrainingCallback(TrainerCallback):  # type: ignore[misc]
    """Reports every step to the progress, and marks each training checkpoint complete once it is saved.

    ``on_begin`` is called when the model is ready to train (placed, sharded, resumed).
    """

    def __init__(self, progress: TrainingProgress, on_begin: Callable[[], None]) -> None:
        self._progress = progress
        self._on_begin = on_begin

    def on_train_begin(self, _args: Any, state: TrainerState, _control: Any, **_: Any) -> None:
        self._on_begin()
        self._progress.begin(state.global_step)

    def on_step_end(self, _args: Any, state: TrainerState, _control: Any, **_: Any) -> None:
        self._progress.at_step(state.global_step)

    def on_log(self, _args: Any, _state: TrainerState, _control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._progress.show.step(self._progress.summary(float(logs["loss"])))

    def on_save(self, args: TrainingArguments, state: TrainerState, _control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            write_json(folder / COMPLETE_MARK, {"step": state.global_step, "seconds": self._progress.seconds})


def last_complete_checkpoint(folder: Path) -> tuple[str, float] | None:
    """Return the last complete training checkpoint and the seconds trained until then."""
    complete = [(read_json(mark)["step"], mark) for mark in folder.glob(f"checkpoint-*/{COMPLETE_MARK}")]
    if not complete:
        return None
    mark = max(complete)[1]
    return str(mark.parent), float(read_json(mark)["seconds"])


def held_out_losses(trainer: Any, rows: Any) -> list[tuple[float, int]]:
    """Return summed loss in nats and the number of scored tokens of every held-out conversation.

    Every process computes all of them, because sharded weights are gathered collectively.
    """
    model = trainer.model_wrapped
    was_training = model.training
    model.eval()
    losses = []
    device = trainer.accelerator.device
    with torch.no_grad(), trainer.compute_loss_context_manager():
        for row in rows:
            ids = torch.tensor([row["input_ids"]], device=device)
            targets = torch.tensor(row["labels"][1:], device=device)
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            total = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
            losses.append((float(total), int((targets != IGNORED).sum())))
    model.train(was_training)
    return losses


def _samples(inputs: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Split a batch into its conversations: at each position 0 of a packed row, otherwise by row."""
    ids = inputs["input_ids"]
    if "position_ids" not in inputs:
        mask = inputs["attention_mask"]
        return [tuple(row[keep.bool()].tolist()) for row, keep in zip(ids, mask, strict=True)]
    starts = (inputs["position_ids"][0] == 0).nonzero().flatten().tolist()
    ends = [*starts[1:], ids.shape[1]]
    return [tuple(ids[0, start:end].tolist()) for start, end in zip(starts, ends, strict=True)]
