"""Training of a tiny random model: from a mix to a checkpoint, kill and resume, and error messages."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from evalsuite.checkpoint import resolve
from evalsuite.cli import app
from evalsuite.errors import CheckpointError, DataError, TrainingError, UsageError
from evalsuite.progress import NoProgress
from evalsuite.training.checkpoint_out import WORK
from evalsuite.training.data import open_training_data
from evalsuite.training.train import train
from tests.evalsuite.tiny_training import (
    conversation,
    write_mix,
    write_recipe,
    write_tiny_image_model,
    write_tiny_model,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


class RecordedProgress(NoProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[str] = []

    def log(self, message: str) -> None:
        self.lines.append(message)

    def step(self, message: str) -> None:
        self.steps.append(message)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def mix(tmp_path_factory) -> Path:
    return write_mix(tmp_path_factory.mktemp("mix") / "mix", [conversation(i, 1 + i % 2) for i in range(14)])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, base, mix):
    folder = tmp_path_factory.mktemp("trained")
    progress = RecordedProgress()
    recipe = write_recipe(folder / "recipe.yaml", base, held_out=2, epochs=4)
    outcome = train(recipe, folder / "ckpt", data=str(mix), progress=progress)
    return recipe, outcome, progress


def test_the_checkpoint_is_complete_and_resolves(trained, base):
    _, outcome, _ = trained
    names = {entry.name for entry in outcome.folder.iterdir()}
    assert names >= {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "training.json"}
    assert "generation_config.json" in names
    assert WORK not in names
    checkpoint = resolve(str(outcome.folder))
    assert checkpoint.training["dgm"] == "Q72"
    assert checkpoint.fingerprint != resolve(str(base)).fingerprint
    assert checkpoint.tokenizer_sha256 is not None
    assert json.loads((outcome.folder / "generation_config.json").read_text())["eos_token_id"] == 1


def test_training_json_documents_the_checkpoint(trained, base):
    _, outcome, _ = trained
    document = outcome.document
    assert document["base"] == str(base)
    assert document["mix_hash"] == "f" * 64
    assert document["n_conversations"] == 12
    assert document["data"]["n_held_out"] == 2
    assert document["dgms"] == ["Q72"]
    assert document["contamination"] == {"mt_bench": 0.0}
    assert set(document["versions"]) >= {"torch", "trl", "transformers"}
    assert [step for step, _ in document["loss"]] == list(range(1, document["steps"] + 1))
    assert document["seconds"] > 0
    assert document["tokens_per_second"] > 0


def test_a_random_model_learns(trained):
    _, outcome, _ = trained
    first, last = outcome.document["loss"][0][1], outcome.document["loss"][-1][1]
    # An untrained model guesses among 258 tokens.
    assert first == pytest.approx(math.log(258), abs=0.3)
    assert last < first - 0.3
    held = outcome.document["held_out"]
    assert held["n"] == 2
    assert held["loss_after"] < held["loss_before"]
    assert held["change"] == pytest.approx(held["loss_after"] - held["loss_before"])


def test_progress_and_the_shorter_warm_up_are_reported(trained):
    _, outcome, progress = trained
    assert any("warm-up of" in line and "instead of 100" in line for line in progress.lines)
    assert outcome.document["warmup_steps"] == max(1, round(outcome.document["steps"] / 10))
    assert any("tokens/s" in step and "loss" in step and "left" in step for step in progress.steps)


def test_a_finished_checkpoint_is_reused_and_another_recipe_rejected(trained, base, mix):
    recipe, outcome, _ = trained
    weights = outcome.folder / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = train(recipe, outcome.folder, data=str(mix))
    assert again.reused
    assert weights.stat().st_mtime_ns == before
    other = write_recipe(recipe.with_name("other.yaml"), base, held_out=2, epochs=3)
    with pytest.raises(UsageError, match=r"another recipe, mix or base.*--fresh"):
        train(other, outcome.folder, data=str(mix))


def test_a_killed_training_resumes_with_the_same_losses(tmp_path, base, mix):
    recipe = write_recipe(tmp_path / "recipe.yaml", base, epochs=6, save_every_steps=3)
    uncut = train(recipe, tmp_path / "uncut", data=str(mix))
    command = [sys.executable, "-m", "evalsuite", "sft", str(recipe), "--data", str(mix)]
    command += ["--out", str(tmp_path / "cut")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = tmp_path / "cut" / WORK / "checkpoints"
    while not list(checkpoints.glob("checkpoint-*/whole.json")) and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = max(int(path.parent.name.rpartition("-")[2]) for path in checkpoints.glob("checkpoint-*/whole.json"))
    assert 0 < kept < uncut.document["steps"]
    assert not (tmp_path / "cut" / "config.json").exists(), "an unfinished training must not look like a checkpoint"
    progress = RecordedProgress()
    cut = train(recipe, tmp_path / "cut", data=str(mix), progress=progress)
    assert [step for step, _ in cut.document["loss"]] == [step for step, _ in uncut.document["loss"]]
    for (_, loss), (_, expected) in zip(cut.document["loss"], uncut.document["loss"], strict=True):
        assert loss == pytest.approx(expected, abs=1e-4)


def test_lora_gives_an_adapter_on_its_base_and_merged_weights_on_request(tmp_path, base, mix):
    lora = {"method": "lora", "lora": {"rank": 4}, "max_steps": 2}
    adapter = train(write_recipe(tmp_path / "a.yaml", base, **lora), tmp_path / "adapter", data=str(mix))
    checkpoint = resolve(str(adapter.folder))
    assert checkpoint.adapter == adapter.folder
    assert checkpoint.path == base
    assert checkpoint.training["method"] == "lora"
    lora["lora"] = {"rank": 4, "merge": True}
    merged = train(write_recipe(tmp_path / "m.yaml", base, **lora), tmp_path / "merged", data=str(mix))
    assert resolve(str(merged.folder)).adapter is None
    assert not (merged.folder / "adapter_config.json").exists()


def test_text_trains_the_language_model_of_an_image_model_alone(tmp_path, mix):
    base = write_tiny_image_model(tmp_path / "base")
    full = train(write_recipe(tmp_path / "f.yaml", base, max_steps=1), tmp_path / "full", data=str(mix)).folder
    assert (full / "preprocessor_config.json").is_file()
    before, after = load_file(base / "model.safetensors"), load_file(full / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any(name.startswith("visual.") for name in changed)
    lora = {"method": "lora", "lora": {"rank": 2}, "max_steps": 1}
    adapter = train(write_recipe(tmp_path / "l.yaml", base, **lora), tmp_path / "adapter", data=str(mix)).folder
    names = load_file(adapter / "adapter_model.safetensors")
    assert names
    assert all(".language_model.layers." in name for name in names)


def test_an_adapter_is_merged_where_the_base_would_not_stop(tmp_path, mix):
    base = write_tiny_model(tmp_path / "base", eos_token_id=0)
    progress = RecordedProgress()
    recipe = write_recipe(tmp_path / "r.yaml", base, method="lora", lora={"rank": 2}, max_steps=1)
    outcome = train(recipe, tmp_path / "out", data=str(mix), progress=progress)
    assert resolve(str(outcome.folder)).adapter is None
    assert any("merged" in line for line in progress.lines)
    assert json.loads((outcome.folder / "generation_config.json").read_text())["eos_token_id"] == [1, 0]
    assert json.loads((outcome.folder / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"


def test_two_processes_train_the_same_model_as_one(tmp_path, base, mix):
    losses = []
    for n in (1, 2):
        recipe = write_recipe(tmp_path / f"{n}.yaml", base, devices=n, max_steps=2, held_out=2)
        outcome = train(recipe, tmp_path / f"out-{n}", data=str(mix))
        assert resolve(str(outcome.folder)).training["devices"]["n"] == n
        assert outcome.document["held_out"]["loss_after"] < outcome.document["held_out"]["loss_before"]
        losses.append([loss for _, loss in outcome.document["loss"]])
    # A step has the same windows for any number of processes.
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_a_nan_loss_raises_and_names_the_batch(tmp_path, mix, monkeypatch):
    from evalsuite.training.trainer import AnswerTrainer

    def broken(self: AnswerTrainer, *given: object, **named: object) -> object:
        loss = compute(self, *given, **named)
        return (loss[0] * math.nan, *loss[1:]) if isinstance(loss, tuple) else loss * math.nan

    compute = AnswerTrainer.compute_loss
    monkeypatch.setattr(AnswerTrainer, "compute_loss", broken)
    base = write_tiny_model(tmp_path / "base")
    recipe = write_recipe(tmp_path / "r.yaml", base, packing=False)
    with pytest.raises(
        TrainingError, match=r"loss is nan at step 1, in the batch of the conversations 0{14}"
    ) as caught:
        train(recipe, tmp_path / "out", data=str(mix))
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out" / "config.json").exists()


def test_out_of_memory_says_what_to_lower(tmp_path, base, mix, monkeypatch):
    import torch

    from evalsuite.training.trainer import AnswerTrainer

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(AnswerTrainer, "training_step", fail)
    recipe = write_recipe(tmp_path / "r.yaml", base, micro_batch_size=2)
    with pytest.raises(TrainingError, match=r"micro_batch_size \(now 2\) or max_length \(now 128\); or set gradient"):
        train(recipe, tmp_path / "out", data=str(mix))


def test_long_conversations_are_counted_or_cut_at_a_turn(tmp_path, base):
    long = write_mix(
        tmp_path / "mix", [conversation(0), conversation(1, 3, pad=" x" * 10), conversation(2, 1, pad="y" * 200)]
    )
    progress = RecordedProgress()
    dropped = train(
        write_recipe(tmp_path / "d.yaml", base, max_steps=1), tmp_path / "d", data=str(long), progress=progress
    )
    assert dropped.document["data"]["dropped"] == {"too_long": 2}
    assert any("2 of 3 conversations dropped" in line for line in progress.lines)
    cut = train(
        write_recipe(tmp_path / "c.yaml", base, max_steps=1, too_long="cut_at_turn"), tmp_path / "c", data=str(long)
    )
    assert cut.document["data"]["n_cut"] == 1
    assert cut.document["n_conversations"] == 2


def test_inspect_shows_the_mask_without_training(tmp_path, base, mix):
    recipe = write_recipe(tmp_path / "r.yaml", base)
    arguments = ["sft", str(recipe), "--data", str(mix), "--inspect"]
    shown = CliRunner().invoke(app, [*arguments, "--json"])
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    with_loss = "".join(token["text"] for token in document["example"]["tokens"] if token["loss"])
    assert with_loss == "Still water.<|im_end|>"
    assert document["counts"]["n_trained"] == 14
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["r.yaml"]
    without = CliRunner().invoke(app, arguments[:-1])
    assert without.exit_code == 2
    assert "give --out, the folder of the checkpoint" in without.output
    plain = CliRunner().invoke(app, [*arguments, "--row", "1"])
    assert "with loss" in plain.output
    assert "<|im_end|>" in plain.output


@pytest.mark.parametrize(
    ("sft", "error", "message"),
    [
        ({"learning_rat": 1e-4}, UsageError, "learning_rate"),
        ({"batch_size": 3, "micro_batch_size": 2}, UsageError, "is not a multiple of micro"),
        ({"lora": {"rank": 4}}, UsageError, "method is full"),
        ({"base": "nowhere/at/all"}, UsageError, "not found"),
        ({"attention": "flash_attention_2"}, UsageError, "needs a GPU"),
        ({"liger": "on"}, UsageError, "needs a GPU"),
        ({"max_length": 513}, UsageError, "exceeds the context length 512"),
        ({"devices": 3}, UsageError, "is not a multiple of 3 device"),
        ({"chat_template": "missing.jinja"}, UsageError, "chat template missing.jinja not found"),
        ({"held_out": 50}, DataError, r"left to train on \(held out 14 of 50\); lower held"),
        ({"max_length": 16}, DataError, r"left to train on \(too_long 14\); raise max_length, or set too_long"),
    ],
)
def test_an_invalid_recipe_is_one_sentence(tmp_path, base, mix, sft, error, message):
    with pytest.raises(error, match=message):
        train(write_recipe(tmp_path / "r.yaml", base, **sft), tmp_path / "out", data=str(mix))


def test_a_base_without_chat_template_is_one_sentence_and_a_file_fixes_it(tmp_path, mix):
    from tests.evalsuite.tiny_checkpoint import TEMPLATE

    base = write_tiny_model(tmp_path / "base", template=None)
    with pytest.raises(CheckpointError, match="no chat template"):
        train(write_recipe(tmp_path / "r.yaml", base), tmp_path / "out", data=str(mix))
    (tmp_path / "chat.jinja").write_text(TEMPLATE)
    recipe = write_recipe(tmp_path / "r.yaml", base, chat_template=str(tmp_path / "chat.jinja"), max_steps=1)
    outcome = train(recipe, tmp_path / "out", data=str(mix))
    assert resolve(str(outcome.folder)).chat_template == TEMPLATE


def test_a_recipe_chooses_one_of_the_bases_own_templates_by_name(tmp_path, mix):
    from tests.evalsuite.tiny_checkpoint import TEMPLATE

    dated = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% endif %}" + TEMPLATE
    base = write_tiny_model(tmp_path / "base", template=None)
    named = [{"name": "plain", "template": TEMPLATE}, {"name": "dated", "template": dated}]
    settings = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": named}))
    with pytest.raises(CheckpointError, match=r"templates dated, plain and none of them is the default; choose one .*"):
        train(write_recipe(tmp_path / "r.yaml", base), tmp_path / "out", data=str(mix))
    with pytest.raises(UsageError, match=r"unknown chat template 'date'; did you mean 'dated'.*or give a Jinja file"):
        train(write_recipe(tmp_path / "r.yaml", base, chat_template="date"), tmp_path / "out", data=str(mix))
    recipe = write_recipe(tmp_path / "r.yaml", base, chat_template="dated", max_steps=1)
    outcome = train(recipe, tmp_path / "out", data=str(mix))
    assert resolve(str(outcome.folder)).chat_template == dated
    assert outcome.document["template_date"] == "2024-07-26"


def test_invalid_folders_and_loggers_are_one_sentence(tmp_path, base, mix, monkeypatch):
    recipe = write_recipe(tmp_path / "r.yaml", base)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"contains other files \(notes.txt\)"):
        train(recipe, tmp_path / "full", data=str(mix))
    with pytest.raises(UsageError, match="unknown logger 'wand'; did you mean 'wandb'"):
        train(recipe, tmp_path / "out", data=str(mix), log_to=["wand"])
    with pytest.raises(UsageError, match="no mix section"):
        train(recipe, tmp_path / "out")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "mix.json").write_text("{}")
    with pytest.raises(DataError, match="lists no shards"):
        train(recipe, tmp_path / "out", data=str(empty))


def cut(folder: Path) -> None:
    shard = folder / "mix-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, r"SHA-256 of .*mix-00001.parquet is not the one in its mix.json; build the mix again"),
        (lambda folder: (folder / "mix-00001.parquet").unlink(), r"lacks mix-00001.parquet"),
        (
            lambda folder: (folder / "mix-00002.parquet").write_bytes((folder / "mix-00001.parquet").read_bytes()),
            r"contains mix-00002.parquet, which its mix.json does not list",
        ),
        (lambda folder: (folder / "mix.json").write_text('{"shards": [1]}'), "lists no shards"),
    ],
    ids=["cut", "missing", "extra", "list"],
)
def test_a_mix_that_does_not_match_its_mix_json_is_rejected(tmp_path, change, message):
    folder = write_mix(tmp_path / "mix", [conversation(i) for i in range(6)], rows_per_shard=3)
    assert [sample.hash for sample in open_training_data(str(folder))] == [f"{i:064x}" for i in range(6)]
    change(folder)
    with pytest.raises(DataError, match=message):
        open_training_data(str(folder))


def test_an_unwritable_folder_is_one_sentence(tmp_path, base, mix):
    recipe = write_recipe(tmp_path / "r.yaml", base)
    (tmp_path / "file").write_text("x")
    for out in (Path("/proc/ckpt"), tmp_path / "file" / "ckpt"):
        result = CliRunner().invoke(app, ["sft", str(recipe), "--data", str(mix), "--out", str(out)])
        assert result.exit_code == 2, result.output
        assert f"cannot write {out}: " in result.stderr
        assert "give a writable folder" in result.stderr


def test_a_chat_template_that_is_not_utf8_is_one_sentence(tmp_path, base, mix):
    (tmp_path / "latin.jinja").write_bytes("{# für #}".encode("latin-1"))
    recipe = write_recipe(tmp_path / "r.yaml", base, chat_template=str(tmp_path / "latin.jinja"))
    with pytest.raises(UsageError, match=r"latin\.jinja: not UTF-8; give a Jinja file"):
        train(recipe, tmp_path / "out", data=str(mix))


def test_out_may_be_the_current_folder_or_a_link(tmp_path, base, mix, monkeypatch):
    recipe = write_recipe(tmp_path / "r.yaml", base, max_steps=1)
    chats = tmp_path / "chats.jsonl"
    chats.write_text("".join(json.dumps({"messages": conversation(i)}) + "\n" for i in range(6)))
    recipe.write_text(recipe.read_text() + f"mix: {{sources: [{{data: {chats}}}]}}\n")
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    monkeypatch.chdir(tmp_path / "disk")
    assert not train(recipe, Path(), contamination="off").reused
    assert train(recipe, tmp_path / "link", contamination="off").reused
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk.mix" / "mix.json").is_file()


def test_fresh_moves_existing_files_aside(tmp_path, base, mix):
    recipe = write_recipe(tmp_path / "r.yaml", base, max_steps=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    train(recipe, tmp_path / "out", data=str(mix), fresh=True)
    (aside,) = tmp_path.glob("out.replaced-*")
    assert (aside / "notes.txt").read_text() == "mine"


def test_a_kill_between_the_last_renames_is_recovered(tmp_path, base, mix, monkeypatch):
    from evalsuite.training import train as training

    recipe = write_recipe(tmp_path / "r.yaml", base, max_steps=1)
    real = training.publish

    def interrupted(finished: Path, out: Path) -> None:
        (finished / "model.safetensors").replace(out / "model.safetensors")
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "publish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "out", data=str(mix))
    with pytest.raises(CheckpointError):
        resolve(str(tmp_path / "out"))
    monkeypatch.setattr(training, "publish", real)
    train(recipe, tmp_path / "out", data=str(mix))
    assert resolve(str(tmp_path / "out")).training["n_conversations"] == 14
