"""Settings passed to trl and peft by name, going on from an adapter, and merging one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evalsuite.checkpoint import resolve
from evalsuite.cli import app
from evalsuite.errors import UsageError
from evalsuite.recipes.training import TrainingConfig
from evalsuite.training.adapters import merge
from evalsuite.training.passthrough import check_settings
from evalsuite.training.plan import read_plan
from evalsuite.training.train import train
from evalsuite.training.worker import training_arguments
from tests.evalsuite.tiny_training import conversation, write_mix, write_recipe, write_tiny_model

pytestmark = pytest.mark.filterwarnings("default")


def config(**sft) -> TrainingConfig:
    return TrainingConfig(base="x", **sft)


@pytest.mark.parametrize(
    ("sft", "message"),
    [
        ({"trainer": {"optimm": "adamw"}}, r"unknown trainer setting 'optimm'; did you mean 'optim'"),
        ({"trainer": {"learning_rate": 1}}, "trainer.learning_rate is set by learning_rate in the recipe"),
        ({"trainer": {"num_train_epochs": 2}}, "trainer.num_train_epochs is set by epochs in the recipe"),
        ({"trainer": {"assistant_only_loss": True}}, "trainer.assistant_only_loss is set by evalsuite"),
        ({"trainer": {"optim": "no_such"}}, "trainer: .*no_such"),
        ({"method": "lora", "lora": {"r": 8}}, "lora.r is set by rank in the recipe"),
        (
            {"method": "lora", "lora": {"use_rslor": True}},
            "unknown lora setting 'use_rslor'; did you mean 'use_rslora'",
        ),
        ({"method": "lora", "lora": {"rnk": 8}}, "unknown lora setting 'rnk'; did you mean 'rank'"),
        ({"method": "lora", "lora": {"layers_to_transform": [0], "target_modules": []}}, "set by targets"),
    ],
)
def test_a_setting_that_cannot_be_passed_on_is_one_sentence(sft, message):
    with pytest.raises(UsageError, match=message) as caught:
        check_settings(config(**sft))
    assert "\n" not in str(caught.value)


def test_they_are_refused_before_a_mix_is_built(tmp_path):
    recipe = write_recipe(tmp_path / "r.yaml", "demo", trainer={"optimm": "adafactor"})
    recipe.write_text(recipe.read_text() + f"mix: {{sources: [{{data: {tmp_path / 'missing.jsonl'}}}]}}\n")
    with pytest.raises(UsageError, match="unknown trainer setting 'optimm'"):
        train(recipe, tmp_path / "out")


def test_known_settings_pass():
    check_settings(config(trainer={"optim": "adafactor", "adam_beta2": 0.95, "lr_scheduler_type": "polynomial"}))
    check_settings(config(method="lora", lora={"rank": 4, "use_rslora": True, "bias": "none"}))


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def mix(tmp_path_factory) -> Path:
    return write_mix(tmp_path_factory.mktemp("mix") / "mix", [conversation(i) for i in range(6)])


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, base, mix) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    lora = {"rank": 4, "use_rslora": True}
    recipe = write_recipe(folder / "r.yaml", base, method="lora", lora=lora, max_steps=2)
    return train(recipe, folder / "adapter", data=str(mix)).folder


@pytest.mark.slow
def test_settings_reach_trl_and_peft(tmp_path, base, mix, adapter):
    written = json.loads((adapter / "adapter_config.json").read_text())
    assert (written["r"], written["use_rslora"]) == (4, True)
    trainer = {"optim": "adafactor", "loss_type": "dft", "save_total_limit": 1}
    outcome = train(
        write_recipe(tmp_path / "r.yaml", base, trainer=trainer, max_steps=2), tmp_path / "out", data=str(mix)
    )
    assert outcome.document["recipe"]["sft"]["trainer"] == trainer


def test_the_trainers_arguments_are_the_recipes(tmp_path, monkeypatch, base, mix):
    from evalsuite.training import train as training

    seen = []
    monkeypatch.setattr(
        training, "run_training", lambda plan, *_: seen.append(plan) or (_ for _ in ()).throw(KeyboardInterrupt)
    )
    recipe = write_recipe(tmp_path / "r.yaml", base, trainer={"adam_beta2": 0.95, "lr_scheduler_type": "polynomial"})
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "out", data=str(mix))
    arguments = training_arguments(read_plan(seen[0].write()))
    assert (arguments.adam_beta2, str(arguments.lr_scheduler_type.value)) == (0.95, "polynomial")


def weights(folder: Path) -> dict:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.slow
def test_training_goes_on_from_an_adapter(tmp_path, base, mix, adapter):
    recipe = write_recipe(tmp_path / "r.yaml", adapter, method="lora", max_steps=2)
    outcome = train(recipe, tmp_path / "more", data=str(mix))
    before = json.loads((adapter / "adapter_config.json").read_text())
    after = json.loads((outcome.folder / "adapter_config.json").read_text())
    assert (after["r"], after["use_rslora"], after["base_model_name_or_path"]) == (
        4,
        True,
        before["base_model_name_or_path"],
    )
    resolved = resolve(str(outcome.folder))
    assert resolved.path == base.resolve() or resolved.path == base
    assert resolved.fingerprint != resolve(str(adapter)).fingerprint
    first, last = outcome.document["loss"][0][1], json.loads((adapter / "training.json").read_text())["loss"][-1][1]
    assert abs(first - last) < 0.5, "it begins where the adapter ended"


@pytest.mark.slow
def test_an_adapter_is_merged_into_full_weights(tmp_path, base, adapter):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    result = CliRunner().invoke(app, ["sft", "--merge", str(adapter), "--out", str(tmp_path / "merged")])
    assert result.exit_code == 0, result.output
    merged = resolve(str(tmp_path / "merged"))
    assert merged.adapter is None
    assert merged.chat_template == resolve(str(adapter)).chat_template
    ids = torch.tensor([[0, 5, 9, 33]])
    tuned = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter))
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert torch.allclose(tuned(ids).logits, whole(ids).logits, atol=1e-5)
    assert merge(str(adapter), tmp_path / "merged") == tmp_path / "merged", "and again there is nothing to do"


@pytest.mark.slow
def test_what_cannot_be_merged_or_gone_on_from_is_one_sentence(tmp_path, base, mix, adapter):
    with pytest.raises(UsageError, match="is not a LoRA adapter; --merge takes the folder of one"):
        merge(str(base), tmp_path / "out")
    with pytest.raises(
        UsageError, match=r"is a LoRA adapter; set method: lora .* or merge it first with evalsuite sft --merge"
    ):
        train(write_recipe(tmp_path / "f.yaml", adapter), tmp_path / "out", data=str(mix))
    with pytest.raises(UsageError, match=r"lora.rank is given, but the base .* is an adapter with its own settings"):
        train(
            write_recipe(tmp_path / "l.yaml", adapter, method="lora", lora={"rank": 8}), tmp_path / "out", data=str(mix)
        )
    for arguments in (["sft", "--out", "x"], ["sft", "r.yaml", "--merge", "a", "--out", "x"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 2
        assert "give either RECIPE, or --merge" in result.stderr


def logits_of(model, ids):
    import torch

    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dora", "grown"])
def test_an_adapter_that_cannot_be_served_is_merged(tmp_path, base, kind):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    options = {"use_dora": True} if kind == "dora" else {"modules_to_save": ["embed_tokens", "lm_head"]}
    if kind == "grown":
        tokenizer.add_tokens(["<new>", "<newer>"])
        model.resize_token_embeddings(len(tokenizer))
    torch.manual_seed(0)
    tuned = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, **options))
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    tuned.save_pretrained(tmp_path / "adapter")
    tokenizer.save_pretrained(tmp_path / "adapter")
    merge(str(tmp_path / "adapter"), tmp_path / "merged")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = [0, 5, 9, len(tokenizer) - 1]
    assert whole.config.vocab_size == len(tokenizer)
    assert torch.allclose(logits_of(tuned, ids), logits_of(whole, ids), atol=1e-5)
    assert len(AutoTokenizer.from_pretrained(tmp_path / "merged")) == len(tokenizer)
