"""A whole model of a few thousand weights with random values, and a small mix to train it on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import yaml

from tests.evalsuite.tiny_checkpoint import TEMPLATE, write_tokenizer

QUESTIONS = ("What is a lake?", "Name a tree.", "How many legs has a spider?", "Say something short.")
ANSWERS = ("Still water.", "An oak.", "Eight legs.", "Well then.")


def write_tiny_model(folder: Path, template: str | None = TEMPLATE, **config: object) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True)
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    model = LlamaForCausalLM(LlamaConfig(**{**sizes, **config}))
    model.save_pretrained(folder)
    write_tokenizer(folder, template)
    return folder


def write_tiny_image_model(folder: Path) -> Path:
    """Write a Qwen2.5-VL, which AutoModelForCausalLM does not load, with vision weights and a tied head."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    sizes = {"vocab_size": 258, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": 0, "eos_token_id": 1}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    config = Qwen2_5_VLConfig(
        text_config={**sizes, "rope_parameters": rope},
        vision_config={**vision, "fullatt_block_indexes": [0]},
        tie_word_embeddings=True,
    )
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    write_tokenizer(folder)
    (folder / "preprocessor_config.json").write_text("{}")
    return folder


def conversation(i: int, n_turns: int = 1, pad: str = "") -> list[dict[str, str]]:
    turns = []
    for turn in range(n_turns):
        turns.append({"role": "user", "content": f"{QUESTIONS[(i + turn) % 4]} ({i}.{turn})"})
        turns.append({"role": "assistant", "content": f"{ANSWERS[(i + turn) % 4]}{pad}"})
    return turns


def write_mix(
    folder: Path, conversations: list[list[dict[str, str]]], rows_per_shard: int = 100, **mix: object
) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    rows = [
        {"messages": turns, "conversation_hash": f"{i:064x}", "source": "tiny", "dgm": "Q72"}
        for i, turns in enumerate(conversations)
    ]
    shards = []
    for number, start in enumerate(range(0, len(rows), rows_per_shard)):
        path = folder / f"mix-{number:05d}.parquet"
        pq.write_table(pa.Table.from_pylist(rows[start : start + rows_per_shard]), path)
        shards.append({"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    document = {"hash": "f" * 64, "n_rows": len(rows), "dgms": ["Q72"], "contamination": {"mt_bench": 0.0}}
    document |= {"shards": shards, **mix}
    (folder / "mix.json").write_text(json.dumps(document))
    return folder


def write_recipe(path: Path, model: Path | str, **sft: object) -> Path:
    settings = {
        "base": str(model),
        "learning_rate": 1e-3,
        "epochs": 2,
        "batch_size": 2,
        "micro_batch_size": 1,
        "max_length": 128,
        "gradient_checkpointing": False,
        **sft,
    }
    path.write_text(yaml.safe_dump({"name": "tiny", "seed": 1, "sft": settings}))
    return path
