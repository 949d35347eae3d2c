"""Resolve a model given on the command line to a checkpoint that can be served.

A model is a local folder (safetensors, sharded or not; a LoRA adapter), a hub id (``org/name`` or
``org/name@revision``), ``demo``, or ``NAME@URL`` for an external server. ``BASE+ADAPTER`` is an adapter on
another base than it names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from evalsuite.checkpoint.adapters import (
    SETTINGS,
    adapter_weights,
    base_of,
    brings_tokenizer,
    lora_rank,
    tokenizer_files,
)
from evalsuite.checkpoint.json_files import read_config
from evalsuite.checkpoint.model import TEMPLATE_DATE, VOCABULARIES, Checkpoint
from evalsuite.checkpoint.quantization import SEPARATE, quantization_config
from evalsuite.checkpoint.shards import unmerged, weight_files
from evalsuite.checkpoint.templates import choose_template, own_templates
from evalsuite.checkpoint.tensors import check_tensors, embedding_of, has_plain_head, read_tensors
from evalsuite.checkpoint.text_part import text_config, with_sizes
from evalsuite.checkpoint.training_run import training_step
from evalsuite.errors import CheckpointError, UsageError, first_line
from evalsuite.files import exists
from evalsuite.fingerprint import files_sha256, text_sha256
from evalsuite.redaction import without_secrets
from evalsuite.text import well_formed

_ENDPOINT = re.compile(r"(?P<name>.*?)@(?P<url>https?://.+)", re.DOTALL)
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?")
_SECOND_COPY = "consolidated*"
"""Mistral's repositories contain the weights a second time, for its own loader."""
_HUB_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")


@dataclass(frozen=True, slots=True)
class _Choices:
    """Which parts of a checkpoint may run code, and how its conversations are written."""

    pickle: bool
    remote_code: bool
    template: Path | None
    on: date


def resolve(
    spec: str,
    *,
    chat_template_file: Path | None = None,
    template_date: date | None = None,
    base_url: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> Checkpoint:
    """Find and check the model given as ``spec``; raises CheckpointError or UsageError.

    No code of the model is run and nothing is unpickled here. ``allow_pickle`` accepts weights that can
    run code when a server loads them; ``trust_remote_code`` accepts code shipped with the checkpoint,
    whose files then count in the fingerprint. ``chat_template_file`` is a Jinja file, or the name of one of
    the checkpoint's own templates. ``base_url`` attaches to a running server: a folder or hub id then
    provides the tokenizer and template, and a bare served name has neither.
    """
    if served := _ENDPOINT.fullmatch(spec):
        return _endpoint(served["name"] or "model", served["url"])
    choices = _Choices(allow_pickle, trust_remote_code, chat_template_file, template_date or TEMPLATE_DATE)
    base, plus, adapter = spec.rpartition("+")
    if plus and base and not exists(Path(spec).expanduser()) and _is_adapter(Path(adapter).expanduser()):
        folder = Path(adapter).expanduser()
        return _adapter(folder, well_formed(folder.resolve().name), base, choices, on_step)
    if base_url and not (_HUB_ID.fullmatch(spec) or spec == "demo" or exists(Path(spec).expanduser())):
        return _endpoint(spec, base_url)
    folder, name = _located(spec, choices, on_step)
    if _is_adapter(folder):
        return _adapter(folder, name, base_of(folder, read_config(folder / SETTINGS)), choices, on_step)
    return _folder(folder, name, choices)


def _is_adapter(folder: Path) -> bool:
    return exists(folder / SETTINGS)


def _located(spec: str, choices: _Choices, on_step: Callable[[str], None]) -> tuple[Path, str]:
    """Return the folder of a model and its name, after a download if need be."""
    if spec == "demo" and not Path("demo").exists():
        from evalsuite.assets import demo_checkpoint

        return demo_checkpoint(on_step=on_step), "demo"
    folder = Path(spec).expanduser()
    if exists(folder) and folder.is_dir():
        return folder, well_formed(folder.resolve().name)
    if exists(folder):
        raise CheckpointError(f"{spec} is a file; give the checkpoint's folder")
    if (hub := _HUB_ID.fullmatch(spec)) and not spec.startswith(("./", "../")):
        return _from_hub(hub["repo"], hub["revision"], choices, on_step), spec.rpartition("/")[2]
    shown = without_secrets(spec)
    raise UsageError(f"model {shown!r} not found; give an existing checkpoint folder, a hub id, demo, or NAME@URL")


def is_endpoint(spec: str) -> bool:
    """Return whether a model is given as NAME@URL."""
    return _ENDPOINT.fullmatch(spec) is not None


def _endpoint(name: str, url: str) -> Checkpoint:
    name = well_formed(name)
    fingerprint = text_sha256(f"endpoint\x1f{name}")
    return Checkpoint(name=name, path=None, fingerprint=fingerprint, endpoint=url)


def _from_hub(repo: str, revision: str | None, choices: _Choices, on_step: Callable[[str], None]) -> Path:
    from huggingface_hub import snapshot_download

    shown = repo if revision is None else f"{repo}@{revision}"
    on_step(f"fetching {shown} from the hub")
    patterns = [*_HUB_PATTERNS, *(["*.py"] if choices.remote_code else [])]
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns, ignore_patterns=_SECOND_COPY))
    except Exception as error:  # the hub client raises many types; all mean that the model is not available
        raise CheckpointError(
            f"cannot download {shown} from the hub ({first_line(error)}); check the id and your access, "
            "or give a local folder"
        ) from error


def _folder(folder: Path, name: str, choices: _Choices) -> Checkpoint:
    if not (folder / "config.json").is_file() and (said := unmerged(folder)):
        raise CheckpointError(said)
    configs = [folder / "config.json"]
    config = with_sizes(read_config(configs[0]))
    if quantization_config(config) is None and (folder / SEPARATE).is_file():
        configs.append(folder / SEPARATE)
        config = {**config, "quantization_config": read_config(configs[1])}
    weights = weight_files(folder, allow_pickle=choices.pickle)
    tensors = read_tensors(weights)
    check_tensors(folder, tensors, config)
    code = sorted(folder.glob("*.py")) if choices.remote_code else []
    if not (tokenizer := tokenizer_files(folder)):
        raise CheckpointError(
            f"{folder} has weights but no tokenizer ({', '.join(VOCABULARIES)}); "
            "copy the base model's tokenizer files into it"
        )
    template, names = choose_template(folder, choices.template)
    embedding = embedding_of(tensors)
    return Checkpoint(
        name=name,
        path=folder,
        fingerprint=files_sha256([*weights, *configs, *code]),
        tokenizer_sha256=files_sha256(tokenizer),
        chat_template=template,
        template_names=names,
        template_date=choices.on,
        config=config,
        training=_training(folder),
        training_step=training_step(folder),
        trust_remote_code=choices.remote_code,
        embedding_rows=_rows(config) if embedding is None else embedding.shape[0],
        has_plain_head=has_plain_head(tensors),
    )


def _rows(config: dict[str, Any]) -> int | None:
    rows = text_config(config).get("vocab_size")
    return rows if isinstance(rows, int) and rows > 0 else None


def _adapter(folder: Path, name: str, base_spec: str, choices: _Choices, on_step: Callable[[str], None]) -> Checkpoint:
    """Return a LoRA adapter on its base model, which must be a full checkpoint."""
    weights = adapter_weights(folder, allow_pickle=choices.pickle)
    lora_rank(read_config(folder / SETTINGS), folder)
    about = f"the base model {base_spec!r} of the adapter {folder}"
    try:
        base_folder, base_name = _located(base_spec, choices, on_step)
    except UsageError as error:
        raise CheckpointError(f"{about} was not found; put it at that path, or give BASE+{folder}") from error
    if _is_adapter(base_folder):
        raise CheckpointError(f"{about} is an adapter itself; merge it into its base and name the result")
    base = _folder(base_folder, base_name, replace(choices, template=None))
    template, names = choose_template(folder if own_templates(folder) else base_folder, choices.template)
    own_tokenizer = brings_tokenizer(folder, base_folder)
    return replace(
        base,
        name=name,
        fingerprint=text_sha256(base.fingerprint + files_sha256([weights, folder / SETTINGS])),
        tokenizer_sha256=files_sha256(tokenizer_files(folder)) if own_tokenizer else base.tokenizer_sha256,
        own_tokenizer=own_tokenizer,
        chat_template=template,
        template_names=names,
        adapter=folder,
        training=_training(folder),
        training_step=training_step(folder),
    )


def _training(folder: Path) -> dict[str, Any] | None:
    """Return the training record that ``evalsuite sft`` wrote, if any."""
    path = folder / "training.json"
    return read_config(path) if path.is_file() else None
