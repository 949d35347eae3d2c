"""The weights of a checkpoint: whether they are numbers, and whether vLLM serves an adapter's kind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.adapters import SETTINGS, adapter_weights, lora_rank
from evalsuite.checkpoint.json_files import read_config
from evalsuite.checkpoint.loading import unfilled_weights
from evalsuite.checkpoint.shards import weight_files
from evalsuite.checkpoint.tensors import Tensor, embedding_of, read_tensors
from evalsuite.doctor.finding import Finding, fault
from evalsuite.errors import CheckpointError

_MAX_BYTES = 4 << 20
"""Bytes read of each tensor: a diverged training run leaves no row of a head intact."""
# Bytes per value, and the bits of its exponent, which are all set for NaN and infinities.
_EXPONENTS = {"F64": (8, 0x7FF << 52), "F32": (4, 0xFF << 23), "F16": (2, 0x1F << 10), "BF16": (2, 0xFF << 7)}

MERGE = "write it into its base with evalsuite sft --merge ADAPTER --out FOLDER, and give that folder"
_MAX_RANK = 512
# Settings of peft that make an adapter more than two matrices beside a module, with what leaves it plain.
_BEYOND_PLAIN: Mapping[str, Any] = {
    "alora_invocation_tokens": None,
    "bias": "none",
    "init_lora_weights": True,
    "layer_replication": None,
    "lora_bias": False,
    "modules_to_save": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
}
_ASK_VLLM = """
import json, sys
from vllm.config.lora import LoRAConfig
from vllm.lora.peft_helper import PEFTHelper
try:
    PEFTHelper.from_dict(json.loads(sys.argv[1])).validate_legal(LoRAConfig(max_lora_rank=512))
except (TypeError, ValueError) as error:
    print(json.dumps(str(error)))
"""
_TIMEOUT_S = 300


def _is_examined(tensor: str) -> bool:
    """Whether a tensor is a norm's or the head's: small, and without a finite value after a training that diverged."""
    return tensor.endswith(".weight") and ("norm" in tensor or tensor.removesuffix(".weight").endswith("lm_head"))


def check_servable(checkpoint: Checkpoint) -> list[Finding]:
    """Return the faults that make serving a checkpoint pointless; none of an endpoint."""
    return [*check_weights(checkpoint), *check_adapter(checkpoint)]


def check_weights(checkpoint: Checkpoint) -> list[Finding]:
    """Look for NaN and infinities in the norms, the head and the embedding; reads a few megabytes of each at most."""
    if checkpoint.path is None:
        return []
    tensors = read_tensors(weight_files(checkpoint.path, allow_pickle=True))
    examined = {name: tensor for name, tensor in tensors.items() if _is_examined(name)}
    if (embedding := embedding_of(tensors)) is not None:
        examined["the embedding"] = embedding
    if checkpoint.adapter is not None:
        examined |= read_tensors([adapter_weights(checkpoint.adapter, allow_pickle=True)])
    broken = [name for name, tensor in examined.items() if not _is_finite(tensor)]
    if not broken:
        return []
    message = f"its weights have NaN or infinite values ({', '.join(broken[:3])})"
    return [fault("weights", checkpoint.name, message, "the training diverged; give an earlier checkpoint")]


def check_architecture(checkpoint: Checkpoint) -> list[Finding]:
    """Check that the checkpoint fills every weight of its architecture, as far as transformers knows it.

    Imports transformers, so it is the doctor's alone: in a run, vLLM says the same when it starts.
    """
    if checkpoint.path is None or checkpoint.quantization is not None:
        return []
    try:
        said = unfilled_weights(checkpoint.path, trust_remote_code=checkpoint.trust_remote_code)
    except Exception:  # transformers does not know every model that vLLM serves, and raises anything
        return []
    return [] if said is None else [fault("weights", checkpoint.name, f"it {said}", "save the checkpoint again")]


def _is_finite(tensor: Tensor) -> bool:
    """Whether the first values of a tensor are numbers; true for types that have only numbers."""
    import numpy as np

    if tensor.dtype not in _EXPONENTS:
        return True
    size, exponent = _EXPONENTS[tensor.dtype]
    with tensor.file.open("rb") as data:
        data.seek(tensor.start)
        raw = data.read(min(tensor.end - tensor.start, _MAX_BYTES) // size * size)
    mask = np.array(exponent, dtype=f"<u{size}")
    return not bool(((np.frombuffer(raw, dtype=mask.dtype) & mask) == mask).any())


def check_adapter(checkpoint: Checkpoint) -> list[Finding]:
    """Check that vLLM serves an adapter of this kind; vLLM itself judges any that is not a plain LoRA."""
    if (folder := checkpoint.adapter) is None:
        return []
    settings = read_config(folder / SETTINGS)
    kind = settings.get("peft_type", "LORA")
    if kind != "LORA":
        return [fault("adapter", checkpoint.name, f"it is an adapter of the type {kind}; vLLM serves LoRA only", MERGE)]
    try:
        refusal = _own_weights(folder, checkpoint.embedding_rows) or _refusal_of_vllm(settings, folder)
    except CheckpointError as error:
        return [fault("adapter", checkpoint.name, str(error))]
    return [] if refusal is None else [fault("adapter", checkpoint.name, f"vLLM cannot serve it: {refusal}", MERGE)]


def _own_weights(folder: Path, embedding_rows: int | None) -> str | None:
    """Say which weights an adapter has besides its LoRA matrices, which vLLM refuses or ignores."""
    tensors = read_tensors([adapter_weights(folder, allow_pickle=True)])
    # peft writes the base's own embedding beside the matrices of an adapted one; vLLM ignores it.
    others = [
        name
        for name, tensor in tensors.items()
        if ".lora_" not in name and (".base_layer." not in name or tensor.shape[:1] != (embedding_rows,))
    ]
    return f"it contains full weights besides the adapter's ({', '.join(others[:3])})" if others else None


def _refusal_of_vllm(settings: Mapping[str, Any], folder: Path) -> str | None:
    """Return vLLM's own reason for refusing an adapter, None where it takes it or is not installed."""
    is_plain = all(settings.get(key, plain) in (plain, None) for key, plain in _BEYOND_PLAIN.items())
    if (is_plain and lora_rank(settings, folder) <= _MAX_RANK) or find_spec("vllm") is None:
        return None
    command = [sys.executable, "-c", _ASK_VLLM, json.dumps(settings)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        lines = done.stdout.splitlines()
        return None if done.returncode or not lines else str(json.loads(lines[-1])).rstrip(".")
    except (OSError, ValueError, subprocess.TimeoutExpired):
        # vLLM says the same when it starts.
        return None
