"""One training process: load, train, write the finished checkpoint. Runs in place or once per device.

The launcher starts ``python -m evalsuite.training.worker PLAN`` on each device.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evalsuite.checkpoint.training_run import STATE
from evalsuite.errors import EvalsuiteError, TrainingError
from evalsuite.files import read_json, write_json
from evalsuite.progress import LogProgress, NoProgress, Progress
from evalsuite.recipes.training import TrainingConfig
from evalsuite.training.checkpoint_out import (
    stops_at,
    write_adapter_base,
    write_companions,
    write_generation_config,
    write_tokenizer,
)
from evalsuite.training.devices import training_flops
from evalsuite.training.loading import encoder_pattern, language_model, load_adapter, load_model, saved_dtype
from evalsuite.training.plan import Plan, read_plan
from evalsuite.training.progress import TrainingProgress

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "Cannot allocate memory")


def run_training(plan: Plan, show: Progress, model: Any = None) -> None:
    """Train as described by ``plan`` and write the checkpoint to ``plan.finished``.

    Raises TrainingError for a NaN or infinite loss (with the batch's conversations) and when out of
    memory (with the settings to lower).
    """
    from evalsuite.training.trainer import NonFiniteLossError

    try:
        _run_training(plan, show, model)
    except NonFiniteLossError as error:
        raise TrainingError(_non_finite_loss_message(plan, error)) from error
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(phrase in str(error) for phrase in _OUT_OF_MEMORY):
            raise
        raise TrainingError(_out_of_memory_message(plan)) from error


def _run_training(plan: Plan, show: Progress, model: Any) -> None:
    from datasets import Dataset
    from transformers import PrinterCallback, ProgressCallback

    from evalsuite.training.trainer import AnswerTrainer, TrainingCallback, held_out_losses, last_complete_checkpoint

    tokens = plan.folder / "tokens"
    # Creating the arguments initialises distributed training, which must precede loading sharded weights.
    arguments = training_arguments(plan)
    if model is None:
        frozen = plan.config.method == "lora" and plan.devices.bfloat16
        trusted = plan.trust_remote_code
        model = load_model(plan.base_folder, plan.devices.attention, frozen_bf16=frozen, trust_remote_code=trusted)
    if plan.adapter is not None:
        model = load_adapter(model, Path(plan.adapter), trainable=True)
    resumed = last_complete_checkpoint(plan.checkpoints)
    progress = _progress(plan, model, show, resumed[1] if resumed else 0.0)
    held_out = Dataset.from_file(str(tokens / "held_out.arrow"))
    before = plan.folder / "held_out_before.json"

    def measure_before() -> None:
        if len(held_out) and not before.is_file():
            losses = held_out_losses(trainer, held_out)
            if trainer.is_world_process_zero():
                write_json(before, losses)

    with warnings.catch_warnings():
        # trl warns that use_liger_kernel will move to hub kernels, which would need a download.
        warnings.filterwarnings("ignore", message=".*use_liger_kernel.*", category=FutureWarning)
        trainer = AnswerTrainer(
            model=model,
            args=arguments,
            train_dataset=_rows(plan),
            processing_class=_tokenizer(plan),
            peft_config=_lora(plan, model) if plan.config.method == "lora" and plan.adapter is None else None,
            callbacks=[TrainingCallback(progress, measure_before)],
            on_tokens=progress.count,
        )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.train(resume_from_checkpoint=resumed[0] if resumed else None)
    seconds, rate, mfu = progress.seconds, progress.tokens_per_second, progress.mfu
    after = held_out_losses(trainer, held_out) if len(held_out) else []
    _save(plan, trainer)
    if trainer.is_world_process_zero():
        outcome = {
            "loss": [[row["step"], row["loss"]] for row in trainer.state.log_history if "loss" in row],
            "seconds": seconds,
            "tokens_per_second": rate,
            "mfu": mfu,
            "held_out": None if not after else {"before": read_json(before), "after": after},
        }
        write_json(plan.folder / "outcome.json", outcome)
    trainer.accelerator.wait_for_everyone()


def training_arguments(plan: Plan) -> Any:
    """Return the plan as trl's SFTConfig.

    The rows have labels, so trl's preparation is skipped and exactly the verified tokens are trained on.
    ``packing`` only selects the collator that keeps packed samples apart.
    """
    from trl import SFTConfig

    config, devices = plan.config, plan.devices
    sharded = devices.kind == "cuda" and devices.n > 1
    defaults = {
        "lr_scheduler_type": config.schedule,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "include_num_input_tokens_seen": "non_padding",
        "save_total_limit": None if config.keep_checkpoints else 2,
        "dataloader_pin_memory": devices.kind == "cuda",
    }
    arguments = SFTConfig(
        output_dir=str(plan.checkpoints),
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=plan.accumulation,
        max_steps=plan.steps,
        learning_rate=config.rate,
        warmup_steps=plan.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=devices.bfloat16,
        use_cpu=devices.kind == "cpu",
        gradient_checkpointing=config.gradient_checkpointing and not sharded,
        use_liger_kernel=devices.liger,
        max_length=config.max_length,
        packing=plan.packed,
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="random" if plan.packed else "group_by_length",
        seed=plan.seed % 2**32,
        data_seed=plan.seed % 2**32,
        logging_strategy="steps",
        logging_steps=config.log_every_steps,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=config.save_every_steps,
        report_to=list(plan.log_to) or "none",
        run_name=plan.folder.parent.name,
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
        ddp_backend="gloo" if devices.kind == "cpu" and devices.n > 1 else None,
        **{**defaults, **config.trainer},
    )
    if devices.kind == "cuda" and devices.n == 1:
        # Without a launcher transformers counts all visible GPUs, and trl rejects more.
        arguments._n_gpu = 1
    return arguments


def _rows(plan: Plan) -> Any:
    from datasets import Dataset, load_from_disk

    if plan.packed:
        return load_from_disk(str(plan.folder / "tokens" / "windows"))
    rows = Dataset.from_file(str(plan.folder / "tokens" / "train.arrow"))
    return rows.select_columns(["input_ids", "labels", "length"])


def _tokenizer(plan: Plan) -> Any:
    """Load the tokenizer with the template that is trained with: each training checkpoint is saved with it."""
    from evalsuite.serving.chat_format import load_tokenizer

    folder = Path(plan.tokenizer_folder or plan.base_folder)
    tokenizer = load_tokenizer(folder, trust_remote_code=plan.trust_remote_code)
    tokenizer.chat_template = plan.template
    return tokenizer


def _lora(plan: Plan, model: Any) -> Any:
    from peft import LoraConfig

    lora = plan.config.lora
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        task_type="CAUSAL_LM",
        **{"exclude_modules": encoder_pattern(model), **lora.further},
    )


def _progress(plan: Plan, model: Any, show: Progress, before: float) -> TrainingProgress:
    config = model.config.get_text_config()
    n_parameters = sum(parameter.numel() for parameter in language_model(model).parameters())
    mean_length = plan.n_tokens / plan.n_conversations
    flops = training_flops(n_parameters, config.num_hidden_layers, config.hidden_size, mean_length)
    peak = plan.devices.peak_flops
    return TrainingProgress(show, plan.steps, flops, None if peak is None else peak * plan.devices.n, before)


def _save(plan: Plan, trainer: Any) -> None:
    """Write weights in the base's dtype, tokenizer, chat template and generation config."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.is_world_process_zero():
        return
    folder, base = plan.finished, Path(plan.base_folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = trainer.accelerator.unwrap_model(trainer.model)
    dtype = saved_dtype(base)
    if plan.config.method == "lora":
        model.save_pretrained(folder, state_dict=state)
        write_adapter_base(folder, plan.base)
        if merges_adapter(plan.config, base, plan.end_id):
            _merge(plan, folder, dtype)
    else:
        model.config.use_cache = True
        model.config.dtype = dtype
        model.save_pretrained(folder, state_dict=_cast(state, dtype))
    token = None if stops_at(base, plan.end_id) else _tokenizer(plan).convert_ids_to_tokens(plan.end_id)
    write_tokenizer(Path(plan.tokenizer_folder or base), folder, plan.template, token)
    if not (folder / "adapter_config.json").is_file():
        write_companions(base, folder, code=plan.trust_remote_code)
    write_generation_config(base, folder, plan.end_id)
    trainer.state.save_to_json(folder / STATE)


def merges_adapter(config: TrainingConfig, base: Path, end_id: int) -> bool:
    """Return whether an adapter is trained and merged: if requested, or if the base would not stop after a turn."""
    return config.method == "lora" and (config.lora.merge or not stops_at(base, end_id))


def _merge(plan: Plan, folder: Path, dtype: Any) -> None:
    base = load_model(plan.base_folder, "eager", trust_remote_code=plan.trust_remote_code)
    model = load_adapter(base, folder, trainable=False).merge_and_unload()
    model.config.use_cache = True
    model.to(dtype).save_pretrained(folder)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (folder / name).unlink()


def _cast(state: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """Cast floating weights; shared weights stay shared."""
    by_storage: dict[tuple[int, tuple[int, ...]], Any] = {}
    cast = {}
    for name, weight in state.items():
        key = (weight.data_ptr(), tuple(weight.shape))
        if key not in by_storage:
            by_storage[key] = weight.detach().to("cpu", dtype) if weight.is_floating_point() else weight.detach().cpu()
        cast[name] = by_storage[key]
    return cast


def _non_finite_loss_message(plan: Plan, error: Any) -> str:
    """Return the error message with the batch's conversations, looked up by their tokens."""
    from datasets import Dataset

    wanted: Sequence[tuple[int, ...]] = error.samples
    names = {}
    for row in Dataset.from_file(str(plan.folder / "tokens" / "train.arrow")):
        if (ids := tuple(row["input_ids"])) in wanted:
            names[ids] = row["conversation_hash"][:16]
    named = ", ".join(names.get(ids, "?") for ids in wanted[:8]) + (" and more" if len(wanted) > 8 else "")
    return (
        f"the loss is {error.loss} at step {error.step}, in the batch of the conversations {named}; check these, "
        "lower learning_rate or max_grad_norm, then start again with --fresh"
    )


def _out_of_memory_message(plan: Plan) -> str:
    config = plan.config
    remedies = []
    if config.micro_batch_size > 1:
        remedies.append(f"micro_batch_size (now {config.micro_batch_size})")
    remedies.append(f"max_length (now {config.max_length:,})")
    others = ["set gradient_checkpointing: true"] if not config.gradient_checkpointing else []
    others += ["use method: lora"] if config.method == "full" else []
    others += ["use more GPUs"] if plan.devices.kind == "cuda" else []
    device = plan.devices.name or "this machine"
    suffix = f"; or {', or '.join(others)}" if others else ""
    return f"out of memory on {device}: lower {' or '.join(remedies)}{suffix}"


def main(arguments: Sequence[str]) -> int:
    """Run one of several training processes; rank 0 shows progress on stderr, failures go to the work folder."""
    plan = read_plan(Path(arguments[0]))
    n_processes = int(os.environ.get("WORLD_SIZE", "1"))
    show: Progress = LogProgress() if os.environ.get("RANK", "0") == "0" else NoProgress()
    try:
        if n_processes != plan.devices.n:
            raise TrainingError(f"the launcher started {n_processes} processes, not {plan.devices.n}; set devices: 1")
        run_training(plan, show)
    except EvalsuiteError as error:
        write_json(plan.folder / "failure.json", {"message": str(error)})
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
