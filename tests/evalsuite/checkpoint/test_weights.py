"""Weights that are missing, empty, unmerged or of another shape: refused in one sentence before anything is loaded."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from evalsuite.checkpoint import resolve, weight_bytes
from evalsuite.checkpoint.layers import cache_bytes
from evalsuite.checkpoint.text_part import text_config
from evalsuite.doctor.capacity import check_parallel
from evalsuite.errors import CheckpointError
from evalsuite.serving.config import ServeConfig
from tests.evalsuite.tiny_checkpoint import llama_shapes, write_checkpoint, write_tensors

ROWS = 258
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "vocab_size": ROWS}


def llama(folder, shapes=None, **config):
    """Write a checkpoint with some of a Llama's weights."""
    write_checkpoint(folder)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "max_position_embeddings": 2048, **config}))
    write_tensors(folder / "model.safetensors", shapes or llama_shapes(rows=ROWS))
    return folder


def error_of(folder, **options):
    with pytest.raises(CheckpointError) as error:
        resolve(str(folder), **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_whole_weights_are_taken(tmp_path):
    assert resolve(str(llama(tmp_path / "whole"))).embedding_rows == ROWS
    tied = llama_shapes(rows=ROWS, tied=True)
    assert resolve(str(llama(tmp_path / "tied", tied, tie_word_embeddings=True))).fingerprint


@pytest.mark.parametrize(
    ("config", "is_refused"),
    [
        ({"tie_word_embeddings": False}, True),
        ({}, True),  # Llama's default
        ({"tie_word_embeddings": True}, False),
        ({"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}, False),  # tied by default
        ({"architectures": ["LlamaForSequenceClassification"]}, False),  # a reward model has another head
        ({"model_type": "of-my-own"}, False),
        ({"text_config": {"tie_word_embeddings": False, "vocab_size": ROWS}}, True),
    ],
)
def test_a_model_with_a_head_of_its_own_has_one(tmp_path, config, is_refused):
    folder = llama(tmp_path / "m", llama_shapes(rows=ROWS, tied=True), **config)
    if is_refused:
        assert "no lm_head.weight" in error_of(folder)
    else:
        assert resolve(str(folder)).fingerprint


def test_every_tensor_of_the_index_is_in_a_shard(tmp_path):
    folder = llama(tmp_path / "m")
    index = dict.fromkeys(llama_shapes(rows=ROWS), "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert resolve(str(folder)).fingerprint
    lost = {"weight_map": {**index, "model.layers.1.mlp.up_proj.weight": "model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(lost))
    assert "lacks 1 of the 6 tensors that its index lists (model.layers.1.mlp.up_proj.weight)" in error_of(folder)


def test_every_layer_has_weights(tmp_path):
    shapes = {name: shape for name, shape in llama_shapes(rows=ROWS).items() if ".layers.1." not in name}
    assert "no weights for 1 of 2 layers (layer 1)" in error_of(llama(tmp_path / "m", shapes))


def test_every_expert_has_weights(tmp_path):
    experts = {
        f"model.layers.{layer}.mlp.experts.{expert}.{part}.weight": (4, 4)
        for layer in range(2)
        for expert in range(4)
        for part in ("gate_proj", "up_proj", "down_proj")
    }
    shapes = llama_shapes(rows=ROWS) | experts
    assert resolve(str(llama(tmp_path / "whole", shapes, num_experts=4))).fingerprint
    shapes["model.layers.1.mlp.experts.2.up_proj.qweight"] = shapes.pop("model.layers.1.mlp.experts.2.up_proj.weight")
    assert resolve(str(llama(tmp_path / "mixed", shapes, num_experts=4))).fingerprint
    del shapes["model.layers.1.mlp.experts.2.up_proj.qweight"]
    said = error_of(llama(tmp_path / "lost", shapes, num_experts=4))
    assert "no weights for 1 of 4 experts (model.layers.1.mlp.experts.2.up_proj)" in said
    nested = {"text_config": {"n_routed_experts": 6, "vocab_size": ROWS}}
    assert "no weights for 2 of 6 experts" in error_of(
        llama(tmp_path / "more", llama_shapes(rows=ROWS) | experts, **nested)
    )


def test_the_embedding_has_the_size_that_the_config_says(tmp_path):
    assert "258 rows in its embedding, and its config has vocab_size 300" in error_of(
        llama(tmp_path / "m", vocab_size=300)
    )


def test_the_first_mlp_has_the_widths_that_the_config_says(tmp_path):
    shapes = {**llama_shapes(rows=ROWS), "model.layers.0.mlp.gate_proj.weight": (12, 4)}
    assert resolve(str(llama(tmp_path / "fits", shapes, intermediate_size=12, hidden_size=4))).fingerprint
    assert "12 as intermediate_size in its weights and 9 in its config" in error_of(
        llama(tmp_path / "narrow", shapes, intermediate_size=9)
    )
    assert "4 as hidden_size in its weights and 5 in its config" in error_of(
        llama(tmp_path / "wide", shapes, hidden_size=5)
    )
    packed = llama(tmp_path / "packed", shapes, intermediate_size=9, quantization_config={"quant_method": "awq"})
    assert resolve(str(packed)).fingerprint


INSIDE = ("language_model.model.", "model.language_model.", "model.text_model.", "thinker.model.")
"""Before the names of the language model's tensors, in models that also read images."""


@pytest.mark.parametrize("prefix", INSIDE)
def test_the_language_model_of_an_image_model_is_checked_too(tmp_path, prefix):
    shapes = {**llama_shapes(rows=ROWS), "model.layers.0.mlp.gate_proj.weight": (12, 4)}
    shapes = {name.replace("model.", prefix, 1): shape for name, shape in shapes.items()}
    whole = {"vocab_size": ROWS, "num_hidden_layers": 2, "intermediate_size": 12}
    assert resolve(str(llama(tmp_path / "whole", shapes, text_config=whole))).embedding_rows == ROWS
    for key, value, said in (
        ("vocab_size", 300, "258 rows in its embedding"),
        ("num_hidden_layers", 3, "no weights for 1 of 3 layers (layer 2)"),
        ("intermediate_size", 9, "12 as intermediate_size in its weights and 9"),
    ):
        assert said in error_of(llama(tmp_path / key, shapes, text_config={**whole, key: value}))


def test_sizes_that_a_text_config_leaves_out_are_those_of_its_class(tmp_path):
    """Gemma 3 4B's config leaves out its context, vocabulary and heads (Gemma 3 report, arXiv:2503.19786, table 1)."""
    text = {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10_240}
    text |= {"num_hidden_layers": 34, "sliding_window": 1024}
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "dtype": "bfloat16"}
    folder = write_checkpoint(tmp_path / "gemma")
    (folder / "config.json").write_text(json.dumps({**config, "text_config": text, "vision_config": {}}))
    checkpoint = resolve(str(folder))
    assert (checkpoint.context_length, checkpoint.embedding_rows) == (131_072, 262_208)
    assert checkpoint.config["text_config"]["hidden_size"] == 2560
    # Keys and values of 4 heads of 256 numbers each, 2 bytes per number; every sixth layer keeps the whole context, the
    # others their window and the 8,192 tokens that vLLM reads at once.
    n_kept = 5 * 32_768 + 29 * (1024 + 8192)
    assert cache_bytes(text_config(checkpoint.config), 32_768, 2) == 2 * 4 * 256 * 2 * n_kept
    [finding] = check_parallel(checkpoint, ServeConfig(tensor_parallel_size=3))
    assert "8 attention heads" in finding.sentence


def test_tensors_without_elements_are_refused(tmp_path):
    folder = llama(tmp_path / "m", {**llama_shapes(rows=ROWS), "model.layers.0.mlp.up_proj.weight": (0,)})
    assert "1 empty tensors (model.layers.0.mlp.up_proj.weight)" in error_of(folder)
    (folder / "global_step12").mkdir()
    assert "zero_to_fp32.py" in error_of(folder)


def test_a_shard_without_its_fellows_and_without_an_index_is_refused(tmp_path):
    folder = llama(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    assert "lacks 1 of 2 shards (model-00002-of-00002.safetensors)" in error_of(folder)
    save_file({"more": np.ones(1, np.float32)}, folder / "model-00002-of-00002.safetensors")
    assert resolve(str(folder)).fingerprint


@pytest.mark.parametrize("has_config", [True, False])
@pytest.mark.parametrize(
    ("shards", "command"),
    [
        ("global_step500/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_to_fp32.py"),
        ("pytorch_model_fsdp_0/__0_0.distcp", "accelerate merge-weights"),
        ("__0_0.distcp", "accelerate merge-weights"),
    ],
)
def test_unmerged_shards_name_the_command_that_merges_them(tmp_path, shards, command, has_config):
    folder = llama(tmp_path / "checkpoint-500")
    (folder / "model.safetensors").unlink()
    for file in ("rng_state_0.pth", "scheduler.pt", "optimizer.pt", "training_args.bin"):
        (folder / file).write_bytes(b"pickle")
    if not has_config:
        (folder / "config.json").unlink()
    (folder / shards).parent.mkdir(exist_ok=True)
    (folder / shards).write_bytes(b"shard")
    for allow_pickle in (True, False):
        assert command in error_of(folder, allow_pickle=allow_pickle)


def test_states_of_a_training_are_no_weights(tmp_path):
    folder = llama(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    for file in ("rng_state_0.pth", "scheduler.pt", "optimizer.pt", "random_states_0.pkl", "training_args.bin"):
        (folder / file).write_bytes(b"pickle")
    assert "no weights" in error_of(folder, allow_pickle=True)
    (folder / "pytorch_model.bin").write_bytes(b"12345")
    assert "pickled weights (pytorch_model.bin)" in error_of(folder)
    assert weight_bytes(resolve(str(folder), allow_pickle=True)) == 5
    (folder / "pytorch_model.bin").rename(folder / "pytorch_model-00001-of-00002.bin")
    assert "lacks 1 of 2 shards" in error_of(folder, allow_pickle=True)


@pytest.mark.parametrize("index", ["{}", '{"metadata": {}}', '{"weight_map": {}}'])
def test_an_index_without_weight_map_is_named(tmp_path, index):
    folder = llama(tmp_path / "m")
    (folder / "model.safetensors.index.json").write_text(index)
    assert "has no weight_map" in error_of(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"n_positions": 1024},
        {"n_ctx": 1024},
        {"max_sequence_length": 1024},
        {"max_seq_len": 1024},
        {"text_config": {"max_position_embeddings": 1024}},
        {"llm_config": {"max_position_embeddings": 1024}},
        {"thinker_config": {"text_config": {"max_position_embeddings": 1024}, "seconds_per_chunk": 2}},
    ],
)
def test_the_context_is_found_under_its_other_names(tmp_path, config):
    folder = write_checkpoint(tmp_path / "m")
    (folder / "config.json").write_text(json.dumps(config))
    assert resolve(str(folder)).context_length == 1024
