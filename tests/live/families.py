"""Checkpoints of a few hundred thousand random weights in the manner of today's families, written by transformers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.evalsuite.training.families import QWEN3

_TURNS = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 is even) %}"
    "{{ raise_exception('only user and assistant, in turn') }}{% endif %}"
)
MISTRAL = (
    f"{_TURNS}{{% if m.role == 'user' %}}[INST] {{{{ m.content }}}} [/INST]"
    "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
"""No system turn, roles that must alternate, and an answer right behind the user's turn."""
PHI3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""A control token per role."""
SMOLVLM = (
    "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}: {% for part in m.content %}"
    "{% if part.type == 'image' %}<image>{% elif part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""Contents are lists of parts only."""

SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "initializer_range": 0.15,
}
"""Heads of 32 numbers, the smallest that vLLM serves on a CPU, and weights that are sure of their next token."""
N_HALF = 12
"""Half of the numbers of a Phi-3-like head that are rotated."""
LONG_ROPE = {
    "type": "longrope",
    "short_factor": [1.0 + 0.05 * i for i in range(N_HALF)],
    "long_factor": [2.0 + 0.5 * i for i in range(N_HALF)],
}


@dataclass(frozen=True)
class Family:
    """``config`` names a class of transformers and its settings; ``ends`` are the tokens that end an answer.

    ``style`` is how it thinks, and ``silent`` is written behind its prompt to switch that off where the template has no
    switch.
    A family with ``vision``, the settings of an encoder, has the language model's in the text part of its config;
    ``around`` are settings beside the two, and ``named`` those that are tokens.
    """

    config: str
    template: str
    tokenizer_class: str
    tokens: Callable[[], Any]
    ends: tuple[str, ...]
    bos: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    style: str | None = None
    silent: str = ""
    vision: dict[str, Any] | None = None
    around: dict[str, Any] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)


def byte_level(special: Sequence[str], added: Sequence[str] = ()) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in added])
    return tokenizer


def sentencepiece(special: Sequence[str]) -> Any:
    """Return a tokenizer as converted from SentencePiece: "▁" for spaces, one before the text, bytes as fallback."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127))]
    model = models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], unk_token="<unk>")
    model.byte_fallback = model.fuse_unk = True
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<unk>", "<s>", "</s>", *special)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


SIGLIP = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}

FAMILIES = {
    "qwen3": Family(
        config="Qwen3Config",
        settings={"head_dim": 32, "tie_word_embeddings": True},
        template=QWEN3,
        tokenizer_class="Qwen2Tokenizer",
        tokens=lambda: byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ["<think>", "</think>"]),
        ends=("<|im_end|>", "<|endoftext|>"),
        style="qwen3",
    ),
    "mistral": Family(
        config="MistralConfig",
        settings={"sliding_window": 48},
        template=MISTRAL,
        tokenizer_class="LlamaTokenizer",
        tokens=lambda: sentencepiece(["[INST]", "[/INST]"]),
        ends=("</s>",),
        bos="<s>",
    ),
    "phi3": Family(
        config="Phi3Config",
        settings={
            "original_max_position_embeddings": 512,
            "rope_scaling": LONG_ROPE,
            "partial_rotary_factor": 2 * N_HALF / 32,
        },
        template=PHI3,
        tokenizer_class="LlamaTokenizer",
        tokens=lambda: sentencepiece(["<|endoftext|>", "<|assistant|>", "<|system|>", "<|user|>", "<|end|>"]),
        ends=("<|endoftext|>", "<|end|>"),
        bos="<s>",
    ),
    # vLLM imports torchvision for most other models that also read images; its CPU build may be missing.
    "smolvlm": Family(
        config="SmolVLMConfig",
        settings={"model_type": "llama", "head_dim": 32},
        template=SMOLVLM,
        tokenizer_class="GPT2Tokenizer",
        tokens=lambda: byte_level(["<|im_start|>", "<end_of_utterance>", "<|im_end|>", "<image>"]),
        ends=("<end_of_utterance>", "<|im_end|>"),
        vision=SIGLIP,
        around={"scale_factor": 2, "pad_token_id": 1},
        named={"image_token_id": "<image>"},
    ),
}


def write_family(family: Family, folder: Path) -> Path:
    """Write a checkpoint whose every weight, norms included, was drawn with a seed; without files of a processor."""
    import torch
    import transformers

    folder.mkdir(parents=True)
    tokenizer = family.tokens()
    ends = [tokenizer.token_to_id(token) for token in family.ends]
    bos = tokenizer.token_to_id(family.bos) if family.bos else None
    ids = {"eos_token_id": ends[0], "pad_token_id": ends[0], "bos_token_id": bos}
    sizes = {**SIZES, **ids, **family.settings, "vocab_size": tokenizer.get_vocab_size()}
    torch.manual_seed(0)
    config = getattr(transformers, family.config)
    if family.vision is None:
        model = transformers.AutoModelForCausalLM.from_config(config(**sizes))
    else:
        named = {key: tokenizer.token_to_id(token) for key, token in family.named.items()}
        parts = {"text_config": sizes, "vision_config": family.vision, **family.around, **named}
        model = transformers.AutoModelForImageTextToText.from_config(config(**parts))
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() == 1:
                weights.add_(torch.randn_like(weights) * 0.2)
    model.generation_config.eos_token_id = ends
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": family.tokenizer_class, "eos_token": family.ends[0], "bos_token": family.bos}
    template = {"chat_template": family.template}
    settings = {key: value for key, value in settings.items() if value} | ({} if family.vision else template)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if family.vision is not None:
        (folder / "chat_template.json").write_text(json.dumps(template))
    return folder
