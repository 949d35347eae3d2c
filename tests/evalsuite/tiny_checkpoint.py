"""A checkpoint folder of a few kilobytes that passes every check short of being served."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_safetensors(path: Path, *, n_values: int = 4, cut: int = 0, name: str = "w") -> None:
    header = {name: {"dtype": "F32", "shape": [n_values], "data_offsets": [0, 4 * n_values]}}
    words = json.dumps(header).encode()
    data = struct.pack("<Q", len(words)) + words + b"\0" * (4 * n_values)
    path.write_bytes(data[: len(data) - cut])


def llama_shapes(*, rows: int, layers: int = 2, width: int = 4, tied: bool = False) -> dict[str, tuple[int, ...]]:
    """Return some of a Llama's tensors: the embedding, a norm of each layer, the last norm, and the head."""
    norms = {f"model.layers.{layer}.input_layernorm.weight": (width,) for layer in range(layers)}
    shapes = {"model.embed_tokens.weight": (rows, width), **norms, "model.norm.weight": (width,)}
    return shapes if tied else {**shapes, "lm_head.weight": (rows, width)}


def write_tensors(path: Path, shapes: dict[str, tuple[int, ...]], value: float = 1.0) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({name: np.full(shape, value, dtype=np.float32) for name, shape in shapes.items()}, path)


def write_tokenizer(folder: Path, template: str | None = TEMPLATE) -> None:
    """A byte-level tokenizer without merges, with two control tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<|im_start|>": 0, "<|im_end|>": 1} | {letter: i + 2 for i, letter in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}
    if template is not None:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_checkpoint(folder: Path, *, template: str | None = TEMPLATE, context: int = 2048, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": context, "dtype": "float32", **more}
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors")
    write_tokenizer(folder, template)
    return folder
