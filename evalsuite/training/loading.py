"""Loading a base for training, and an adapter on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from evalsuite.checkpoint.loading import model_class
from evalsuite.files import read_json

_SETTINGS = "adapter_config.json"
_EMBEDDINGS = ("embed_tokens.weight", "lm_head.weight", "wte.weight")


def load_model(base: str, attention: str, *, frozen_bf16: bool = False, trust_remote_code: bool = False) -> Any:
    """Load the base with float32 master weights, or in bf16 with ``frozen_bf16`` if only an adapter is trained.

    In bf16 weights, most updates at these learning rates are lost to rounding. Encoders of images or audio are frozen:
    text gives them no gradient, and distributed training would wait for one.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    dtype = torch.bfloat16 if frozen_bf16 else torch.float32
    model = model_class(Path(base)).from_pretrained(
        base, dtype=dtype, attn_implementation=attention, trust_remote_code=trust_remote_code
    )
    model.config.use_cache = False
    if (text := language_model(model)) is not model:
        parts = (text, model.get_output_embeddings())
        trained = {id(weights) for part in parts for weights in part.parameters()}
        for weights in model.parameters():
            weights.requires_grad_(id(weights) in trained)
    return model


def language_model(model: Any) -> Any:
    """Return the part of a model that reads text, without its head if that is outside; the whole if it is all."""
    return model if model.config.get_text_config() is model.config else model.get_decoder()


def encoder_pattern(model: Any) -> str | None:
    """Return a regular expression for the modules outside the language model; None for a model of text alone."""
    if (text := language_model(model)) is model:
        return None
    name = next(name for name, part in model.named_modules() if part is text)
    return rf"(?!{re.escape(name)}\.).*"


def base_name(adapter: Path, base: Path) -> str:
    """Return the base that an adapter names, as it is found from any folder."""
    name = str(read_json(adapter / _SETTINGS)["base_model_name_or_path"])
    is_local = Path(name).expanduser().is_dir() or (adapter / name).is_dir()
    return str(base.resolve()) if is_local else name


def load_adapter(model: Any, adapter: Path, *, trainable: bool) -> Any:
    """Return a base model with an adapter; its embedding is resized if the adapter holds a larger one."""
    from peft import PeftModel

    rows = _embedding_rows(adapter)
    if rows is not None and rows != model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(rows)
    return PeftModel.from_pretrained(model, str(adapter), is_trainable=trainable)


def _embedding_rows(adapter: Path) -> int | None:
    """Return the number of rows of an embedding or head that the adapter holds as a whole, None without one."""
    from safetensors import safe_open

    path = adapter / "adapter_model.safetensors"
    if not path.is_file():
        return None
    with safe_open(path, "pt") as weights:
        names = [name for name in weights.keys() if name.endswith(_EMBEDDINGS)]  # noqa: SIM118 - it is not a mapping
        rows = {int(weights.get_slice(name).get_shape()[0]) for name in names}
    return rows.pop() if len(rows) == 1 else None


def saved_dtype(base: Path) -> Any:
    """Return the torch dtype that the base's config names, float32 without one."""
    import torch

    config = read_json(base / "config.json")
    name = str(config.get("dtype") or config.get("torch_dtype"))
    return getattr(torch, name.removeprefix("torch."), torch.float32)
