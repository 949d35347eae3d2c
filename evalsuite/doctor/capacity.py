"""Capacity: whether prompts fit the context, the model the device, and the results the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.doctor.chat_template import Role
from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.doctor.results_folder import existing_folder
from evalsuite.errors import ServerError
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.device import DTYPE_BYTES, Device, gpu_memory, served_bytes, served_dtype
from evalsuite.serving.server import check_memory, context_length
from evalsuite.suites.options import DataKind
from evalsuite.suites.registry import SuiteSpec

_GIB = 2**30
_FEW_CONTEXTS = 4
_CUDA_SHARE = 0.9
"""Of a GPU's memory, which vLLM takes by default (gpu_memory_utilization)."""
_SHRINKING = {"cpu_offload_gb", "quantization", "kv_cache_dtype", "load_format", "gpu_memory_utilization"}
_SPREADING = {"pipeline_parallel_size", "distributed_executor_backend", "data_parallel_size_local"}
_MEMORY_ARGS = frozenset(_SHRINKING | _SPREADING)
"""vLLM's own options that spread or shrink a model in ways that only vLLM can compute."""
_MIN_FREE, _LOW_FREE = 64 << 20, 2 << 30
_MINI_TOKENS = 1_024


def check_context(
    checkpoint: Checkpoint, serve: ServeConfig, specs: Iterable[SuiteSpec], role: Role, data: DataKind
) -> Finding:
    """Compare the served context with what the suites need; suites that do not say are left out."""
    name, served = checkpoint.name, context_length(checkpoint, serve)
    if served is None:
        return warning("context", name, "context length unknown: its config does not state it", "pass --max-model-len")
    full = {spec.name: spec.suite.judge_context if role == "judge" else spec.suite.answer_context for spec in specs}
    needs = {name: min(need, _MINI_TOKENS) if data == "mini" else need for name, need in full.items() if need}
    short = [f"{suite} ({need:,})" for suite, need in needs.items() if need > served]
    if short:
        message = f"a context of {served:,} tokens may be too short for {', '.join(short)}"
        remedy = "prompts that do not fit are unscored or cut; set a longer --max-model-len if the model supports it"
        return warning("context", name, message, remedy)
    return ok("context", name, f"a context of {served:,} tokens is long enough for {', '.join(needs) or 'the suites'}")


def check_device_memory(checkpoint: Checkpoint, serve: ServeConfig, device: Device) -> Finding:
    """Compare weights and the KV cache of a few contexts with the memory of the device."""
    name, weights = checkpoint.name, served_bytes(checkpoint, serve.dtype, device)
    context = kv_bytes_per_token(checkpoint, serve, device) * (context_length(checkpoint, serve) or 0)
    needs = f"weights of {weights / _GIB:.2f} GiB and {context / _GIB:.2f} GiB of KV cache per full context"
    if device.kind == "cpu":
        try:
            check_memory(checkpoint, serve, device)
        except ServerError as error:
            return fault("memory", name, str(error))
        return ok("memory", name, f"{needs} fit this machine")
    memories = gpu_memory()
    if not memories:
        return warning("memory", name, f"{needs}; the device's memory is unknown")
    too_small = warning if {key for key, _ in serve.vllm_args} & _MEMORY_ARGS else fault
    if len(memories) < serve.devices:
        message = f"{serve.devices} GPUs requested, {len(memories)} available"
        return too_small("memory", name, message, "lower --tensor-parallel-size or --data-parallel-size")
    free = sum(sorted(memories, reverse=True)[: serve.tensor_parallel_size]) * _CUDA_SHARE - weights
    remedy = "lower --max-model-len or raise --tensor-parallel-size"
    if free < max(context, 1):
        return too_small("memory", name, f"{needs} do not fit {sum(memories) / _GIB:.0f} GiB of GPU memory", remedy)
    if free < _FEW_CONTEXTS * context:
        return warning("memory", name, f"{needs} leave space for fewer than {_FEW_CONTEXTS} full contexts", remedy)
    return ok("memory", name, f"{needs} fit the GPU")


def kv_bytes_per_token(checkpoint: Checkpoint, serve: ServeConfig, device: Device) -> int:
    """Return the bytes of KV cache per token: keys and values of every layer and KV head; 0 where unknown."""
    config: dict[str, Any] = checkpoint.config or {}
    config = config.get("text_config") or config
    layers, heads = config.get("num_hidden_layers"), config.get("num_attention_heads")
    kv_heads = config.get("num_key_value_heads") or heads
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(kv_heads, int) and heads):
        return 0
    head_dim = int(config.get("head_dim") or config.get("hidden_size", 0) // heads)
    n_bytes = DTYPE_BYTES.get(served_dtype(checkpoint, serve.dtype, device) or "", 2)
    return 2 * layers * kv_heads * head_dim * n_bytes


def check_disk(results: Path) -> Finding:
    """Check the free space where results are written."""
    free = shutil.disk_usage(existing_folder(results)).free
    message = f"{free / _GIB:.1f} GiB free"
    if free < _MIN_FREE:
        return fault("disk", str(results), message, "free some space or give another folder with --results")
    if free < _LOW_FREE:
        return warning("disk", str(results), message, "a full run with samples writes about 1 GiB")
    return ok("disk", str(results), message)
