"""Room: whether prompts fit the context, the model the device, and the results the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.doctor.chat_template import Role
from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.errors import ServerError
from evalsuite.serving.device import DTYPE_BYTES, Device, gpu_memory, served_bytes, served_dtype
from evalsuite.serving.server import ServeOptions, check_memory, context_length

GIB = 2**30
_FEW_CONTEXTS = 4
_CUDA_SHARE = 0.9
"""Of a GPU's memory, which vLLM takes by default (gpu_memory_utilization)."""
_CHANGE_MEMORY = frozenset(
    {
        "cpu_offload_gb",
        "quantization",
        "pipeline_parallel_size",
        "kv_cache_dtype",
        "load_format",
        "gpu_memory_utilization",
        "distributed_executor_backend",
        "data_parallel_size_local",
    }
)
_LEAST_FREE, _LITTLE_FREE = 64 << 20, 2 << 30

ANSWERING_TOKENS: Mapping[str, int] = {
    "mt_bench": 3_072,
    "alpaca_eval": 2_560,
    "mixeval": 3_584,
    "openllm": 4_096,
}
"""Round figures of the context below which prompts of the full data may not fit with their answers: MT-Bench's two
answers of 1,024, AlpacaEval's of 2,048, MixEval's of 512 behind passages, few-shot prompts of the Open LLM tasks."""

JUDGING_TOKENS: Mapping[str, int] = {"mt_bench": 6_144, "alpaca_eval": 6_144, "mixeval": 2_048}
"""As above for a judge: both answers and a reference, and the room for a judgment of 2,048 tokens (MixEval 999)."""

MINI_TOKENS = 1_024


def check_context(
    checkpoint: Checkpoint, options: ServeOptions, suites: Iterable[str], role: Role, data: str
) -> Finding:
    """Compare the context that is served with what the suites ask for."""
    name, served = checkpoint.name, context_length(checkpoint, options)
    if served is None:
        return warning("context", name, "its config does not tell its context length", "pass --max-model-len")
    table = JUDGING_TOKENS if role == "judge" else ANSWERING_TOKENS
    needs = {suite: table[suite] if data == "full" else MINI_TOKENS for suite in suites if suite in table}
    short = {suite: need for suite, need in needs.items() if need > served}
    if short:
        words = ", ".join(f"{suite} {need:,}" for suite, need in short.items())
        remedy = "what does not fit is unscored or cut; give a longer --max-model-len if the model has it"
        return warning("context", name, f"a context of {served:,} tokens is short for {words}", remedy)
    return ok("context", name, f"a context of {served:,} tokens holds what {' and '.join(needs) or 'is asked'} needs")


def check_device_memory(checkpoint: Checkpoint, options: ServeOptions, device: Device) -> Finding:
    """Compare weights and the KV cache of a few contexts with the memory of the device."""
    name, weights = checkpoint.name, served_bytes(checkpoint, options.dtype, device)
    one_context = kv_bytes_per_token(checkpoint, options, device) * (context_length(checkpoint, options) or 0)
    needs = f"weights of {weights / GIB:.2f} GiB and {one_context / GIB:.2f} GiB of KV cache a full context"
    if device.kind == "cpu":
        try:
            check_memory(checkpoint, options, device)
        except ServerError as error:
            return fault("memory", name, str(error))
        return ok("memory", name, f"{needs} fit this machine")
    memories = gpu_memory()
    if not memories:
        return warning("memory", name, f"{needs}; how much the device has is not to be seen")
    # Arguments of vLLM's own may spread or shrink the model in ways that only vLLM can reckon with.
    too_small = warning if {key for key, _ in options.vllm_args} & _CHANGE_MEMORY else fault
    asked = options.tensor_parallel_size * options.data_parallel_size
    if len(memories) < asked:
        words = f"{asked} GPUs are asked for and {len(memories)} are there"
        return too_small("memory", name, words, "lower --tensor-parallel-size or --data-parallel-size")
    room = sum(sorted(memories, reverse=True)[: options.tensor_parallel_size]) * _CUDA_SHARE - weights
    remedy = "lower --max-model-len or raise --tensor-parallel-size"
    if room < max(one_context, 1):
        return too_small("memory", name, f"{needs} do not fit {sum(memories) / GIB:.0f} GiB of GPU memory", remedy)
    if room < _FEW_CONTEXTS * one_context:
        return warning("memory", name, f"{needs} leave room for fewer than {_FEW_CONTEXTS} full contexts", remedy)
    return ok("memory", name, f"{needs} fit the GPU")


def kv_bytes_per_token(checkpoint: Checkpoint, options: ServeOptions, device: Device) -> int:
    """Return the KV cache's bytes a token: keys and values of every layer and KV head; 0 where the config is silent."""
    config: dict[str, Any] = checkpoint.config or {}
    config = config.get("text_config") or config
    layers, heads = config.get("num_hidden_layers"), config.get("num_attention_heads")
    kv_heads = config.get("num_key_value_heads") or heads
    if not (isinstance(layers, int) and isinstance(heads, int) and isinstance(kv_heads, int) and heads):
        return 0
    head_dim = config.get("head_dim") or config.get("hidden_size", 0) // heads
    return (
        2
        * layers
        * kv_heads
        * int(head_dim)
        * DTYPE_BYTES.get(served_dtype(checkpoint, options.dtype, device) or "", 2)
    )


def check_disk(results: Path) -> Finding:
    """Look at the free space where results are written."""
    existing = next(folder for folder in (results.absolute(), *results.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    words = f"{free / GIB:.1f} GiB are free"
    if free < _LEAST_FREE:
        return fault("disk", str(results), words, "free some space or give another folder with --results")
    if free < _LITTLE_FREE:
        return warning("disk", str(results), words, "a full run with samples writes about 1 GiB")
    return ok("disk", str(results), words)
