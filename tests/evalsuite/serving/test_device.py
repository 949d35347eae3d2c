"""The dtype that a model is served in follows what the device can do."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest

from evalsuite.checkpoint import Checkpoint, resolve, weight_bytes
from evalsuite.serving import device as device_module
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.device import (
    Device,
    cpu_has_bf16,
    gpus_have_bf16,
    head_dtype,
    own_dtype,
    served_bytes,
    served_dtype,
)
from evalsuite.serving.session import answer_identity, effective_dtype
from tests.evalsuite.test_security import command_of
from tests.evalsuite.tiny_checkpoint import write_checkpoint

CPU, CUDA = Device("cpu", "0"), Device("cuda", "0")
XEON_WITHOUT = "processor\t: 0\nflags\t\t: fpu sse4_2 avx512f avx512_vnni\n"
XEON_WITH = "processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n"
ARM_WITH = "processor\t: 0\nFeatures\t: fp asimd bf16 i8mm\n"


@pytest.fixture
def cpu_info(tmp_path, monkeypatch):
    """Writes what the kernel says of the processor."""
    cpu_has_bf16.cache_clear()
    monkeypatch.setattr(device_module, "_CPU_INFO", tmp_path / "cpuinfo")
    yield (tmp_path / "cpuinfo").write_text
    cpu_has_bf16.cache_clear()


def checkpoint(folder, **config) -> Checkpoint:
    path = write_checkpoint(folder / "ckpt") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return resolve(str(path.parent))


@pytest.mark.parametrize(("text", "has"), [(XEON_WITHOUT, False), (XEON_WITH, True), (ARM_WITH, True), ("", False)])
def test_bfloat16_is_read_off_the_processor(cpu_info, text, has):
    cpu_info(text)
    assert cpu_has_bf16() is has


def test_auto_is_float32_where_the_cpu_only_imitates_bfloat16(cpu_info, tmp_path):
    cpu_info(XEON_WITHOUT)
    own = checkpoint(tmp_path, dtype="bfloat16")
    assert served_dtype(own, "auto", CPU) == "float32"
    assert served_dtype(own, "bfloat16", CPU) == "bfloat16"
    assert served_bytes(own, "auto", CPU) == 2 * served_bytes(own, "auto", CUDA)


def test_auto_is_the_checkpoints_own_dtype_elsewhere(cpu_info, tmp_path):
    cpu_info(XEON_WITH)
    assert served_dtype(checkpoint(tmp_path, dtype="bfloat16"), "auto", CPU) == "bfloat16"
    assert served_dtype(checkpoint(tmp_path / "2", dtype="float16"), "auto", CPU) == "float16"
    cpu_info(XEON_WITHOUT)


@pytest.mark.parametrize(("own", "served"), [("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "bfloat16")])
def test_quantised_weights_are_unpacked_to_16_bits_and_stay_as_small_as_they_are(cpu_info, tmp_path, own, served):
    cpu_info(XEON_WITHOUT)
    packed = checkpoint(tmp_path, dtype=own, quantization_config={"quant_method": "gptq", "bits": 4})
    assert served_dtype(packed, "auto", CPU) == served
    for asked in ("auto", "float32", "bfloat16"):
        assert served_bytes(packed, asked, CPU) == weight_bytes(packed)


@pytest.fixture
def gpus(monkeypatch):
    """Sets what nvidia-smi says of the GPUs' compute capabilities."""

    def say(*capabilities: str) -> None:
        gpus_have_bf16.cache_clear()
        monkeypatch.setattr(device_module, "query_gpus", lambda field: list(capabilities))

    yield say
    gpus_have_bf16.cache_clear()


@pytest.mark.parametrize(
    ("own", "capabilities", "served"),
    [
        ("float32", ["9.0"], "bfloat16"),
        ("float32", ["8.0", "7.5"], "float16"),
        ("bfloat16", ["9.0", "9.0"], "bfloat16"),
        ("bfloat16", ["7.0"], "float16"),
        ("float16", ["9.0"], "float16"),
        ("float64", ["9.0"], None),
        ("bfloat16", [], None),
        ("float32", ["[N/A]"], None),
    ],
)
def test_auto_on_a_gpu_is_what_vllm_makes_of_it(gpus, tmp_path, own, capabilities, served):
    gpus(*capabilities)
    assert served_dtype(checkpoint(tmp_path, dtype=own), "auto", CUDA) == served


@pytest.mark.parametrize(
    ("own", "capability", "served"),
    [("float16", "9.0", "bfloat16"), ("bfloat16", "7.5", "float32"), ("float32", "7.5", "float32")],
)
def test_a_model_that_overflows_in_float16_is_never_served_in_it(gpus, tmp_path, own, capability, served):
    """vllm-project/vllm@v0.32.0 vllm/config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS."""
    gpus(capability)
    assert served_dtype(checkpoint(tmp_path, dtype=own, model_type="gemma2"), "auto", CUDA) == served


def test_the_dtype_of_a_nested_config_is_found(tmp_path):
    assert own_dtype(checkpoint(tmp_path, dtype=None, text_config={"dtype": "bfloat16"})) == "bfloat16"
    assert own_dtype(checkpoint(tmp_path / "2", dtype=None)) is None


@pytest.mark.parametrize(
    ("kind", "own", "dtype"),
    [("cpu", "bfloat16", "float32"), ("cuda", "bfloat16", "bfloat16"), ("cuda", "float32", "bfloat16")],
)
def test_vllm_is_told_the_dtype_that_is_recorded(cpu_info, gpus, tmp_path, monkeypatch, kind, own, dtype):
    cpu_info(XEON_WITHOUT)
    gpus("9.0")
    monkeypatch.setattr("evalsuite.serving.session.installed_vllm", lambda: Device(kind, "0"))
    one = checkpoint(tmp_path, dtype=own)
    words = command_of(one, tmp_path, monkeypatch, kind)
    assert words[words.index("--dtype") + 1] == dtype
    assert answer_identity(one, ServeConfig(), attached=None)["dtype"] == dtype


def test_answers_of_two_dtypes_are_never_taken_for_each_other(cpu_info, tmp_path, monkeypatch):
    cpu_info(XEON_WITHOUT)
    monkeypatch.setattr("evalsuite.serving.session.installed_vllm", lambda: CPU)
    own = checkpoint(tmp_path, dtype="bfloat16")
    here = answer_identity(own, ServeConfig(), attached=None)
    there = answer_identity(own, ServeConfig(), attached="somebody's")
    assert (here["dtype"], there["dtype"]) == ("float32", "bfloat16")


@pytest.mark.parametrize(("kind", "latent", "kept"), [("cpu", 64, False), ("cpu", 0, True), ("cuda", 64, True)])
def test_answers_of_a_kernel_that_was_wrong_are_asked_again(tmp_path, monkeypatch, kind, latent, kept):
    """vLLM's CPU kernel for rotary embeddings, with latent attention."""
    monkeypatch.setattr("evalsuite.serving.session.installed_vllm", lambda: Device(kind, "0"))
    model = checkpoint(tmp_path, dtype="float32", kv_lora_rank=latent)
    assert ("rotary_embedding" not in answer_identity(model, ServeConfig(dtype="float32"), attached=None)) is kept
    assert "rotary_embedding" not in answer_identity(model, ServeConfig(dtype="float32"), attached="somebody's")


def test_answers_under_two_generation_configs_are_never_taken_for_each_other(tmp_path, monkeypatch):
    """They decide how an answer is sampled where that is left to the model, and where it ends."""
    monkeypatch.setattr("evalsuite.serving.session.installed_vllm", lambda: CPU)
    own = checkpoint(tmp_path, dtype="float32")
    found = []
    for text in ('{"eos_token_id": [1, 2]}', '{"eos_token_id": [1]}', "[]", "{"):
        (own.path / "generation_config.json").write_text(text)
        found.append(answer_identity(own, ServeConfig(), attached=None))
    assert found[0] != found[1] != found[2] == found[3]


@pytest.mark.parametrize(("word", "name"), [("half", "float16"), ("float", "float32"), ("bfloat16", "bfloat16")])
def test_a_dtype_has_one_name(tmp_path, word, name):
    one = checkpoint(tmp_path, dtype="float32")
    assert served_dtype(one, word, CUDA) == name
    assert effective_dtype(one, ServeConfig(dtype=word), attached=True) == name


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, "ABC"),
        ("2,1", "CB"),
        ("GPU-22", "C"),
        ("0,-1,2", "A"),
        ("7", ""),
        ("MIG-22ce", "ABC"),
        ("", ""),
        (" ", ""),
    ],
)
def test_only_gpus_in_sight_are_asked_about(monkeypatch, visible, seen):
    """nvidia-smi itself knows nothing of CUDA_VISIBLE_DEVICES, and cannot be asked by a part of an UUID."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    table = "0, GPU-00ab-1, A\n1, GPU-11cd-1, B\n2, GPU-22ce-1, C\n"
    monkeypatch.setattr(
        device_module.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, table)
    )
    assert "".join(device_module.query_gpus("name")) == seen


def overrides_of(command):
    return json.loads(command[command.index("--hf-overrides") + 1]) if "--hf-overrides" in command else None


BF16 = {"dtype": "bfloat16"}
FLOAT32 = {"head_dtype": "float32"}
THINKER = {"text_config": FLOAT32}


@pytest.mark.parametrize(
    ("kind", "own", "has", "serve", "told"),
    [
        ("cuda", BF16, True, {}, FLOAT32),
        ("cuda", BF16, False, {}, None),
        ("cuda", BF16, True, {"head_dtype": "model"}, None),
        # A copy of the layer for every token is not for everybody.
        ("cpu", BF16, True, {}, None),
        ("cpu", BF16, True, FLOAT32, FLOAT32),
        ("cpu", {"dtype": "float32"}, True, FLOAT32, None),
        # vLLM refuses it for a quantised output layer; the weights here have none that is known.
        ("cuda", {**BF16, "quantization_config": {"quant_method": "awq"}}, True, {}, None),
        # The output layer of a model that also reads images is made from the text part.
        ("cuda", {**BF16, "text_config": {}}, True, {}, {**FLOAT32, "text_config": FLOAT32}),
        ("cuda", {**BF16, "thinker_config": {"text_config": {}}}, True, {}, {**FLOAT32, "thinker_config": THINKER}),
        (
            "cuda",
            {**BF16, "text_config": {}},
            True,
            {"vllm_args": ['hf_overrides={"text_config": {"rope_theta": 5}}']},
            {**FLOAT32, "text_config": {**FLOAT32, "rope_theta": 5}},
        ),
        (
            "cuda",
            {**BF16, "thinker_config": {"text_config": {}}},
            True,
            {"vllm_args": ['hf_overrides={"thinker_config": {"text_config": {"rope_theta": 5}}}']},
            {**FLOAT32, "thinker_config": {**THINKER, "text_config": {**THINKER["text_config"], "rope_theta": 5}}},
        ),
        # The user's own overrides are merged, and win.
        ("cuda", BF16, True, {"vllm_args": ['hf_overrides={"rope_theta": 5}']}, {**FLOAT32, "rope_theta": 5}),
        ("cuda", BF16, True, {"vllm_args": ['hf_overrides={"head_dtype": "model"}']}, {"head_dtype": "model"}),
    ],
)
def test_the_output_layer_is_float32_where_the_engine_can_and_is_recorded(
    cpu_info, gpus, tmp_path, monkeypatch, kind, own, has, serve, told
):
    cpu_info(XEON_WITH)
    gpus("8.0")
    monkeypatch.setattr(device_module, "vllm_takes_head_dtype", lambda **_: has)
    monkeypatch.setattr("evalsuite.serving.session.installed_vllm", lambda: Device(kind, "0"))
    model, given = checkpoint(tmp_path, **own), ServeConfig(**serve)
    assert overrides_of(command_of(model, tmp_path, monkeypatch, kind, given)) == told
    recorded = answer_identity(model, given, attached=None).get("head_dtype")
    assert recorded == ("float32" if told and told["head_dtype"] == "float32" else None)
    assert "head_dtype" not in answer_identity(model, given, attached="somebody's server")


def test_a_quantised_checkpoint_whose_head_is_not_has_it_where_the_engine_knows_both(gpus, tmp_path, monkeypatch):
    gpus("8.0")
    packed = checkpoint(tmp_path, **BF16, quantization_config={"quant_method": "awq"})
    for knows, plain, told in ((True, True, "float32"), (True, False, None), (False, True, None)):
        monkeypatch.setattr(
            device_module, "vllm_takes_head_dtype", lambda quantised, knows=knows: knows or not quantised
        )
        assert head_dtype(replace(packed, has_plain_head=plain), ServeConfig(), CUDA) == told


def test_whether_vllm_has_such_a_layer_is_read_off_its_source(tmp_path, monkeypatch):
    layer = tmp_path / "model_executor/layers/logits_processor.py"
    layer.parent.mkdir(parents=True)
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(device_module.util, "find_spec", lambda name: spec)
    own = "self.head_dtype = model_config.head_dtype"
    for text, takes in (
        ("class LogitsProcessor: ...", (False, False)),
        (own, (True, False)),
        (f"isinstance(method, UnquantizedLinearMethod) {own}", (True, True)),
    ):
        layer.write_text(text)
        device_module.vllm_takes_head_dtype.cache_clear()
        assert tuple(device_module.vllm_takes_head_dtype(quantised=quantised) for quantised in (False, True)) == takes
    device_module.vllm_takes_head_dtype.cache_clear()
