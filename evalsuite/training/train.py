"""``evalsuite sft``: train a checkpoint from a recipe."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.checkpoint.templates import own_templates
from evalsuite.contamination.settings import Checked
from evalsuite.errors import CheckpointError, UsageError, unknown
from evalsuite.files import locked, read_json, write_json
from evalsuite.fingerprint import text_sha256
from evalsuite.progress import NoProgress, Progress
from evalsuite.recipes.recipe import Recipe, read_recipe
from evalsuite.recipes.training import TrainingConfig
from evalsuite.serving.chat_format import load_chat_format
from evalsuite.serving.session import dated
from evalsuite.text import plural
from evalsuite.tracking import check_loggers
from evalsuite.training.base import check_base
from evalsuite.training.checkpoint_out import WORK, claim, identity_of, is_finished, publish
from evalsuite.training.data import TokenCounts, TrainingData, open_training_data, read_counts, write_tokens
from evalsuite.training.devices import Devices, choose_devices
from evalsuite.training.launch import launch
from evalsuite.training.lineage import SCHEMA, training_document
from evalsuite.training.loading import base_name, load_model
from evalsuite.training.masks import DROP_REASONS
from evalsuite.training.passthrough import check_settings
from evalsuite.training.plan import Plan, count_steps, shrink_warmup
from evalsuite.training.template import TrainingTemplate, open_template
from evalsuite.training.worker import merges_adapter, run_training
from judges.types import REASONS

_NOT_IN_IDENTITY = ("save_every_steps", "log_every_steps", "keep_checkpoints")
_ADDED_LATER = ("template_args", "thinking", "empty_thoughts", "train_on", "trainer")


class Trust(NamedTuple):
    """Which parts of the base may run code; see ``checkpoint.resolve``."""

    allow_pickle: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished checkpoint: its folder, its training.json, and whether it already existed."""

    folder: Path
    document: Mapping[str, Any]
    reused: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """The checked inputs of a training run: recipe, base, chat format and data."""

    recipe: Recipe
    config: TrainingConfig
    base: Checkpoint
    template: TrainingTemplate
    data: TrainingData
    identity: str


def train(
    recipe_path: Path,
    out: Path,
    *,
    data: str | None = None,
    contamination: Checked = "full",
    fresh: bool = False,
    log_to: Sequence[str] = (),
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Train the recipe's checkpoint into ``out``.

    ``data`` is a mix folder or any source of conversations; without it the recipe's mix is built and checked against
    the benchmark data given by ``contamination``. After an interruption the same call resumes from the last training
    checkpoint; a finished ``out`` of the same recipe, data and base is reused. Raises UsageError, DataError or
    CheckpointError for invalid inputs, and TrainingError if the training fails.
    """
    progress = progress or NoProgress()
    check_loggers(log_to)
    # Resolved, because renames would replace a link and "." has no name.
    out, given = out.resolve(), out
    trust = Trust(allow_pickle, trust_remote_code)
    prepared = open_recipe(recipe_path, out, data, contamination, progress, trust)
    if is_finished(out) and identity_of(out) == prepared.identity and not fresh:
        shutil.rmtree(out / WORK, ignore_errors=True)
        return Outcome(given, read_json(out / "training.json"), reused=True)
    progress.step("checking the base")
    assert prepared.base.path is not None
    merges = merges_adapter(prepared.config, prepared.base.path, prepared.template.end_id)
    check_base(prepared.base, prepared.config.method, merges=merges)
    claim(out, prepared.identity, fresh=fresh)
    with locked(out / WORK / "lock", f"another process is training into {out}; wait for it, or give another --out"):
        if not (out / WORK / "finished" / "training.json").is_file():
            _train(prepared, out, tuple(log_to), progress)
        publish(out / WORK / "finished", out)
    return Outcome(given, read_json(out / "training.json"), reused=False)


def open_recipe(
    path: Path,
    out: Path,
    data: str | None,
    contamination: Checked,
    progress: Progress,
    trust: Trust,
) -> Prepared:
    """Read the recipe, build its mix next to ``out`` if no ``data`` is given, and check all inputs.

    ``trust`` says which parts of the base may run code.
    """
    recipe = read_recipe(path)
    if recipe.sft is None:
        raise UsageError(f"{path} has no sft section; add one with at least base: MODEL")
    check_settings(recipe.sft)
    if data is None:
        if recipe.mix is None:
            raise UsageError(f"{path} has no mix section; add one, or give the data with --data")
        from evalsuite.mix.build import ContaminationConfig, build_mix

        folder = out.resolve().with_name(f"{out.resolve().name}.mix")
        checked = ContaminationConfig(None if contamination == "off" else contamination)
        build_mix(recipe, folder, progress, contamination=checked)
        data = str(folder)
    return prepare(recipe, recipe.sft, data, progress, trust)


def prepare(recipe: Recipe, config: TrainingConfig, data: str, progress: Progress, trust: Trust) -> Prepared:
    """Resolve base, chat format and data, and compute the run's identity; nothing is written."""
    base = resolve(config.base, on_step=progress.step, **trust._asdict())
    if base.path is None:
        raise CheckpointError(f"the base {config.base} is an endpoint; give a folder or hub id")
    if base.adapter is not None:
        _check_adapter(config)
    if base.context_length is not None and config.max_length > base.context_length:
        raise UsageError(
            f"max_length {config.max_length:,} exceeds the context length {base.context_length:,} "
            f"of {config.base}; lower it"
        )
    if config.chat_template is not None:
        base = replace(base, chat_template=_template(config.chat_template, base, progress), template_names=())
    form = load_chat_format(base)
    trains_empty = config.empty_thoughts == "train"
    template = open_template(base, form, config.template_args, trains_empty_thoughts=trains_empty)
    opened = open_training_data(data)
    inputs = [base.fingerprint, base.tokenizer_sha256, base.chat_template, opened.fingerprint]
    identity = text_sha256(json.dumps([SCHEMA, recipe.name, recipe.seed, _settings(config), *inputs], sort_keys=True))
    return Prepared(recipe, config, base, template, opened, identity)


def _check_adapter(config: TrainingConfig) -> None:
    """Refuse settings with which training cannot go on from an adapter."""
    if config.method != "lora":
        raise UsageError(
            f"the base {config.base} is a LoRA adapter; set method: lora to continue training it, or merge it first "
            f"with evalsuite sft --merge {config.base} --out FOLDER"
        )
    if given := (config.lora.model_fields_set | config.lora.further.keys()) - {"merge"}:
        raise UsageError(
            f"lora.{min(given)} is given, but the base {config.base} is an adapter with its own settings; remove it"
        )


def _settings(config: TrainingConfig) -> dict[str, Any]:
    """Return the settings that make a training another one; those added later only where they are not the default."""
    settings = config.model_dump(mode="json", exclude={*_NOT_IN_IDENTITY, *_ADDED_LATER})
    return settings | config.model_dump(mode="json", include=set(_ADDED_LATER), exclude_defaults=True)


def tokenise(prepared: Prepared, folder: Path, progress: Progress) -> TokenCounts:
    """Write the verified tokens to ``folder`` unless they are complete already, and log what was left out."""
    if (counts := read_counts(folder)) is None:
        progress.begin("tokens", None)
        counts = write_tokens(
            prepared.data,
            prepared.template,
            folder,
            prepared.config,
            on_count=lambda n: progress.update("tokens", n, 0) if n % 500 == 0 else None,
        )
    for line in left_out(counts, prepared.config):
        progress.log(line)
    return counts


def left_out(counts: TokenCounts, config: TrainingConfig) -> list[str]:
    """Return one line for each part of the data that is not trained on, with the reason."""
    remedy = " (too_long: cut_at_turn keeps their first turns)" if config.too_long == "drop" else ""
    lines = [
        f"{n:,} of {counts.n_read:,} conversations dropped: {DROP_REASONS.get(reason) or REASONS.get(reason, reason)}"
        + (f" of {config.max_length:,} tokens{remedy}" if reason == "too_long" else "")
        for reason, n in counts.dropped.items()
    ]
    if counts.n_cut:
        lines.append(f"{plural(counts.n_cut, 'conversation')} longer than {config.max_length:,} tokens: cut at a turn")
    if counts.n_answers_without_loss:
        answers = plural(counts.n_answers_without_loss, "answer has", "answers have")
        lines.append(f"{answers} no loss: the chat template rewrites them in later turns")
    return lines


def _train(prepared: Prepared, out: Path, log_to: tuple[str, ...], progress: Progress) -> None:
    work = out / WORK
    counts = tokenise(prepared, work / "tokens", progress)
    devices = choose_devices(prepared.config)
    plan, model = _plan(prepared, work, counts, devices, log_to, progress)
    for line in _summary(plan):
        progress.log(line)
    if devices.n == 1:
        run_training(plan, progress, model)
    else:
        del model
        launch(plan)
    facts = {
        "identity": prepared.identity,
        "base": prepared.config.base,
        "base_fingerprint": prepared.base.fingerprint,
        **dated(prepared.base),
        "recipe": prepared.recipe.document(),
        # How its thoughts are marked, for a chat template that does not tell.
        "reasoning_style": prepared.template.style.name if counts.n_with_thought else None,
    }
    outcome = read_json(work / "outcome.json")
    document = training_document(facts, prepared.data, counts, plan, outcome)
    write_json(plan.finished / "training.json", document)


def _plan(
    prepared: Prepared, work: Path, counts: TokenCounts, devices: Devices, log_to: tuple[str, ...], progress: Progress
) -> tuple[Plan, Any]:
    config = prepared.config
    assert prepared.base.path is not None
    progress.step("loading the base")
    packed, model = config.packing, None
    frozen = config.method == "lora" and devices.bfloat16
    if devices.n == 1 or (packed and devices.attention != "flash_attention_2"):
        trusted = prepared.base.trust_remote_code
        model = load_model(str(prepared.base.path), devices.attention, frozen_bf16=frozen, trust_remote_code=trusted)
    if packed and model is not None:
        packed = _can_pack(model, devices, prepared, progress)
    n_windows = _pack(work / "tokens", config.max_length, progress) if packed else counts.n_trained
    steps = count_steps(config, n_windows, devices.n)
    plan = Plan(
        # Absolute, so that an adapter finds a local base from any working directory.
        base=_base_name(prepared.base, config.base),
        base_folder=str(prepared.base.path),
        adapter=None if prepared.base.adapter is None else str(prepared.base.adapter),
        tokenizer_folder=str(prepared.base.tokenizer_folder),
        template=str(prepared.template.on.template),
        end_id=prepared.template.end_id,
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
        trust_remote_code=prepared.base.trust_remote_code,
    )
    return plan, model


def _base_name(base: Checkpoint, spec: str) -> str:
    """Return what the trained adapter names as its base."""
    if base.adapter is not None and base.path is not None:
        return base_name(base.adapter, base.path)
    return str(local.resolve()) if (local := Path(spec).expanduser()).is_dir() else spec


def _can_pack(model: Any, devices: Devices, prepared: Prepared, progress: Progress) -> bool:
    """Return whether packed conversations do not attend to each other with this model and attention."""
    import torch

    from evalsuite.training.packing import LEAK_TOLERANCE, LEAK_TOLERANCE_BF16, packing_leak

    flash = devices.attention == "flash_attention_2"
    if devices.kind == "cuda" and devices.n == 1:
        model.to("cuda")
    with torch.autocast(devices.kind, torch.bfloat16, enabled=flash):
        leak = packing_leak(model, prepared.template.end_id)
    rounded = flash or next(model.parameters()).dtype != torch.float32
    if leak <= (LEAK_TOLERANCE_BF16 if rounded else LEAK_TOLERANCE):
        return True
    progress.log(
        f"packing is off: with {devices.attention} attention a conversation changes its neighbour's loss by {leak:.4f} "
        "nats per token; conversations are padded and grouped by length instead"
    )
    return False


def _pack(tokens: Path, max_length: int, progress: Progress) -> int:
    from datasets import load_from_disk

    from evalsuite.training.packing import pack

    folder = tokens / "windows"
    if folder.is_dir():
        return len(load_from_disk(str(folder)))
    progress.step("packing")
    partial = tokens / "windows.begun"
    shutil.rmtree(partial, ignore_errors=True)
    n_windows = pack(tokens / "train.arrow", partial, max_length)
    partial.rename(folder)
    return n_windows


def _summary(plan: Plan) -> list[str]:
    """Return the lines printed before the first step: the amount of training, and deviations from the settings."""
    config, devices = plan.config, plan.devices
    kind = "windows" if plan.packed else "conversations"
    device = f"{devices.n} × {devices.name}" if devices.name else f"CPU ({plural(devices.n, 'process', 'processes')})"
    lines = [
        f"{plural(plan.n_conversations, 'conversation')}, {plan.n_tokens:,} tokens in {plan.n_windows:,} {kind}: "
        f"{plural(plan.steps, 'step')} of {config.batch_size} on {device}, {devices.attention}, "
        + ("bf16" if devices.bfloat16 else "float32")
        + (", liger" if devices.liger else "")
    ]
    if plan.warmup_steps != config.warmup_steps:
        lines.append(
            f"warm-up of {plan.warmup_steps} instead of {config.warmup_steps} steps: the run has only {plan.steps}"
        )
    if not config.lora.merge and merges_adapter(config, Path(plan.base_folder), plan.end_id):
        lines.append("the adapter is merged into the base, which would not stop at the end of a turn otherwise")
    return lines


def _template(source: str, base: Checkpoint, progress: Progress) -> str:
    """Return the chat template of a Jinja file, one of the base's own by its name, or another checkpoint's."""
    own = next((found for folder in (base.adapter, base.path) if folder and (found := own_templates(folder))), {})
    if source in own:
        return own[source]
    path = Path(source).expanduser()
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise UsageError(f"cannot read the chat template {source}: {reason}; give a Jinja file in UTF-8") from error
    if path.suffix in {".jinja", ".j2"}:
        raise UsageError(f"chat template {source} not found; give a Jinja file or a model with a template")
    try:
        template = resolve(source, on_step=progress.step).chat_template
    except UsageError as error:
        if not own:
            raise
        said = unknown("chat template", source, own)
        raise UsageError(f"{said}; or give a Jinja file, or a model with a template") from error
    if template is None:
        raise CheckpointError(f"{source} has no chat template either; give a Jinja file or another model")
    return template
