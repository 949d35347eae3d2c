"""The layers of published models, by their configs: the cache of one context, and whether they keep states."""

from __future__ import annotations

import pytest

from evalsuite.checkpoint.layers import cache_bytes, has_states

HEADS = {"num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}
LLAMA = {**HEADS, "num_hidden_layers": 32}
LATENT = {"num_attention_heads": 128, "num_hidden_layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
WINDOWED = {"num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "num_hidden_layers": 24}
DELTA = {
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "num_hidden_layers": 48,
    "linear_num_value_heads": 32,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
}
DELTA_STATES = 36 * 32 * 128 * 128 * 4
MAMBA = {"mamba_n_heads": 48, "mamba_d_head": 64, "mamba_d_state": 128}
MAMBA_STATE = 48 * 64 * 128 * 4
NEMOTRON = {"mamba_num_heads": 128, "mamba_head_dim": 64, "ssm_state_size": 128}


@pytest.mark.parametrize(
    ("config", "n_tokens", "expected"),
    [
        # Llama 3 8B: keys and values of 32 layers with 8 heads of 128.
        (LLAMA, 1000, 1000 * 2 * 32 * 8 * 128 * 2),
        # DeepSeek-V3: a latent of 576 numbers in each of 61 layers.
        (LATENT, 1000, 1000 * 61 * 576 * 2),
        # gpt-oss-20b: every other layer has a window of 128, and a step of 8,192 tokens to read.
        (
            {**WINDOWED, "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 12},
            32768,
            (12 * 32768 + 12 * (128 + 8192)) * 2 * 8 * 64 * 2,
        ),
        (
            {**WINDOWED, "sliding_window": 128, "layer_types": ["sliding_attention"] * 24},
            100,
            100 * 24 * 2 * 8 * 64 * 2,
        ),
        # Qwen3-Next: attention in every fourth layer, by either name.
        ({**DELTA, "full_attention_interval": 4}, 1000, 1000 * 12 * 2 * 2 * 256 * 2 + DELTA_STATES),
        (
            {**DELTA, "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 12},
            1000,
            1000 * 12 * 2 * 2 * 256 * 2 + DELTA_STATES,
        ),
        # Granite 4 as transformers 4 and 5 write it, Falcon-H1 with both in every layer, Nemotron-H with its pattern.
        ({**HEADS, **MAMBA, "layer_types": ["mamba", "attention"]}, 1000, 1000 * 2 * 8 * 128 * 2 + MAMBA_STATE),
        (
            {**HEADS, **MAMBA, "layer_types": ["linear_attention", "full_attention"]},
            1000,
            1000 * 2 * 8 * 128 * 2 + MAMBA_STATE,
        ),
        ({**HEADS, **MAMBA, "num_hidden_layers": 3}, 1000, 3 * (1000 * 2 * 8 * 128 * 2 + MAMBA_STATE)),
        (
            {**HEADS, **NEMOTRON, "hybrid_override_pattern": "M-M*-"},
            1000,
            1000 * 2 * 8 * 128 * 2 + 2 * 128 * 64 * 128 * 4,
        ),
        # LFM2: convolutions keep next to nothing.
        ({**HEADS, "num_hidden_layers": 4, "full_attn_idxs": [2]}, 1000, 1000 * 2 * 8 * 128 * 2),
        ({}, 1000, 0),
    ],
)
def test_the_cache_of_a_context_is_what_the_layers_keep(config, n_tokens, expected):
    assert cache_bytes(config, n_tokens, 2) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LLAMA, False),
        (LATENT, False),
        ({**WINDOWED, "layer_types": ["sliding_attention", "full_attention"] * 12}, False),
        ({**DELTA, "full_attention_interval": 4}, True),
        ({**DELTA, "layer_types": ["linear_attention", "full_attention"]}, True),
        ({**HEADS, **MAMBA, "num_hidden_layers": 3}, True),
        # Granite 4 has the keys of Mamba in its dense models too.
        ({**HEADS, **MAMBA, "layer_types": ["attention", "attention"]}, False),
        ({**HEADS, **NEMOTRON, "hybrid_override_pattern": "M-M*-"}, True),
        ({"num_hidden_layers": 8, "attn_layer_period": 8, "mamba_d_state": 16}, True),
        ({"num_hidden_layers": 2, "state_size": 16}, True),
        ({**HEADS, "layer_types": ["conv", "full_attention"]}, True),
        ({}, False),
    ],
)
def test_hybrid_models_keep_states(config, expected):
    assert has_states(config) is expected
