"""Capacity: whether prompts fit the context, the model the device, and the results the disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.layers import cache_bytes
from evalsuite.checkpoint.quantization import rounds_inputs
from evalsuite.checkpoint.text_part import text_config
from evalsuite.doctor.chat_template import Role
from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.doctor.results_folder import existing_folder
from evalsuite.doctor.weights import check_servable
from evalsuite.errors import CheckpointError, ServerError, UsageError
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.device import DTYPE_BYTES, Device, gpu_memory, installed_vllm, served_bytes, served_dtype
from evalsuite.serving.server import check_device, context_length
from evalsuite.suites.options import DataKind
from evalsuite.suites.registry import SuiteSpec
from evalsuite.text import plural

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
_VOCABULARY_STEP = 64
"""To a multiple of which vLLM pads a vocabulary (``vocab_parallel_embedding.DEFAULT_VOCAB_PADDING_SIZE``)."""


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


def check_long_rope(checkpoint: Checkpoint, serve: ServeConfig) -> list[Finding]:
    """Say of a managed model with LongRoPE that a longer context changes its answers to short prompts."""
    served, plain, own = context_length(checkpoint, serve), checkpoint.plain_context, checkpoint.context_length
    if served is None or plain is None or plain == own:
        return []
    why = "vLLM scales the positions of short prompts too (LongRoPE), which changes their answers"
    if served > plain:
        remedy = f"pass --max-model-len {plain} if its prompts fit"
        return [warning("positions", checkpoint.name, f"with a context of {served:,} tokens {why}", remedy)]
    message = f"it supports {own:,} tokens, but with a context of more than {plain:,} {why}; --max-model-len sets one"
    return [ok("positions", checkpoint.name, message)]


def check_quantised_dtype(checkpoint: Checkpoint, serve: ServeConfig, device: Device) -> list[Finding]:
    """Warn of quantised weights in float32, for which vLLM has kernels only where inputs are rounded to 8 bits too."""
    kind = checkpoint.quantization
    if kind is None or rounds_inputs(checkpoint.config) or served_dtype(checkpoint, serve.dtype, device) != "float32":
        return []
    message = f"vLLM may not serve its quantised weights ({kind}) in float32"
    return [warning("dtype", checkpoint.name, message, "pass --dtype float16 or bfloat16")]


def check_device_memory(checkpoint: Checkpoint, serve: ServeConfig, device: Device) -> Finding:
    """Compare weights and the KV cache of a few contexts with the memory of the device."""
    name, weights = checkpoint.name, served_bytes(checkpoint, serve.dtype, device)
    n_bytes = DTYPE_BYTES.get(served_dtype(checkpoint, serve.dtype, device) or "", 2)
    context = cache_bytes(text_config(checkpoint.config or {}), context_length(checkpoint, serve) or 0, n_bytes)
    kind = f" ({checkpoint.quantization})" if checkpoint.quantization else ""
    needs = f"weights of {weights / _GIB:.2f} GiB{kind} and {context / _GIB:.2f} GiB of KV cache per full context"
    if device.kind == "cpu":
        try:
            check_device(checkpoint, serve, device)
        except ServerError as error:
            return fault("memory", name, str(error))
        except UsageError as error:
            return fault("dtype", name, str(error))
        return ok("memory", name, f"{needs} fit this machine")
    memories = gpu_memory()
    if not memories:
        return warning("memory", name, f"{needs}; the device's memory is unknown")
    too_small = warning if {key for key, _ in serve.vllm_args} & _MEMORY_ARGS else fault
    if len(memories) < serve.devices:
        message = f"{plural(serve.devices, 'GPU')} requested, {len(memories)} available"
        return too_small("memory", name, message, "lower --tensor-parallel-size or --data-parallel-size")
    free = sum(sorted(memories, reverse=True)[: serve.tensor_parallel_size]) * _CUDA_SHARE - weights
    remedy = "lower --max-model-len or raise --tensor-parallel-size"
    if free < max(context, 1):
        return too_small("memory", name, f"{needs} do not fit {sum(memories) / _GIB:.0f} GiB of GPU memory", remedy)
    if free < _FEW_CONTEXTS * context:
        return warning("memory", name, f"{needs} leave space for fewer than {_FEW_CONTEXTS} full contexts", remedy)
    return ok("memory", name, f"{needs} fit the GPU")


def check_parallel(checkpoint: Checkpoint, serve: ServeConfig) -> list[Finding]:
    """Return a fault where a managed model cannot be divided by the parallel sizes, as vLLM divides it.

    Attention heads, the width of the feed-forward layers and of each expert (unless experts are divided as a whole),
    and the vocabulary (padded to a multiple of 64) must be divisible by the tensor parallel size; KV heads too, unless
    it is a multiple of theirs, which copies them. A pipeline has no more stages than layers. What a config does
    not state is not checked.
    """
    if checkpoint.endpoint is not None:
        return []
    config = text_config(checkpoint.config or {})
    tensor, stages = serve.tensor_parallel_size, serve.pipeline_stages

    def count(key: str) -> int:
        value = config.get(key)
        return value if isinstance(value, int) and value > 0 else 0

    heads, kv_heads, vocabulary = map(count, ("num_attention_heads", "num_key_value_heads", "vocab_size"))
    shares = {"attention heads": heads, "feed-forward units": count("intermediate_size")}
    if dict(serve.vllm_args).get("enable_expert_parallel", "false").lower() == "false":
        shares["units of an expert"] = count("moe_intermediate_size")
    if kv_heads > tensor:
        shares["KV heads"] = kv_heads
    shares["padded vocabulary entries"] = math.ceil(vocabulary / _VOCABULARY_STEP) * _VOCABULARY_STEP
    uneven = [f"{n:,} {what}" for what, n in shares.items() if n % tensor]
    if kv_heads and kv_heads <= tensor and tensor % kv_heads:
        uneven.append(f"{kv_heads} KV heads")
    found = []
    if uneven:
        fits = [n for n in range(1, tensor) if heads and not any(have % n for have in shares.values())]
        # Fewer KV heads than devices are copied.
        fits = [n for n in fits if not kv_heads or kv_heads % n == 0 or n % kv_heads == 0]
        message = f"{', '.join(uneven)} cannot be divided among {tensor} devices"
        remedy = f"pass --tensor-parallel-size {' or '.join(map(str, fits[-3:]))}" if fits else "use one device"
        found.append(fault("parallel", checkpoint.name, message, remedy))
    if 0 < (layers := count("num_hidden_layers")) < stages:
        message = f"{layers} layers cannot be divided among {stages} pipeline stages"
        remedy = f"lower --vllm-arg pipeline_parallel_size to {layers} or less"
        found.append(fault("parallel", checkpoint.name, message, remedy))
    return found


def require_servable(checkpoints: Iterable[Checkpoint], serve: ServeConfig, *, starts: bool = False) -> None:
    """Raise CheckpointError that names every fault of models that a managed server is to serve, before any starts.

    With ``starts`` a server is certain to start, so that the device's memory is checked too; answers that are stored
    need none.
    """
    faults: dict[str, None] = {}
    for checkpoint in checkpoints:
        found = [*check_servable(checkpoint), *check_parallel(checkpoint, serve)]
        if starts and checkpoint.path is not None and not any(one.level == "fault" for one in found):
            found.append(check_device_memory(checkpoint, serve, installed_vllm()))
        faults |= dict.fromkeys(one.sentence for one in found if one.level == "fault")
    if faults:
        raise CheckpointError("; ".join(faults))


def check_disk(results: Path) -> Finding:
    """Check the free space where results are written."""
    free = shutil.disk_usage(existing_folder(results)).free
    message = f"{free / _GIB:.1f} GiB free" if free >= _GIB else f"{free / 2**20:.0f} MiB free"
    if free < _MIN_FREE:
        return fault("disk", str(results), message, "free some space or give another folder with --results")
    if free < _LOW_FREE:
        return warning("disk", str(results), message, "a full run with samples writes about 1 GiB")
    return ok("disk", str(results), message)
