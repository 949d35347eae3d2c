"""Training devices: precision, attention, kernels and peak speed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from evalsuite.errors import UsageError
from evalsuite.recipes.training import TrainingConfig

# Dense bf16 peak in FLOP/s by part of the device name, from the vendors' data sheets; first match wins.
_PEAKS: tuple[tuple[str, float], ...] = (
    ("B200", 2.25e15),
    ("H200", 9.89e14),
    ("H100 PCIe", 7.56e14),
    ("H100 NVL", 8.35e14),
    ("H100", 9.89e14),
    ("H800", 9.89e14),
    ("A100", 3.12e14),
    ("A800", 3.12e14),
    ("L40S", 3.62e14),
    ("RTX 4090", 1.65e14),
    ("A10", 1.25e14),
)


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of a training run; ``name`` is the GPU's, "" on a CPU. Master weights are always float32."""

    kind: Literal["cpu", "cuda"]
    n: int
    name: str
    bfloat16: bool
    attention: str
    liger: bool

    @property
    def peak_flops(self) -> float | None:
        """Dense bf16 peak of one device in FLOP/s, None if unknown."""
        return next((peak for name, peak in _PEAKS if self.kind == "cuda" and name in self.name), None)


def choose_devices(config: TrainingConfig) -> Devices:
    """Choose devices and kernels; raises UsageError for settings that this machine does not support."""
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind: Literal["cpu", "cuda"] = "cuda" if n_gpus else "cpu"
    if n_gpus and config.devices and config.devices > n_gpus:
        raise UsageError(f"devices: {config.devices}, but {n_gpus} GPU(s) are visible; lower it or leave it out")
    n = config.devices or max(1, n_gpus)
    if config.batch_size % (config.micro_batch_size * n):
        raise UsageError(
            f"batch_size {config.batch_size} is not a multiple of {n} device(s) times micro_batch_size "
            f"{config.micro_batch_size}; change one of them"
        )
    bfloat16 = config.dtype == "bfloat16" or (config.dtype == "auto" and kind == "cuda")
    name = torch.cuda.get_device_name(0) if n_gpus else ""
    attention = _attention(config, kind, bfloat16=bfloat16)
    return Devices(kind, n, name, bfloat16, attention, _liger(config, kind))


def training_flops(n_parameters: int, n_layers: int, hidden: int, mean_length: float) -> float:
    """Return the FLOPs of a forward and backward pass per token, without recomputation.

    6 per parameter, plus 6 * layers * hidden * length for causal attention (half of the full
    matrix). ``mean_length`` is that of a conversation, since packed conversations do not attend to each
    other. Source: PaLM, appendix B, with causal attention.
    """
    return 6.0 * n_parameters + 6.0 * n_layers * hidden * mean_length


def _attention(config: TrainingConfig, kind: str, *, bfloat16: bool) -> str:
    # flash-attn supports 16-bit types only.
    available = kind == "cuda" and bfloat16 and find_spec("flash_attn") is not None
    if config.attention == "flash_attention_2" and not available:
        raise UsageError(
            "attention: flash_attention_2 needs a GPU, bfloat16 and the package flash-attn; use auto or sdpa"
        )
    if config.attention == "auto":
        return "flash_attention_2" if available else "sdpa"
    return config.attention


def _liger(config: TrainingConfig, kind: str) -> bool:
    available = kind == "cuda" and find_spec("liger_kernel") is not None
    if config.liger == "on" and not available:
        raise UsageError("liger: on needs a GPU and the package liger-kernel; use auto")
    return available and config.liger != "off"
