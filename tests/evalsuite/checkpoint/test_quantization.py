"""Quantised checkpoints are recognised wherever their config says it, and named by method and bits."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from evalsuite.checkpoint import resolve
from evalsuite.checkpoint.quantization import quantization
from tests.evalsuite.tiny_checkpoint import llama_shapes, write_checkpoint, write_tensors

INT8 = {"num_bits": 8, "type": "int"}
FP8 = {"num_bits": 8, "type": "float"}
MODELOPT = {"producer": {"name": "modelopt", "version": "0.23.0"}, "quantization": {"quant_algo": "FP8"}}


def compressed(*groups):
    named = {f"group_{i}": {"weights": group[0], "input_activations": group[1]} for i, group in enumerate(groups)}
    return {"quant_method": "compressed-tensors", "config_groups": named}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq 4-bit"),
        ({"quant_method": "awq", "w_bit": 4}, "awq 4-bit"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": True}, "bitsandbytes 8-bit"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        (compressed((INT8, INT8)), "compressed-tensors W8A8 int"),
        (compressed((INT8 | {"num_bits": 4}, None)), "compressed-tensors W4A16 int"),
        (compressed((FP8, FP8), (FP8, FP8), (INT8, None)), "compressed-tensors W8A8 float, W8A16 int"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "modelopt NVFP4"),
        (MODELOPT, "modelopt FP8"),
        (compressed((None, None)) | {"config_groups": {"a": None, "b": {"weights": []}}}, "compressed-tensors"),
        ({"config_groups": [], "producer": "me", "quantization": 4}, "unknown method"),
    ],
)
def test_the_method_and_the_bits_are_named(config, name):
    assert quantization({"quantization_config": config}) == name
    assert quantization({"text_config": {"quantization_config": config}}) == name
    assert quantization({"compression_config": config}) == name


@pytest.mark.parametrize("config", [None, {}, {"quantization_config": None}, {"quantization_config": "4 bits"}])
def test_others_are_not_quantised(config):
    assert quantization(config) is None


def test_a_config_of_its_own_file_counts_as_config_json_does(tmp_path):
    """ModelOpt before 0.31 leaves config.json as it was, with widths that packed weights do not have."""
    shapes = {**llama_shapes(rows=258), "model.layers.0.mlp.gate_proj.weight": (12, 4)}
    folder = write_checkpoint(tmp_path / "m")
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "intermediate_size": 24, "hidden_size": 4}
    (folder / "config.json").write_text(json.dumps(config))
    write_tensors(folder / "model.safetensors", shapes)
    (folder / "hf_quant_config.json").write_text(json.dumps(MODELOPT))
    first = resolve(str(folder))
    assert first.quantization == "modelopt FP8"
    (folder / "hf_quant_config.json").write_text(json.dumps(MODELOPT | {"quantization": {"quant_algo": "NVFP4"}}))
    assert resolve(str(folder)).fingerprint != first.fingerprint


def test_the_same_weights_read_in_another_way_have_another_fingerprint(tmp_path):
    folder = write_checkpoint(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    found = {resolve(str(folder)).fingerprint}
    for bits in (4, 8):
        said = {"quantization_config": {"quant_method": "gptq", "bits": bits}}
        (folder / "config.json").write_text(json.dumps(config | said))
        found.add(resolve(str(folder)).fingerprint)
    assert len(found) == 3


@pytest.mark.parametrize(
    ("changes", "is_plain"),
    [
        ({}, True),
        ({"lm_head.weight": np.float16}, True),
        ({"lm_head.weight": np.int8, "lm_head.weight_scale": np.float32}, False),
        ({"lm_head.qweight": np.int32}, False),
    ],
)
def test_whether_the_head_was_left_as_it_is_is_read_off_its_tensors(tmp_path, changes, is_plain):
    folder = write_checkpoint(tmp_path / "m")
    file = folder / "model.safetensors"
    write_tensors(file, llama_shapes(rows=258))
    save_file(load_file(file) | {name: np.ones((258, 4), kind) for name, kind in changes.items()}, file)
    assert resolve(str(folder)).has_plain_head is is_plain
    write_tensors(file, llama_shapes(rows=258, tied=True))
    assert resolve(str(folder)).has_plain_head
