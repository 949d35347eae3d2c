"""What there is to train on, and what may be used on it: precision, attention, kernels, peak speed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from evalsuite.errors import UsageError
from evalsuite.recipes.training import TrainingConfig

# Dense bf16 peak in FLOP/s by words of the device's name, from the vendors' data sheets; first match wins.
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
    """Where and how a run computes; ``name`` is the GPU's, "" on a CPU. Master weights are float32 either way."""

    kind: Literal["cpu", "cuda"]
    n: int
    name: str
    bfloat16: bool
    attention: str
    liger: bool

    @property
    def peak_flops(self) -> float | None:
        """Dense bf16 peak of one device in FLOP/s, None where it is not known."""
        return next((peak for word, peak in _PEAKS if self.kind == "cuda" and word in self.name), None)


def choose_devices(config: TrainingConfig) -> Devices:
    """Settle what is used; raises UsageError for what the machine does not have."""
    import torch

    n_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind: Literal["cpu", "cuda"] = "cuda" if n_gpus else "cpu"
    if n_gpus and config.devices and config.devices > n_gpus:
        raise UsageError(f"devices: {config.devices}, but {n_gpus} GPU(s) are in sight; lower it or leave it out")
    n = config.devices or max(1, n_gpus)
    if config.batch_size % (config.micro_batch_size * n):
        raise UsageError(
            f"batch_size {config.batch_size} does not divide into {n} device(s) times micro_batch_size "
            f"{config.micro_batch_size}; change one of them"
        )
    bfloat16 = config.dtype == "bfloat16" or (config.dtype == "auto" and kind == "cuda")
    return Devices(
        kind=kind,
        n=n,
        name=torch.cuda.get_device_name(0) if n_gpus else "",
        bfloat16=bfloat16,
        attention=_attention(config, kind, bfloat16=bfloat16),
        liger=_liger(config, kind),
    )


def training_flops(n_parameters: int, n_layers: int, hidden: int, n_tokens: int, mean_length: float) -> float:
    """Return the FLOPs of one forward and backward pass over ``n_tokens``, recomputation not counted.

    6 a parameter and token, and 6 * layers * hidden * length for causal attention (half of the
    full matrix). Source: PaLM, appendix B, with the causal half; ``mean_length`` is a
    conversation's, since packed ones do not see each other.
    """
    return n_tokens * (6.0 * n_parameters + 6.0 * n_layers * hidden * mean_length)


def _attention(config: TrainingConfig, kind: str, *, bfloat16: bool) -> str:
    # It computes in 16 bits only.
    present = kind == "cuda" and bfloat16 and find_spec("flash_attn") is not None
    if config.attention == "flash_attention_2" and not present:
        raise UsageError(
            "attention: flash_attention_2 needs a GPU, bfloat16 and the package flash-attn; use auto or sdpa"
        )
    if config.attention == "auto":
        return "flash_attention_2" if present else "sdpa"
    return config.attention


def _liger(config: TrainingConfig, kind: str) -> bool:
    present = kind == "cuda" and find_spec("liger_kernel") is not None
    if config.liger == "on" and not present:
        raise UsageError("liger: on needs a GPU and the package liger-kernel; use auto")
    return present and config.liger != "off"
