"""Steps, warm-up, packing isolation, the launch command, and the MFU formula."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalsuite.errors import UsageError
from evalsuite.progress import NoProgress
from evalsuite.recipes.training import TrainingConfig
from evalsuite.training.devices import Devices, training_flops
from evalsuite.training.launch import accelerate_config, launch_command
from evalsuite.training.lineage import held_out_figures
from evalsuite.training.plan import Plan, count_steps, read_plan, shrink_warmup
from evalsuite.training.progress import TrainingProgress
from tests.evalsuite.tiny_training import write_tiny_model

H100 = Devices("cuda", 4, "NVIDIA H100 80GB HBM3", True, "flash_attention_2", True)


def plan_of(folder, **changes) -> Plan:
    values = {
        "base": "org/base",
        "base_folder": "base",
        "template": "{{ messages }}",
        "end_id": 1,
        "config": TrainingConfig(base="org/base"),
        "devices": H100,
        "seed": 0,
        "work": str(folder),
        "packed": True,
        "n_windows": 6400,
        "n_tokens": 6400 * 8000,
        "n_conversations": 50_000,
        "steps": 100,
        "warmup_steps": 100,
        "accumulation": 8,
    }
    return Plan(**{**values, **changes})


def test_the_defaults_match_the_published_run():
    # penfever/wildchat-50m@285b20a:configs/axolotl/rewild-sft.yaml, on the four GPUs of its batch file
    config = TrainingConfig(base="b")
    assert (config.rate, config.schedule, config.warmup_steps, config.epochs) == (2e-5, "cosine", 100, 1.0)
    assert (config.max_length, config.packing, config.gradient_checkpointing) == (8192, True, True)
    assert (config.micro_batch_size, config.batch_size) == (2, 2 * 8 * 4)
    assert config.weight_decay == 0.0


@given(n=st.integers(1, 5000), micro=st.integers(1, 4), accumulation=st.integers(1, 8), devices=st.integers(1, 4))
def test_an_epoch_sees_every_window_once(n, micro, accumulation, devices):
    config = TrainingConfig(base="b", micro_batch_size=micro, batch_size=micro * accumulation * devices)
    steps = count_steps(config, n, devices)
    assert (steps - 1) * config.batch_size < n <= steps * config.batch_size


def test_steps_stop_at_the_limit_and_grow_with_epochs():
    config = TrainingConfig(base="b", batch_size=4, micro_batch_size=1)
    assert count_steps(config, 40, 1) == 10
    assert count_steps(config.model_copy(update={"epochs": 2.5}), 40, 1) == 25
    assert count_steps(config.model_copy(update={"max_steps": 7}), 40, 1) == 7


@pytest.mark.parametrize(("steps", "warmup"), [(1000, 100), (200, 100), (199, 20), (20, 2), (2, 1), (1, 0)])
def test_warm_up_shrinks_only_if_it_would_dominate_the_run(steps, warmup):
    assert shrink_warmup(100, steps) == warmup


def test_a_plan_round_trips_through_its_file(tmp_path):
    plan = plan_of(tmp_path, log_to=("wandb",))
    assert read_plan(plan.write()) == plan
    lora = plan_of(tmp_path, config=TrainingConfig(base="b", method="lora", lora={"rank": 8}))
    assert read_plan(lora.write()) == lora


def test_several_gpus_use_accelerate_with_fsdp(tmp_path):
    plan = plan_of(tmp_path)
    config = accelerate_config(plan)
    assert config["distributed_type"] == "FSDP"
    assert config["num_processes"] == 4
    assert config["mixed_precision"] == "bf16"
    assert config["fsdp_config"]["fsdp_activation_checkpointing"] is True
    command = launch_command(plan, tmp_path / "plan.json", tmp_path / "a.yaml")
    assert command[1:] == [
        "-m", "accelerate.commands.launch", "--config_file", str(tmp_path / "a.yaml"),
        "--module", "evalsuite.training.worker", str(tmp_path / "plan.json"),
    ]  # fmt: skip


def test_accelerate_can_read_the_config(tmp_path):
    import yaml
    from accelerate.commands.config.config_args import ClusterConfig

    path = tmp_path / "accelerate.yaml"
    path.write_text(yaml.safe_dump(accelerate_config(plan_of(tmp_path))))
    parsed = ClusterConfig.from_yaml_file(str(path))
    assert str(parsed.distributed_type).endswith("FSDP")
    assert parsed.fsdp_config["fsdp_version"] == 2


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_samples_do_not_attend_to_each_other(tmp_path, attention):
    from evalsuite.training.loading import load_model
    from evalsuite.training.packing import LEAK_TOLERANCE, packing_leak

    model = load_model(str(write_tiny_model(tmp_path / "m")), attention)
    assert packing_leak(model, 1) < LEAK_TOLERANCE


def test_a_model_whose_packed_samples_attend_to_each_other_is_detected(tmp_path):
    from evalsuite.training.loading import load_model
    from evalsuite.training.packing import LEAK_TOLERANCE, packing_leak

    model = load_model(str(write_tiny_model(tmp_path / "m")), "sdpa")
    # A random tiny model hardly uses its context; larger attention weights make it matter.
    for layer in model.model.layers:
        layer.self_attn.v_proj.weight.data *= 100
        layer.self_attn.o_proj.weight.data *= 100
    real = model.forward

    def forward_without_positions(*args, position_ids=None, **kwargs):
        return real(*args, **kwargs)

    model.forward = forward_without_positions
    assert packing_leak(model, 1) > LEAK_TOLERANCE


def test_flops_and_mfu_by_definition(monkeypatch):
    # Causal attention: 2 products (scores, values) x 2 flops x length / 2 x hidden; times three with the backward pass.
    n_parameters, layers, hidden, length = 8e9, 32, 4096, 1024
    per_token = 6 * n_parameters + 3 * layers * (2 * 2 * length / 2 * hidden)
    assert training_flops(int(n_parameters), layers, hidden, length) == pytest.approx(per_token)
    progress = TrainingProgress(NoProgress(), 10, flops_per_token=2e9, peak_flops=1e12)
    assert progress.mfu is None
    clock = iter(range(100, 200, 10))
    monkeypatch.setattr("evalsuite.training.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    progress.begin(0)
    progress.count(5000)
    progress.at_step(5)
    # 5,000 tokens in the clock's 10 seconds are 500 per second, at 2 GFLOP each 1 of 1 TFLOP/s; what comes after the
    # last step, such as saving, counts in the seconds alone.
    assert progress.seconds == 20
    assert progress.mfu == pytest.approx(1.0)


def test_the_peak_is_from_the_data_sheet_or_unknown():
    assert H100.peak_flops == 9.89e14
    assert replace(H100, name="Unknown GPU").peak_flops is None


def test_held_out_loss_weighs_tokens_and_pairs_conversations():
    figures = held_out_figures({"before": [[10.0, 5], [30.0, 10]], "after": [[5.0, 5], [15.0, 10]]})
    assert figures["loss_before"] == pytest.approx(40 / 15)
    assert figures["loss_after"] == pytest.approx(20 / 15)
    assert figures["change"] == pytest.approx(-20 / 15)
    low, high = figures["change_ci95"]
    assert low <= figures["change"] <= high
    assert math.isclose(low, -1.5)
    assert math.isclose(high, -1.0)
    assert held_out_figures(None) is None


def test_the_trainer_uses_one_of_several_gpus(tmp_path):
    """Without a launcher transformers uses all visible GPUs, and trl then fails to start."""
    from evalsuite.training.worker import training_arguments

    one = replace(H100, n=1, bfloat16=False, attention="sdpa", liger=False)
    assert training_arguments(plan_of(tmp_path, devices=one)).n_gpu == 1


@pytest.mark.parametrize(("dtype", "attention"), [("bfloat16", "flash_attention_2"), ("float32", "sdpa")])
def test_flash_attention_needs_16_bits(monkeypatch, dtype, attention):
    from evalsuite.training import devices

    monkeypatch.setattr(devices, "find_spec", lambda name: object())
    config = TrainingConfig(base="b", dtype=dtype)
    assert devices._attention(config, "cuda", bfloat16=dtype == "bfloat16") == attention
    if dtype == "float32":
        with pytest.raises(UsageError, match="bfloat16"):
            devices._attention(config.model_copy(update={"attention": "flash_attention_2"}), "cuda", bfloat16=False)
