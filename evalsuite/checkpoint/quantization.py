"""How the weights of a checkpoint are quantised, as its config says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evalsuite.checkpoint.text_part import text_config

SEPARATE = "hf_quant_config.json"
"""Where ModelOpt before 0.31 wrote what config.json has otherwise; vLLM reads it too."""
_BITS = ("bits", "w_bit", "num_bits", "nbits", "weight_bits")
_LOADED_IN = {"load_in_4bit": 4, "load_in_8bit": 8}


def quantization_config(config: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return a config's description of its quantised weights, None where they are not quantised.

    Looked for where vLLM does (vllm-project/vllm@v0.32.0 vllm/model_executor/model_loader/weight_utils.py
    ``get_quant_config``).
    """
    config = config or {}
    parts = [part.get("quantization_config") for part in (config, text_config(config))]
    return next((part for part in (*parts, config.get("compression_config")) if isinstance(part, dict)), None)


def quantization(config: Mapping[str, Any] | None) -> str | None:
    """Name the method and the bits of quantised weights, None where they are not quantised.

    >>> quantization({"quantization_config": {"quant_method": "gptq", "bits": 4}})
    'gptq 4-bit'
    """
    if (said := quantization_config(config)) is None:
        return None
    inner = said.get("quantization")
    inner = inner if isinstance(inner, dict) else said
    modelopt = isinstance(said.get("producer"), dict) and said["producer"].get("name")
    method = str(said.get("quant_method") or modelopt or "unknown method")
    groups = said.get("config_groups")
    schemes = dict.fromkeys(_schemes(groups.values())) if isinstance(groups, dict) else {}
    bits = [bits for name in _BITS if type(bits := said.get(name)) is int]
    bits += [loaded for name, loaded in _LOADED_IN.items() if said.get(name) is True]
    if schemes:
        return f"{method} {', '.join(schemes)}"
    if isinstance(algorithm := inner.get("quant_algo"), str):
        return f"{method} {algorithm}"
    return f"{method} {bits[0]}-bit" if bits else method


def rounds_inputs(config: Mapping[str, Any] | None) -> bool:
    """Whether layers round their inputs too, as W8A8 does, by what compressed-tensors says of them."""
    groups = (quantization_config(config) or {}).get("config_groups")
    parts = groups.values() if isinstance(groups, dict) else ()
    return any(isinstance(group, dict) and isinstance(group.get("input_activations"), dict) for group in parts)


def _schemes(groups: Iterable[Any]) -> Iterable[str]:
    """Name each group of layers as compressed-tensors does: W4A16 int are weights of 4 bits, inputs in the dtype."""
    for group in groups:
        if isinstance(group, dict) and isinstance(weights := group.get("weights"), dict):
            inputs = group.get("input_activations")
            activations = inputs.get("num_bits") if isinstance(inputs, dict) else 16
            yield f"W{weights.get('num_bits')}A{activations} {weights.get('type')}"
