"""The layers of a model, and what the cache holds of one context for each kind of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_STATE_BYTES = 4
"""Of a number in a recurrent state, which vLLM keeps in float32 (``mamba_ssm_cache_dtype``); never more."""
_STEP_TOKENS = 8192
"""Of a prompt that vLLM reads at once on a GPU, which layers with a window keep meanwhile."""
# The names of layers in the configs of transformers 4 and 5; an MLP between them keeps nothing.
_WHOLE = frozenset({"full_attention", "attention", "hybrid", "*"})
_WINDOW = frozenset({"sliding_attention", "chunked_attention"})
_RECURRENT = frozenset({"linear_attention", "mamba", "mamba2", "hybrid", "M"})
_CONVOLUTION = "conv"
_OF_STATES = frozenset(
    {"mamba_d_state", "ssm_state_size", "state_size", "linear_key_head_dim", "linear_attn_config", "attn_type_list"}
)
"""Keys that only configs of models with recurrent layers have."""
# The sizes of a recurrent state, by the keys of Qwen3-Next, of Granite 4 and Falcon-H1, and of Nemotron-H.
_STATES = (
    ("linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"),
    ("mamba_n_heads", "mamba_d_head", "mamba_d_state"),
    ("mamba_num_heads", "mamba_head_dim", "ssm_state_size"),
)


def cache_bytes(config: Mapping[str, Any], n_tokens: int, n_bytes: int) -> int:
    """Return the bytes of cache that one context of ``n_tokens`` takes, 0 where the config does not say.

    ``config`` describes the language model, ``n_bytes`` are those of a number in the cache. Layers with a sliding
    window keep its tokens and those of one step, multi-head latent attention (DeepSeek) one latent per token, and
    recurrent layers a state that does not grow. vLLM pads these a little (vllm-project/vllm@v0.32.0
    vllm/v1/kv_cache_interface.py).
    """
    per_token, layers = _numbers_per_token(config), layers_of(config)
    window = _count(config, "sliding_window") or _count(config, "attention_chunk_size") or n_tokens
    windowed = min(n_tokens, window + _STEP_TOKENS)
    n_kept = sum(n_tokens if kind in _WHOLE else windowed for kind in layers if kind in _WHOLE | _WINDOW)
    states = sum(kind in _RECURRENT for kind in layers) * _numbers_of_state(config)
    return per_token * n_kept * n_bytes + states * _STATE_BYTES


def layers_of(config: Mapping[str, Any]) -> Sequence[str]:
    """Return the kind of every layer, as the config names them."""
    n_layers = _count(config, "num_hidden_layers")
    for key in ("layer_types", "layers_block_type", "hybrid_override_pattern"):
        # The last is a text with a letter per layer.
        if isinstance(kinds := config.get(key), list | str) and kinds:
            return [str(kind) for kind in kinds]
    if interval := _count(config, "full_attention_interval"):
        return ["linear_attention" if number % interval else "full_attention" for number in range(1, n_layers + 1)]
    if isinstance(places := config.get("full_attn_idxs"), list):
        return ["full_attention" if place in places else _CONVOLUTION for place in range(n_layers)]
    return ["full_attention" if _OF_STATES.isdisjoint(config) else "hybrid"] * n_layers


def has_states(config: Mapping[str, Any]) -> bool:
    """Whether layers keep a state of what they have read (hybrid models), which can be resumed at its end only."""
    return not {*_RECURRENT, _CONVOLUTION}.isdisjoint(layers_of(config))


def rotates_by_head(config: Mapping[str, Any]) -> bool:
    """Whether vLLM hands queries on to be rotated in three dimensions: latent attention (DeepSeek, Kimi), and LFM2."""
    return _count(config, "kv_lora_rank") > 0 or _CONVOLUTION in layers_of(config)


def has_gated_delta(config: Mapping[str, Any]) -> bool:
    """Whether there are layers of a gated delta net (Qwen3-Next, Qwen3.5)."""
    return _count(config, "linear_key_head_dim") > 0 and "linear_attention" in layers_of(config)


def _numbers_per_token(config: Mapping[str, Any]) -> int:
    """Return how many numbers an attention layer keeps of a token."""
    if latent := _count(config, "kv_lora_rank"):
        return latent + _count(config, "qk_rope_head_dim")
    heads = _count(config, "num_attention_heads")
    head_dim = _count(config, "head_dim") or _count(config, "hidden_size") // max(heads, 1)
    return 2 * (_count(config, "num_key_value_heads") or heads) * head_dim


def _numbers_of_state(config: Mapping[str, Any]) -> int:
    return next((size for keys in _STATES if (size := math.prod(_count(config, key) for key in keys))), 0)


def _count(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if isinstance(value, int) and value > 0 else 0
