"""Weights that are no numbers, and adapters that vLLM cannot serve."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.checkpoint.loading import model_class
from evalsuite.cli import app
from evalsuite.doctor.installation import check_image_package
from evalsuite.doctor.weights import check_adapter, check_architecture, check_weights
from evalsuite.errors import CheckpointError
from evalsuite.lm_eval import ServedLM
from tests.evalsuite.generation_endpoint import write_chats
from tests.evalsuite.tiny_checkpoint import llama_shapes, write_checkpoint
from tests.evalsuite.tiny_training import write_tiny_image_model, write_tiny_model

ROWS = 258
LORA = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": (8, 4)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))


def model(folder, dtype=torch.float32, **broken):
    """Write a checkpoint whose weights are ones, but for one value of each tensor in ``broken`` (. is written __)."""
    write_checkpoint(folder)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": ROWS, "num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {name: torch.ones(shape, dtype=dtype) for name, shape in llama_shapes(rows=ROWS).items()}
    for name, value in broken.items():
        weights[name.replace("__", ".")].view(-1)[-1] = value
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tensor", ["model__norm__weight", "lm_head__weight", "model__embed_tokens__weight"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_a_fault(tmp_path, dtype, tensor, value):
    [finding] = check_weights(resolve(str(model(tmp_path / "m", dtype, **{tensor: value}))))
    assert finding.level == "fault"
    assert "NaN or infinite values" in finding.message


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_the_largest_and_the_smallest_numbers_are_numbers(tmp_path, dtype):
    limits = torch.finfo(dtype)
    folder = model(tmp_path / "m", dtype, model__norm__weight=limits.max, lm_head__weight=limits.tiny)
    assert check_weights(resolve(str(folder))) == []


def test_weights_that_the_architecture_has_and_the_checkpoint_lacks_are_a_fault(tmp_path):
    folder = write_tiny_model(tmp_path / "m")
    assert check_architecture(resolve(str(folder))) == []
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    [finding] = check_architecture(resolve(str(folder)))
    assert (finding.level, "model.layers.1.mlp.up_proj.weight" in finding.message) == ("fault", True)
    # Of a model that transformers does not know, nothing is known.
    assert check_architecture(resolve(str(write_checkpoint(tmp_path / "odd")))) == []


def test_an_image_model_is_checked_as_the_class_that_its_config_names(tmp_path):
    folder = write_tiny_image_model(tmp_path / "m")
    assert model_class(folder).__name__ == "Qwen2_5_VLForConditionalGeneration"
    assert check_architecture(resolve(str(folder))) == []
    weights = load_file(folder / "model.safetensors")
    del weights["visual.blocks.0.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    [finding] = check_architecture(resolve(str(folder)))
    assert (finding.level, "visual.blocks.0.mlp.up_proj.weight" in finding.message) == ("fault", True)
    # A class that is not the model type's is not loaded, and neither is one of the checkpoint's own.
    config = json.loads((folder / "config.json").read_text())
    for other in ({"model_type": "llama"}, {"architectures": ["AutoModelForCausalLM"]}, {"auto_map": {}}):
        (folder / "config.json").write_text(json.dumps({**config, **other}))
        assert model_class(folder) is AutoModelForCausalLM


@pytest.mark.parametrize(("config", "is_warned"), [({"vision_config": {}}, True), ({}, False)])
def test_an_image_model_without_torchvision_is_warned_of(monkeypatch, config, is_warned):
    checkpoint = Checkpoint("m", None, "f" * 64, config=config)
    monkeypatch.setattr("evalsuite.doctor.installation.find_spec", lambda name: None)
    assert [finding.level for finding in check_image_package(checkpoint)] == ["warning"] * is_warned
    monkeypatch.setattr("evalsuite.doctor.installation.find_spec", lambda name: name)
    assert not check_image_package(checkpoint)


def adapter(tmp_path, tensors=None, **settings):
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(
        {name: torch.ones(shape) for name, shape in (tensors or LORA).items()}, folder / "adapter_model.safetensors"
    )
    plain = {"base_model_name_or_path": str(model(tmp_path / "base")), "peft_type": "LORA", "r": 8, "lora_alpha": 16}
    plain |= {"target_modules": ["q_proj"], "bias": "none", "init_lora_weights": True, "modules_to_save": None}
    (folder / "adapter_config.json").write_text(json.dumps(plain | settings))
    return resolve(str(folder))


@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True, "qalora_group_size": 16}, {"rank_pattern": {"q_proj": 64}}]
)
def test_a_plain_adapter_is_no_fault_and_vllm_is_not_asked(tmp_path, monkeypatch, settings):
    monkeypatch.setattr("evalsuite.doctor.weights.subprocess.run", lambda *_, **__: pytest.fail("asked"))
    assert check_adapter(adapter(tmp_path, **settings)) == []


@pytest.mark.parametrize(
    ("tensors", "settings", "message"),
    [
        (None, {"peft_type": "IA3"}, "the type IA3"),
        ({**LORA, "base_model.model.lm_head.weight": (ROWS, 4)}, {}, "full weights besides the adapter's"),
        ({**LORA, "base_model.model.model.embed_tokens.base_layer.weight": (ROWS + 1, 4)}, {}, "full weights"),
        ({**LORA, "base_model.model.model.embed_tokens.base_layer.weight": (ROWS, 4)}, {}, None),
    ],
)
def test_weights_that_are_no_lora_matrices_are_a_fault(tmp_path, tensors, settings, message):
    findings = check_adapter(adapter(tmp_path, tensors, **settings))
    assert [finding.level for finding in findings] == (["fault"] if message else [])
    assert message is None or (message in findings[0].message and "evalsuite sft --merge" in findings[0].remedy)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM says what it serves")
@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"use_dora": True}, "DoRA"), ({"modules_to_save": ["lm_head"]}, "modules_to_save"), ({"r": 1024}, "rank 1024")],
)
def test_vllm_says_which_adapters_it_cannot_serve(tmp_path, settings, reason):
    [finding] = check_adapter(adapter(tmp_path, **settings))
    assert finding.level == "fault"
    assert reason in finding.message
    assert "\n" not in finding.sentence


@pytest.mark.parametrize(
    "command",
    [
        ["compare", "BROKEN", "m@URL", "--judge", "m@URL"],
        ["compare", "m@URL", "n@URL", "--judge", "BROKEN"],
        ["rate", "BROKEN", "--judge", "m@URL"],
        ["judge-card", "BROKEN", "--pairs", "PAIRS"],
        ["generate", "BROKEN", "--prompts", "CHATS", "--out", "OUT"],
        ["run", "BROKEN", "--suite", "openllm:ifeval", "--data", "mini"],
    ],
)
def test_every_command_that_serves_refuses_weights_that_are_no_numbers(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    broken = model(tmp_path / "broken", model__norm__weight=float("nan"))
    (tmp_path / "pairs.jsonl").write_text('{"input": "q", "output_1": "a", "output_2": "b", "label": 1}\n')
    words = {
        "BROKEN": str(broken),
        "PAIRS": "pairs.jsonl",
        "CHATS": str(write_chats(tmp_path / "chats.jsonl", 2)),
        "OUT": "out",
    }
    url = "http://127.0.0.1:9/v1"
    done = CliRunner().invoke(app, [words.get(word, word.replace("URL", url)) for word in command])
    assert "broken: its weights have NaN or infinite values (model.norm.weight)" in done.output
    assert done.exit_code == 2
    with pytest.raises(CheckpointError, match="NaN or infinite values"):
        ServedLM(str(broken))
