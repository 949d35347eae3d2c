"""Settings that a recipe passes by name to trl's ``SFTConfig`` (``trainer:``) and peft's ``LoraConfig`` (``lora:``).

What has its own key in the recipe, or would change the verified tokens, is refused by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evalsuite.errors import UsageError, unknown
from evalsuite.recipes.training import TrainingConfig

_TRAINER_KEYS = {
    "learning_rate": "learning_rate",
    "num_train_epochs": "epochs",
    "max_steps": "max_steps",
    "per_device_train_batch_size": "micro_batch_size",
    "gradient_accumulation_steps": "batch_size",
    "warmup_steps": "warmup_steps",
    "warmup_ratio": "warmup_steps",
    "weight_decay": "weight_decay",
    "max_grad_norm": "max_grad_norm",
    "bf16": "dtype",
    "fp16": "dtype",
    "gradient_checkpointing": "gradient_checkpointing",
    "use_liger_kernel": "liger",
    "max_length": "max_length",
    "packing": "packing",
    "logging_steps": "log_every_steps",
    "save_steps": "save_every_steps",
    "train_sampling_strategy": "packing",
    "use_cpu": "devices",
}
"""Fields of SFTConfig that the recipe's sft section sets, with its keys for them."""
_LORA_KEYS = {"r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout", "target_modules": "targets"}
_FIXED = {
    *("output_dir", "seed", "data_seed", "logging_strategy", "logging_nan_inf_filter", "save_strategy", "report_to"),
    *("run_name", "disable_tqdm", "ddp_find_unused_parameters", "ddp_backend", "resume_from_checkpoint", "deepspeed"),
    *("fsdp", "fsdp_config", "assistant_only_loss", "completion_only_loss", "chat_template_path", "dataset_kwargs"),
    *("dataset_num_proc", "dataset_text_field", "eos_token", "pad_token", "packing_strategy", "padding_free"),
    *("truncation_mode", "shuffle_dataset", "model_init_kwargs", "trust_remote_code", "remove_unused_columns"),
    *("do_train", "do_eval", "do_predict", "eval_strategy", "eval_steps", "eval_packing", "load_best_model_at_end"),
    *("push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "group_by_length", "length_column_name"),
}
"""Fields of SFTConfig that evalsuite sets itself, or that have no effect on prepared tokens."""
_LORA_FIXED = {"task_type", "peft_type", "peft_version", "inference_mode", "base_model_name_or_path", "revision"}
_LORA_FIXED |= {"runtime_config", "auto_mapping"}


def check_settings(config: TrainingConfig) -> None:
    """Raise UsageError for settings that trl or peft does not know or that are set elsewhere."""
    if config.trainer:
        from trl import SFTConfig

        names = SFTConfig.__dataclass_fields__
        _check("trainer", config.trainer, names, _TRAINER_KEYS, _FIXED)
        _built(SFTConfig, "trainer", {"output_dir": "unused", "use_cpu": True, "bf16": False, **config.trainer})
    if further := config.lora.further:
        from peft import LoraConfig

        _check("lora", further, LoraConfig.__dataclass_fields__, _LORA_KEYS, _LORA_FIXED)
        _built(LoraConfig, "lora", further)


def _check(
    block: str, given: Iterable[str], names: Iterable[str], own: Mapping[str, str], fixed: Iterable[str]
) -> None:
    known, fixed = set(names), set(fixed)
    for name in given:
        if name in own:
            raise UsageError(f"{block}.{name} is set by {own[name]} in the recipe; use that key")
        if name in fixed:
            raise UsageError(f"{block}.{name} is set by evalsuite and cannot be changed; leave it out")
        if name not in known:
            raise UsageError(unknown(f"{block} setting", name, sorted({*known, *own.values()} - fixed - own.keys())))


def _built(kind: Any, block: str, settings: Mapping[str, Any]) -> None:
    try:
        kind(**settings)
    except Exception as error:  # trl, transformers and peft check values with many types of errors
        raise UsageError(f"{block}: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from error
