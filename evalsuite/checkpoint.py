"""Resolve a model given on the command line to a checkpoint that can be served.

A model is a local folder (safetensors, sharded or not; a LoRA adapter), a hub id, ``demo``, or
``NAME@URL`` for an external server.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalsuite.errors import CheckpointError, DataError, UsageError, first_line
from evalsuite.files import exists, parse_json, read_json, read_text
from evalsuite.fingerprint import files_sha256, text_sha256
from evalsuite.redaction import without_secrets
from evalsuite.text import well_formed

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tekken.json",
)
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
_ENDPOINT = re.compile(r"(?P<name>.*?)@(?P<url>https?://.+)", re.DOTALL)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_MAX_TEXT_BYTES = 1 << 26
"""The largest JSON file or template that is read; those of published models have a few megabytes at most."""
_MAX_HEADER_BYTES = 100_000_000
"""The largest header that the safetensors library reads."""
_HUB_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that can be queried.

    ``path`` is the folder to serve (the base model's for a LoRA adapter, whose own folder is
    ``adapter``); None when ``endpoint`` is set. ``fingerprint`` covers weights and config: 64
    hex digits; for an endpoint it covers only name and URL.
    """

    name: str
    path: Path | None
    fingerprint: str
    tokenizer_sha256: str | None = None
    chat_template: str | None = None
    adapter: Path | None = None
    endpoint: str | None = None
    config: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    trust_remote_code: bool = False
    """Whether code shipped with the checkpoint may run."""

    @property
    def slug(self) -> str:
        """Readable folder name plus the first 8 digits of the fingerprint."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.") or "model"
        return f"{name[:80]}-{self.fingerprint[:8]}"

    @property
    def chat_template_sha256(self) -> str | None:
        return None if self.chat_template is None else text_sha256(self.chat_template)

    @property
    def context_length(self) -> int | None:
        """Maximum number of positions in the config, None if it has none."""
        config = self.config or {}
        for section in (config, config.get("text_config")):
            value = section.get("max_position_embeddings") if isinstance(section, dict) else None
            if isinstance(value, int) and value > 0:
                return value
        return None


def resolve(
    spec: str,
    *,
    chat_template_file: Path | None = None,
    base_url: str | None = None,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    on_step: Callable[[str], None] = lambda _: None,
) -> Checkpoint:
    """Find and check the model given as ``spec``; raises CheckpointError or UsageError.

    No code of the model is run and nothing is unpickled here. ``allow_pickle`` accepts weights that can
    run code when a server loads them; ``trust_remote_code`` accepts code shipped with the checkpoint,
    whose files then count in the fingerprint. ``base_url`` attaches to a running server: a folder or hub
    id then provides the tokenizer and template, and a bare served name has neither.
    """
    if served := _ENDPOINT.fullmatch(spec):
        return _endpoint(served["name"] or "model", served["url"])
    trust = _Trust(allow_pickle, trust_remote_code)
    if base_url and not (_HUB_ID.fullmatch(spec) or spec == "demo" or exists(Path(spec).expanduser())):
        return _endpoint(spec, base_url)
    folder, name = _located(spec, trust, on_step)
    if (folder / "adapter_config.json").is_file():
        return _adapter(folder, name, chat_template_file, trust, on_step)
    return _folder(folder, name, chat_template_file, trust)


def _located(spec: str, trust: _Trust, on_step: Callable[[str], None]) -> tuple[Path, str]:
    """Return the folder of a model and its name, after a download if need be."""
    if spec == "demo" and not Path("demo").exists():
        from evalsuite.assets import demo_checkpoint

        return demo_checkpoint(on_step=on_step), "demo"
    folder = Path(spec).expanduser()
    if exists(folder) and folder.is_dir():
        return folder, well_formed(folder.resolve().name)
    if exists(folder):
        raise CheckpointError(f"{spec} is a file; give the checkpoint's folder")
    if _HUB_ID.fullmatch(spec) and not spec.startswith(("./", "../")):
        return _from_hub(spec, trust, on_step), spec.rpartition("/")[2]
    shown = without_secrets(spec)
    raise UsageError(f"model {shown!r} not found; give an existing checkpoint folder, a hub id, demo, or NAME@URL")


@dataclass(frozen=True, slots=True)
class _Trust:
    """Which parts of a checkpoint may run code."""

    pickle: bool
    remote_code: bool


def _endpoint(name: str, url: str) -> Checkpoint:
    name = well_formed(name)
    # The fingerprint is public: a password must not be guessable from it.
    fingerprint = text_sha256(f"endpoint\x1f{name}\x1f{without_secrets(url)}")
    return Checkpoint(name=name, path=None, fingerprint=fingerprint, endpoint=url)


def _from_hub(repo: str, trust: _Trust, on_step: Callable[[str], None]) -> Path:
    from huggingface_hub import snapshot_download

    on_step(f"fetching {repo} from the hub")
    try:
        return Path(snapshot_download(repo, allow_patterns=[*_HUB_PATTERNS, *(["*.py"] if trust.remote_code else [])]))
    except Exception as error:  # the hub client raises many types; all mean that the model is not available
        raise CheckpointError(
            f"cannot download {repo} from the hub ({first_line(error)}); check the id and your access, "
            "or give a local folder"
        ) from error


def _folder(folder: Path, name: str, template_file: Path | None, trust: _Trust) -> Checkpoint:
    config = _read_config(folder / "config.json")
    weights = _weight_files(folder, allow_pickle=trust.pickle)
    code = sorted(folder.glob("*.py")) if trust.remote_code else []
    tokenizer = [folder / file for file in TOKENIZER_FILES if (folder / file).is_file()]
    if not any(file.name in _VOCABULARIES for file in tokenizer):
        raise CheckpointError(
            f"{folder} has weights but no tokenizer ({', '.join(_VOCABULARIES)}); "
            "copy the base model's tokenizer files into it"
        )
    return Checkpoint(
        name=name,
        path=folder,
        fingerprint=files_sha256([*weights, folder / "config.json", *code]),
        tokenizer_sha256=files_sha256(tokenizer),
        chat_template=_chat_template(folder, template_file),
        config=config,
        training=_training(folder),
        trust_remote_code=trust.remote_code,
    )


def _adapter(
    folder: Path, name: str, template_file: Path | None, trust: _Trust, on_step: Callable[[str], None]
) -> Checkpoint:
    """Return a LoRA adapter on its base model, which must be a full checkpoint."""
    settings = _read_config(folder / "adapter_config.json")
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise CheckpointError(
            f"{folder} has adapter_config.json but no adapter_model.safetensors; save the adapter again"
        )
    _check_safetensors(weights)
    base_spec = settings.get("base_model_name_or_path")
    if not isinstance(base_spec, str) or not base_spec:
        raise CheckpointError(f"{folder / 'adapter_config.json'} has no base_model_name_or_path; add it")
    if not isinstance(rank := settings.get("r", 16), int) or rank < 1:
        raise CheckpointError(f"{folder / 'adapter_config.json'} has the rank r={rank!r}; save the adapter again")
    about = f"the base model {base_spec!r} of the adapter {folder}"
    try:
        base_folder, base_name = _located(base_spec, trust, on_step)
    except UsageError as error:
        raise CheckpointError(f"{about} was not found; put it at that path") from error
    if (base_folder / "adapter_config.json").is_file():
        raise CheckpointError(f"{about} is an adapter itself; merge it into its base and name the result")
    base = _folder(base_folder, base_name, None, trust)
    template = _chat_template(folder, template_file)
    return replace(
        base,
        name=name,
        fingerprint=text_sha256(base.fingerprint + files_sha256([weights, folder / "adapter_config.json"])),
        chat_template=template if template is not None else base.chat_template,
        adapter=folder,
        training=_training(folder),
    )


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}; give the folder that save_pretrained wrote")
    try:
        config = read_json(path, _MAX_TEXT_BYTES, "save the checkpoint again")
    except DataError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} is not a JSON object; save the checkpoint again")
    return config


def _weight_files(folder: Path, *, allow_pickle: bool) -> list[Path]:
    shards = _shards(folder)
    if shards is not None:
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing or not shards:
            raise CheckpointError(
                f"{folder} lacks {len(missing)} of {len(shards)} shards ({', '.join(missing[:3])}); copy the rest"
            )
        files = [folder / shard for shard in shards]
    else:
        files = sorted(file for file in folder.glob("*.safetensors") if file.is_file())
    if not files:
        pickles = sorted([*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        if not pickles:
            raise CheckpointError(
                f"{folder} has no weights (*.safetensors); give the folder that save_pretrained wrote"
            )
        if not allow_pickle:
            raise CheckpointError(
                f"{folder} holds pickled weights ({pickles[0].name}), which can run code when loaded; "
                "save it as safetensors, or pass --allow-pickle if you trust it"
            )
        return pickles
    for file in files:
        _check_safetensors(file)
    return files


def _shards(folder: Path) -> list[str] | None:
    """Return the names of the weight files that the index lists, None without an index."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return None
    weight_map = _read_config(index).get("weight_map", {})
    names = weight_map.values() if isinstance(weight_map, dict) else [None]
    if not all(isinstance(name, str) and name not in ("", "..") and Path(name).name == name for name in names):
        raise CheckpointError(f"weight_map in {index} does not name files of the folder; copy the index again")
    return sorted(set(names))


def _check_safetensors(path: Path) -> None:
    """Compare the header's last offset with the file size, so that a truncated download fails early."""
    size = path.stat().st_size
    try:
        with path.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if 0 < length <= size - 8 and length > _MAX_HEADER_BYTES:
                raise ValueError(f"its header claims {length:,} bytes")
            header = parse_json(handle.read(length).decode("utf-8")) if 0 < length <= size - 8 else None
        entries = [entry for key, entry in header.items() if key != "__metadata__"] if header is not None else []
        end = max((operator.index(entry["data_offsets"][1]) for entry in entries), default=None)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error}); copy it again") from error
    if header is None or (end is not None and 8 + length + end != size):
        expected = "a header" if end is None else f"{8 + length + end:,} bytes"
        raise CheckpointError(f"{path} is truncated: it has {size:,} bytes, its header needs {expected}; copy it again")


def _chat_template(folder: Path, override: Path | None) -> str | None:
    if override is not None:
        try:
            return read_text(override, _MAX_TEXT_BYTES, "give a Jinja file")
        except DataError as error:
            raise UsageError(f"--chat-template: {error}") from error
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        try:
            return read_text(plain, _MAX_TEXT_BYTES, "save it as UTF-8, or pass --chat-template")
        except DataError as error:
            raise CheckpointError(str(error)) from error
    for file in ("chat_template.json", "tokenizer_config.json"):
        if not (folder / file).is_file():
            continue
        template = _read_config(folder / file).get("chat_template")
        if isinstance(template, str):
            return template
        if isinstance(template, list):
            named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
            if named and isinstance(text := named[0].get("template"), str):
                return text
    return None


def _training(folder: Path) -> dict[str, Any] | None:
    """Return the training record that ``evalsuite sft`` wrote, if any."""
    path = folder / "training.json"
    return _read_config(path) if path.is_file() else None


def remote_code(checkpoint: Checkpoint) -> list[str]:
    """Return the references to custom code (``auto_map``) in a checkpoint's configs; usually empty."""
    if checkpoint.path is None:
        return []
    tokenizer = checkpoint.path / "tokenizer_config.json"
    configs = [checkpoint.config or {}, _read_config(tokenizer) if tokenizer.is_file() else {}]
    maps = [config.get("auto_map") for config in configs]
    values = [value for auto_map in maps if isinstance(auto_map, dict) for value in auto_map.values()]
    references = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return sorted({reference for reference in references if isinstance(reference, str)})


def weight_bytes(checkpoint: Checkpoint) -> int:
    """Return the bytes of weights on disk, a lower bound for serving memory; 0 for an endpoint."""
    if checkpoint.path is None:
        return 0
    files = {file.name: file.stat().st_size for file in checkpoint.path.glob("*.safetensors")}
    # consolidated* is a second copy of the weights, for Mistral's own loader.
    listed = _shards(checkpoint.path) or [name for name in files if not name.startswith("consolidated")]
    return sum(size for name, size in files.items() if name in listed or not listed)


def generation_config(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Return the checkpoint's generation_config.json, empty if it has none; None for an endpoint."""
    if checkpoint.path is None:
        return None
    for folder in (checkpoint.adapter or checkpoint.path, checkpoint.path):
        path = folder / "generation_config.json"
        if path.is_file():
            try:
                settings = read_json(path, _MAX_TEXT_BYTES)
            except DataError:
                return {}
            return settings if isinstance(settings, dict) else {}
    return {}
