"""``evalsuite sft``: from a recipe to the checkpoint that ``evalsuite run`` evaluates."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.errors import CheckpointError, UsageError
from evalsuite.files import read_json, write_json
from evalsuite.fingerprint import text_sha256
from evalsuite.progress import Progress, Silence
from evalsuite.recipes.recipe import Recipe, read_recipe
from evalsuite.recipes.training import TrainingConfig
from evalsuite.serving.chat_format import ChatFormat, load_chat_format
from evalsuite.training.checkpoint_out import WORK, claim, identity_of, is_finished, publish
from evalsuite.training.data import TokenCounts, TrainingData, open_training_data, read_counts, write_tokens
from evalsuite.training.devices import Devices, choose_devices
from evalsuite.training.launch import launch
from evalsuite.training.lineage import SCHEMA, training_document
from evalsuite.training.masks import DROP_REASONS, end_of_turn
from evalsuite.training.plan import Plan, count_steps, shrink_warmup
from judges.types import REASONS

Contamination = Literal["full", "mini", "off"]
LOGGERS = {"tensorboard": "tensorboard", "wandb": "wandb"}
_WITHOUT_EFFECT = ("save_every_steps", "log_every_steps")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished checkpoint: its folder, its training.json, and whether it was there already."""

    folder: Path
    document: Mapping[str, Any]
    taken_over: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything known before the first step: what is trained on what, in which format."""

    recipe: Recipe
    config: TrainingConfig
    base: Checkpoint
    form: ChatFormat
    end_id: int
    data: TrainingData
    identity: str


def train(
    recipe_path: Path,
    out: Path,
    *,
    data: str | None = None,
    contamination: Contamination = "full",
    fresh: bool = False,
    log_to: Sequence[str] = (),
    progress: Progress | None = None,
) -> Outcome:
    """Train the checkpoint that the recipe states into ``out``.

    ``data`` is a mix folder or any source of conversations; without it the recipe's mix is built
    and held against the benchmark data that ``contamination`` names.
    Killed, the same command goes on from the last training checkpoint; a finished ``out`` of the
    same recipe, data and base is taken over. Raises UsageError, DataError or CheckpointError in
    one sentence, and TrainingError when the training fails on its way.
    """
    progress = progress or Silence()
    _check_loggers(log_to)
    # A link stays one, and "." has a name.
    out, word = out.resolve(), out
    prepared = open_recipe(recipe_path, out, data, contamination, progress)
    if is_finished(out) and identity_of(out) == prepared.identity and not fresh:
        shutil.rmtree(out / WORK, ignore_errors=True)
        return Outcome(word, read_json(out / "training.json"), taken_over=True)
    claim(out, prepared.identity, fresh=fresh)
    with _sole(out / WORK):
        if not (out / WORK / "finished" / "training.json").is_file():
            _train(prepared, out, tuple(log_to), progress)
        publish(out / WORK / "finished", out)
    return Outcome(word, read_json(out / "training.json"), taken_over=False)


def open_recipe(path: Path, out: Path, data: str | None, contamination: Contamination, progress: Progress) -> Prepared:
    """Read the recipe, build its mix beside ``out`` where no ``data`` is given, and check everything together."""
    recipe = read_recipe(path)
    config = _section(recipe, path)
    if data is None:
        if recipe.mix is None:
            raise UsageError(f"{path} has no mix section; add one, or give the data with --data")
        place = out.resolve()
        data = _build_mix(recipe, place.with_name(f"{place.name}.mix"), contamination, progress)
    return prepare(recipe, config, data, progress)


def prepare(recipe: Recipe, config: TrainingConfig, data: str, progress: Progress) -> Prepared:
    """Resolve base, chat format and data, and settle the run's identity; nothing is written."""
    base = resolve(config.base, on_step=progress.step)
    if base.path is None or base.adapter is not None:
        kind = "an endpoint" if base.path is None else "a LoRA adapter"
        raise CheckpointError(f"the base {config.base} is {kind}; give a folder or hub id of whole weights")
    if base.context_length is not None and config.max_length > base.context_length:
        raise UsageError(
            f"max_length {config.max_length:,} is more than the {base.context_length:,} tokens of context "
            f"that {config.base} has; lower it"
        )
    template = base.chat_template if config.chat_template is None else _template(config.chat_template, progress)
    form = load_chat_format(replace(base, chat_template=template))
    end_id = end_of_turn(form)
    opened = open_training_data(data)
    told = {key: value for key, value in config.model_dump(mode="json").items() if key not in _WITHOUT_EFFECT}
    identity = text_sha256(
        json.dumps(
            [
                SCHEMA,
                recipe.name,
                recipe.seed,
                told,
                base.fingerprint,
                base.tokenizer_sha256,
                template,
                opened.fingerprint,
            ],
            sort_keys=True,
        )
    )
    return Prepared(recipe, config, base, form, end_id, opened, identity)


def tokenise(prepared: Prepared, folder: Path, progress: Progress) -> TokenCounts:
    """Write the verified tokens into ``folder``, or take them over where they are whole; says what was left out."""
    counts = read_counts(folder)
    if counts is None:
        progress.begin("tokens", None)
        counts = write_tokens(
            prepared.data,
            prepared.form,
            folder,
            max_length=prepared.config.max_length,
            cut=prepared.config.too_long == "cut_at_turn",
            held_out=prepared.config.held_out,
            on_count=lambda n: progress.settle("tokens", n, 0) if n % 500 == 0 else None,
        )
    for words in left_out(counts, prepared.config):
        progress.say(words)
    return counts


def left_out(counts: TokenCounts, config: TrainingConfig) -> list[str]:
    """Say in a line each what of the data is not trained on, and why."""
    remedy = " (too_long: cut_at_turn keeps their first turns)" if config.too_long == "drop" else ""
    lines = [
        f"{n:,} of {counts.n_read:,} conversations dropped: {DROP_REASONS.get(reason) or REASONS.get(reason, reason)}"
        + (f" of {config.max_length:,} tokens{remedy}" if reason == "too_long" else "")
        for reason, n in counts.dropped.items()
    ]
    if counts.n_cut:
        lines.append(
            f"{counts.n_cut:,} conversations are longer than {config.max_length:,} tokens and were ended at a turn"
        )
    if counts.n_answers_without_loss:
        lines.append(
            f"{counts.n_answers_without_loss:,} answers carry no loss: the template writes them differently later"
        )
    return lines


def _train(prepared: Prepared, out: Path, log_to: tuple[str, ...], progress: Progress) -> None:
    work = out / WORK
    counts = tokenise(prepared, work / "tokens", progress)
    devices = choose_devices(prepared.config)
    plan, model = _plan(prepared, work, counts, devices, log_to, progress)
    for words in _says(plan):
        progress.say(words)
    if devices.n == 1:
        from evalsuite.training.worker import work as train_here

        train_here(plan, progress, model)
    else:
        del model
        launch(plan)
    facts = {
        "identity": prepared.identity,
        "base": prepared.config.base,
        "base_fingerprint": prepared.base.fingerprint,
        "recipe": prepared.recipe.document(),
    }
    outcome = read_json(work / "outcome.json")
    document = training_document(facts, prepared.data, counts, plan, outcome)
    write_json(plan.finished / "training.json", document)


def _plan(
    prepared: Prepared, work: Path, counts: TokenCounts, devices: Devices, log_to: tuple[str, ...], progress: Progress
) -> tuple[Plan, Any]:
    from evalsuite.training.worker import load_model

    config = prepared.config
    assert prepared.base.path is not None
    progress.step("loading the base")
    packed, model = config.packing, None
    frozen = config.method == "lora" and devices.bfloat16
    if devices.n == 1 or (packed and devices.attention != "flash_attention_2"):
        model = load_model(str(prepared.base.path), devices.attention, frozen_bf16=frozen)
    if packed and model is not None:
        packed = _keeps_apart(model, devices, prepared, progress)
    n_windows = _pack(work / "tokens", config.max_length, progress) if packed else counts.n_trained
    steps = count_steps(config, n_windows, devices.n)
    plan = Plan(
        base=_portable(config.base),
        base_folder=str(prepared.base.path),
        template=str(prepared.form.template),
        end_id=prepared.end_id,
        config=config,
        devices=devices,
        seed=prepared.recipe.seed,
        work=str(work),
        packed=packed,
        n_windows=n_windows,
        n_tokens=counts.n_tokens,
        n_conversations=counts.n_trained,
        steps=steps,
        warmup_steps=shrink_warmup(config.warmup_steps, steps),
        accumulation=config.batch_size // (config.micro_batch_size * devices.n),
        log_to=log_to,
    )
    return plan, model


def _keeps_apart(model: Any, devices: Devices, prepared: Prepared, progress: Progress) -> bool:
    """Try whether packed conversations see each other with this model and attention; if so, do not pack."""
    import torch

    from evalsuite.training.packing import LEAK_TOLERANCE, LEAK_TOLERANCE_BF16, packing_leak

    flash = devices.attention == "flash_attention_2"
    if devices.kind == "cuda" and devices.n == 1:
        model.to("cuda")
    with torch.autocast(devices.kind, torch.bfloat16, enabled=flash):
        leak = packing_leak(model, prepared.end_id)
    rounded = flash or next(model.parameters()).dtype != torch.float32
    if leak <= (LEAK_TOLERANCE_BF16 if rounded else LEAK_TOLERANCE):
        return True
    progress.say(
        f"not packing: with {devices.attention} attention a conversation changes its neighbour's loss by {leak:.4f} "
        "nats a token; conversations are padded and grouped by length instead"
    )
    return False


def _pack(tokens: Path, max_length: int, progress: Progress) -> int:
    from datasets import load_from_disk

    from evalsuite.training.packing import pack

    folder = tokens / "windows"
    if folder.is_dir():
        return len(load_from_disk(str(folder)))
    progress.step("packing")
    begun = tokens / "windows.begun"
    shutil.rmtree(begun, ignore_errors=True)
    n_windows = pack(tokens / "train.arrow", begun, max_length)
    begun.rename(folder)
    return n_windows


def _says(plan: Plan) -> list[str]:
    """The lines before the first step: how much is trained, and what differs from what was asked."""
    config, devices = plan.config, plan.devices
    kind = "windows" if plan.packed else "conversations"
    where = f"{devices.n} × {devices.name}" if devices.name else f"CPU ({devices.n} process{'es' * (devices.n > 1)})"
    lines = [
        f"{plan.n_conversations:,} conversations, {plan.n_tokens:,} tokens in {plan.n_windows:,} {kind}: "
        f"{plan.steps:,} steps of {config.batch_size} on {where}, {devices.attention}, "
        + ("bf16" if devices.bfloat16 else "float32")
        + (", liger" if devices.liger else "")
    ]
    if plan.warmup_steps != config.warmup_steps:
        lines.append(
            f"warm-up of {plan.warmup_steps} steps instead of {config.warmup_steps}: the run has only {plan.steps}"
        )
    if config.method == "lora" and not config.lora.merge and _must_merge(plan):
        lines.append("the adapter is merged into the base: served alone, the base would not stop at the end of a turn")
    return lines


def _must_merge(plan: Plan) -> bool:
    from evalsuite.training.worker import merges

    return merges(plan)


def _section(recipe: Recipe, path: Path) -> TrainingConfig:
    if recipe.sft is None:
        raise UsageError(f"{path} has no sft section; add one with at least base: MODEL")
    return recipe.sft


def _build_mix(recipe: Recipe, folder: Path, contamination: Contamination, progress: Progress) -> str:
    from evalsuite.mix.build import ContaminationConfig, build_mix

    build_mix(
        recipe, folder, progress, contamination=ContaminationConfig(None if contamination == "off" else contamination)
    )
    return str(folder)


def _template(word: str, progress: Progress) -> str:
    """Read a Jinja file, or take the template of another checkpoint."""
    path = Path(word).expanduser()
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise UsageError(f"cannot read the chat template {word}: {reason}; give a Jinja file in UTF-8") from error
    if path.suffix in {".jinja", ".j2"}:
        raise UsageError(f"there is no chat template {word}; give a Jinja file or a model whose template to take")
    found = resolve(word, on_step=progress.step).chat_template
    if found is None:
        raise CheckpointError(f"{word} has no chat template either; give a Jinja file or another model")
    return found


def _portable(word: str) -> str:
    """A local base is named by its full path, so that an adapter finds it from anywhere on this machine."""
    path = Path(word).expanduser()
    return str(path.resolve()) if path.is_dir() else word


def _check_loggers(names: Sequence[str]) -> None:
    for name in names:
        if name not in LOGGERS:
            from evalsuite.errors import unknown

            raise UsageError(unknown("logger", name, LOGGERS))
        if find_spec(LOGGERS[name]) is None:
            raise UsageError(f"--log-to {name} needs the package {LOGGERS[name]}; install it with pip install {name}")


def _sole(work: Path) -> Any:
    """Hold the folder for this process alone; the lock goes with the process, however that ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(work / "lock", timeout=0)
    try:
        return lock.acquire()
    except Timeout as error:
        raise UsageError(f"another process trains into {work.parent}; wait for it, or give another --out") from error
