"""Bases that cannot be trained are refused in one sentence before anything is tokenised, and what they have is kept."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from evalsuite.checkpoint import resolve
from evalsuite.cli import app
from evalsuite.errors import CheckpointError
from evalsuite.training.adapters import merge
from evalsuite.training.base import check_base
from evalsuite.training.checkpoint_out import write_companions
from evalsuite.training.train import train
from tests.evalsuite.tiny_training import conversation, write_mix, write_recipe, write_tiny_model

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))


def configured(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    return folder


def refusal(folder, method="lora", **trust):
    with pytest.raises(CheckpointError) as error:
        check_base(resolve(str(folder), **trust), method)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_whole_base_is_taken_without_loading_its_weights(tmp_path):
    check_base(resolve(str(write_tiny_model(tmp_path / "m"))), "full")


def test_weights_that_its_architecture_has_and_the_base_lacks_are_named(tmp_path):
    folder = write_tiny_model(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 weights of its architecture (model.layers.1.mlp.up_proj.weight)" in refusal(folder)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"intermediate_size": 48}, "has 64 as intermediate_size in its weights and 48 in its config"),
        ({"num_key_value_heads": 1}, "another shape"),
    ],
)
def test_weights_of_another_shape_are_refused(tmp_path, setting, said):
    assert said in refusal(configured(write_tiny_model(tmp_path / "m"), **setting))


@pytest.mark.parametrize(
    ("quantised", "said"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes 4-bit"),
        ({"quant_method": "gptq", "bits": 4}, "gptq 4-bit"),
        ({"quant_method": "of-my-own"}, "of-my-own"),
    ],
)
def test_a_quantised_base_is_refused_by_name(tmp_path, quantised, said):
    folder = configured(write_tiny_model(tmp_path / "m"), quantization_config=quantised)
    assert f"is quantised ({said})" in refusal(folder, "full")
    if said != "of-my-own":  # which transformers loads as if it were not quantised
        assert said.split()[0] in refusal(folder, "lora").lower()


def test_code_of_the_base_runs_only_when_trusted(tmp_path):
    folder = write_tiny_model(tmp_path / "m")
    mark = tmp_path / "ran"
    (folder / "own.py").write_text(
        f"open({str(mark)!r}, 'w')\nfrom transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    configured(
        folder, model_type="own", auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    )
    assert "pass --trust-remote-code" in refusal(folder)
    assert not mark.exists()
    check_base(resolve(str(folder), trust_remote_code=True), "lora")
    assert mark.exists()


def test_the_command_exits_with_2_before_anything_is_written(tmp_path):
    folder = configured(write_tiny_model(tmp_path / "m"), quantization_config={"quant_method": "gptq", "bits": 4})
    recipe = write_recipe(tmp_path / "recipe.yaml", folder)
    mix = write_mix(tmp_path / "mix", [conversation(i) for i in range(4)])
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["sft", str(recipe), "--data", str(mix), "--out", str(out)])
    assert (result.exit_code, out.exists()) == (2, False)
    assert "is quantised (gptq 4-bit)" in result.output
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    result = CliRunner().invoke(app, ["sft", str(recipe), "--data", str(mix), "--out", str(out)])
    assert "--allow-pickle" in result.output
    result = CliRunner().invoke(app, ["sft", str(recipe), "--data", str(mix), "--out", str(out), "--allow-pickle"])
    assert "is quantised (gptq 4-bit)" in result.output


def test_the_settings_of_a_processor_and_trusted_code_go_with_the_weights(tmp_path):
    base, out = tmp_path / "base", tmp_path / "out"
    base.mkdir()
    out.mkdir()
    kept = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json", "vocab.txt")
    left = ("model.safetensors", "model.safetensors.index.json", "training.json", "trainer_state.json", "README.md")
    for name in (*kept, *left, "chat_template.json", "config.json", "modeling_own.py"):
        (base / name).write_text(name)
    (out / "config.json").write_text("new")
    write_companions(base, out, code=False)
    assert {file.name for file in out.iterdir()} == {*kept, "config.json"}
    assert (out / "config.json").read_text() == "new"
    write_companions(base, out, code=True)
    assert (out / "modeling_own.py").is_file()


def quantised_by_compressed_tensors(folder, *, inputs=False):
    """Write a model's linear layers as int8 with a scale per row, as llm-compressor's W8A16, or W8A8 (``inputs``)."""
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if name.endswith("proj.weight")]:
        scale = weights[name].abs().amax(1, keepdim=True) / 127
        weights[name + "_scale"] = scale
        rounded = torch.round(weights[name] / scale)
        if inputs:
            weights[name] = rounded.to(torch.int8)
        else:
            del weights[name]
            weights[name + "_packed"] = (rounded + 128).to(torch.uint8).view(torch.int32)
            weights[name + "_shape"] = torch.tensor(rounded.shape)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    form = "int" if inputs else "pack"
    numbers = {"num_bits": 8, "type": "int", "symmetric": True}
    group = {"targets": ["Linear"], "weights": {**numbers, "strategy": "channel", "dynamic": False}}
    if inputs:
        group["input_activations"] = {**numbers, "strategy": "token", "dynamic": True}
    settings = {"quant_method": "compressed-tensors", "format": f"{form}-quantized", "ignore": ["lm_head"]}
    settings |= {"quantization_status": "compressed", "config_groups": {"group_0": group}}
    return configured(folder, quantization_config=settings)


@pytest.mark.skipif(find_spec("compressed_tensors") is None, reason="compressed-tensors is not installed")
def test_an_adapter_is_trained_on_a_quantised_base_but_not_merged_into_it(tmp_path):
    base = quantised_by_compressed_tensors(write_tiny_model(tmp_path / "m"))
    mix = write_mix(tmp_path / "mix", [conversation(i) for i in range(4)])
    recipe = write_recipe(tmp_path / "recipe.yaml", base, method="lora", max_steps=1)
    train(recipe, tmp_path / "adapter", data=str(mix))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
    said = (
        "the base m is quantised (compressed-tensors W8A16 int), and an adapter cannot be merged into quantised weights"
    )
    with pytest.raises(CheckpointError) as error:
        merge(str(tmp_path / "adapter"), tmp_path / "merged")
    assert said in str(error.value)
    recipe = write_recipe(tmp_path / "merging.yaml", base, method="lora", lora={"merge": True})
    with pytest.raises(CheckpointError) as error:
        train(recipe, tmp_path / "never", data=str(mix))
    assert said in str(error.value)
    assert not (tmp_path / "never").exists()
    assert "quantised weights cannot be trained" in refusal(base, "full")


@pytest.mark.skipif(find_spec("compressed_tensors") is None, reason="compressed-tensors is not installed")
def test_a_base_that_rounds_its_inputs_passes_no_gradient_and_is_refused(tmp_path):
    base = quantised_by_compressed_tensors(write_tiny_model(tmp_path / "m"), inputs=True)
    said = "is quantised (compressed-tensors W8A8 int), and no gradient passes layers that round their inputs"
    assert said in refusal(base, "lora")
    model = AutoModelForCausalLM.from_pretrained(base)
    found = []
    model.model.layers[0].self_attn.q_proj.register_forward_hook(lambda _, given, out: found.append((given[0], out)))
    model(torch.tensor([[5, 6]]))
    assert [(given.requires_grad, out.requires_grad) for given, out in found] == [(True, False)]


def test_a_base_that_diverged_is_refused(tmp_path):
    folder = write_tiny_model(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "its weights have NaN or infinite values (model.norm.weight)" in refusal(folder)
