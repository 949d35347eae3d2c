"""LoRA adapters: their rank, their weights and their tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalsuite.checkpoint.json_files import read_config
from evalsuite.checkpoint.model import TOKENIZER_FILES, VOCABULARIES
from evalsuite.checkpoint.tensors import read_tensors
from evalsuite.errors import CheckpointError
from evalsuite.fingerprint import file_sha256

SETTINGS = "adapter_config.json"
_DEFAULT_RANK = 16
_TO_SAFETENSORS = (
    "python -c \"import torch; from safetensors.torch import save_file; w = torch.load('adapter_model.bin', "
    "weights_only=True); save_file({k: v.contiguous() for k, v in w.items()}, 'adapter_model.safetensors')\""
)


def adapter_weights(folder: Path, *, allow_pickle: bool) -> Path:
    """Return the file of an adapter's weights, checked; raises CheckpointError."""
    weights, pickled = folder / "adapter_model.safetensors", folder / "adapter_model.bin"
    if weights.is_file():
        read_tensors([weights])
        return weights
    if not pickled.is_file():
        raise CheckpointError(f"{folder} has {SETTINGS} but no {weights.name}; save the adapter again")
    if not allow_pickle:
        raise CheckpointError(
            f"{folder} contains a pickled adapter ({pickled.name}), which can run code when loaded; convert it in that "
            "folder with "
            f"`{_TO_SAFETENSORS}`, or pass --allow-pickle if you trust it"
        )
    return pickled


def base_of(folder: Path, settings: Mapping[str, Any]) -> str:
    """Return the base model that an adapter names, as it is reached from here; raises CheckpointError without one.

    peft writes a local base as it was given in training: it is searched for from here and from the adapter's folder.
    """
    base = settings.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise CheckpointError(f"{folder / SETTINGS} has no base_model_name_or_path; add it")
    try:
        beside = folder / base
        if not Path(base).expanduser().is_dir() and beside.is_dir():
            return str(beside.resolve())
    except (OSError, ValueError):
        # Too long for a path, or with a zero byte: not a folder.
        pass
    return base


def lora_rank(settings: Mapping[str, Any], folder: Path) -> int:
    """Return the largest rank of an adapter, those of single modules (``rank_pattern``) included."""
    pattern = settings.get("rank_pattern") or {}
    largest = 1
    for rank in (settings.get("r", _DEFAULT_RANK), *(pattern.values() if isinstance(pattern, dict) else [pattern])):
        if not isinstance(rank, int) or rank < 1:
            raise CheckpointError(f"{folder / SETTINGS} has the rank r={rank!r}; save the adapter again")
        largest = max(largest, rank)
    return largest


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the tokenizer files of a folder; [] without a vocabulary."""
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return files if any(file.name in VOCABULARIES for file in files) else []


def brings_tokenizer(adapter: Path, base: Path) -> bool:
    """Whether an adapter's tokenizer differs from its base's in more than the chat template, which is read apart."""
    own, its_bases = tokenizer_files(adapter), {file.name: file for file in tokenizer_files(base)}
    return bool(own) and any(_content(file) != _content(its_bases.get(file.name)) for file in own)


def _content(file: Path | None) -> Any:
    if file is None or file.name != "tokenizer_config.json":
        return None if file is None else file_sha256(file)
    return {key: value for key, value in read_config(file).items() if key != "chat_template"}
