"""The language model in the config of a model that also reads images or audio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_INNER = ("text_config", "llm_config", "language_config")
_SIZES = (
    "max_position_embeddings",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
    "layer_types",
)
_ALWAYS = ("max_position_embeddings", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config that describes the language model; the config itself if it has no parts.

    Qwen-Omni's is in its thinker's part, InternVL's and DeepSeek-VL2's have other names.
    """
    for name in _path(config):
        config = config[name]
    return config


def _path(config: Mapping[str, Any]) -> list[str]:
    """Return the keys that lead to the text part; none where the config has no parts."""
    path = ["thinker_config"] if isinstance(config.get("thinker_config"), dict) else []
    outer = config[path[0]] if path else config
    return path + [name for name in _INNER if isinstance(outer.get(name), dict)][:1]


def in_all_parts(settings: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings for a config and, nested as its keys are, for its text part."""
    nested = dict(settings)
    for name in reversed(_path(config)):
        nested = {name: nested}
    return {**settings, **nested}


def with_sizes(config: dict[str, Any]) -> dict[str, Any]:
    """Return a config whose text part has every size, as transformers completes it.

    Published ones leave out what is their class's default: Gemma 3's the context, the vocabulary and the heads.
    """
    text = config.get("text_config")
    if not isinstance(text, dict) or all(key in text for key in _ALWAYS):
        return config
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        whole = CONFIG_MAPPING[str(config.get("model_type"))].from_dict(dict(config)).get_text_config()
    except Exception:  # a class that transformers does not have, or settings that it refuses in many ways
        return config
    sizes = {key: getattr(whole, key, None) for key in _SIZES if key not in text}
    known = {key: size for key, size in sizes.items() if isinstance(size, int | list)}
    return {**config, "text_config": {**text, **known}}


def end_tokens(config: Mapping[str, Any]) -> list[int]:
    """Return the token ids that end an answer according to a config, or to its text part."""
    for part in (config, text_config(config)):
        if (ends := part.get("eos_token_id")) is not None:
            return list(ends) if isinstance(ends, list) else [ends]
    return []
