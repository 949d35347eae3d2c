"""trl's trainer with what it lacks: it stops at a loss that is no number and, on a CPU, scores answers only."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTTrainer

from evalsuite.errors import TrainingError
from evalsuite.files import read_json, write_json
from evalsuite.training.masks import IGNORED
from evalsuite.training.progress import TrainingProgress

_MOST_KEPT = 4096
"""Above this many scored positions a batch the full logits cost more memory than they save time."""

MARK = "whole.json"
"""Written into a training checkpoint after everything else of it."""


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
    """trl's SFTTrainer over rows of ``input_ids`` and ``labels`` that need no more preparation."""

    def __init__(self, *, on_tokens: Callable[[int], None], **words: Any) -> None:
        super().__init__(**words)
        self._on_tokens = on_tokens

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        loss = super().training_step(model, inputs, num_items_in_batch)
        if not torch.isfinite(loss):
            raise NonFiniteLossError(self.state.global_step + 1, float(loss), _samples(inputs))
        real = inputs.get("attention_mask")
        self._on_tokens((inputs["input_ids"].numel() if real is None else int(real.sum())) * self.args.world_size)
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean loss over answer tokens.

        trl projects every position onto the vocabulary where there is no Triton; on a CPU, where
        that is a fifth of the work for a small model, only positions with a label are projected.
        """
        targets = inputs["labels"][:, 1:]
        kept = (targets[0] != IGNORED).nonzero().squeeze(1)
        lean = (
            not return_outputs
            and targets.shape[0] == 1
            and targets.device.type == "cpu"
            # trl's own path gathers figures over processes: all of them must take the same one.
            and self.accelerator.num_processes == 1
            and 0 < kept.numel() <= _MOST_KEPT
            and self._takes_positions()
        )
        if not lean:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        words = {key: value for key, value in inputs.items() if key != "labels"}
        logits = model(**words, use_cache=False, logits_to_keep=kept).logits[0]
        total = torch.nn.functional.cross_entropy(logits.float(), targets[0, kept], reduction="sum")
        n = kept.numel() if num_items_in_batch is None else num_items_in_batch
        return total / n

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write no model card: training.json says what the checkpoint is made of."""

    def _send_telemetry(self) -> None:
        """Tell nobody that a training runs."""

    def _takes_positions(self) -> bool:
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


class Watcher(TrainerCallback):  # type: ignore[misc]
    """Passes every step on to the progress, and marks each training checkpoint whole once it is.

    ``on_begin`` is called when the model stands as it is trained (placed, sharded, resumed).
    """

    def __init__(self, progress: TrainingProgress, on_begin: Callable[[], None]) -> None:
        self._progress = progress
        self._on_begin = on_begin

    def on_train_begin(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        self._on_begin()
        self._progress.begin(state.global_step)
        return control

    def on_step_end(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> TrainerControl:
        self._progress.at_step(state.global_step)
        return control

    def on_log(
        self,
        _args: Any,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **_: Any,
    ) -> TrainerControl:
        if logs and "loss" in logs:
            self._progress.at_loss(state.global_step, float(logs["loss"]))
        return control

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        if state.is_world_process_zero:
            place = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            write_json(place / MARK, {"step": state.global_step, "seconds": self._progress.seconds})
        return control


def last_whole_checkpoint(folder: Path) -> tuple[str, float] | None:
    """Return the last training checkpoint that was written to its end, and the seconds trained until then."""
    whole = [(read_json(mark)["step"], mark) for mark in folder.glob(f"checkpoint-*/{MARK}")]
    if not whole:
        return None
    mark = max(whole)[1]
    return str(mark.parent), float(read_json(mark)["seconds"])


def held_out_losses(trainer: Any, rows: Any) -> list[tuple[float, int]]:
    """Return summed loss in nats and the number of scored tokens of every held-out conversation.

    Every process computes all of them, so that sharded weights are gathered in step.
    """
    model = trainer.model_wrapped
    was_training = model.training
    model.eval()
    found = []
    device = trainer.accelerator.device
    with torch.no_grad(), trainer.compute_loss_context_manager():
        for row in rows:
            ids = torch.tensor([row["input_ids"]], device=device)
            targets = torch.tensor(row["labels"][1:], device=device)
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            total = torch.nn.functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
            found.append((float(total), int((targets != IGNORED).sum())))
    model.train(was_training)
    return found


def _samples(inputs: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """Cut a batch back into its conversations: at each position 0 of a packed row, else row by row."""
    ids = inputs["input_ids"]
    if "position_ids" not in inputs:
        mask = inputs["attention_mask"]
        return [tuple(row[keep.bool()].tolist()) for row, keep in zip(ids, mask, strict=True)]
    starts = (inputs["position_ids"][0] == 0).nonzero().flatten().tolist()
    ends = [*starts[1:], ids.shape[1]]
    return [tuple(ids[0, start:end].tolist()) for start, end in zip(starts, ends, strict=True)]
