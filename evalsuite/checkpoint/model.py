"""A model that can be queried, and what its small files say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from evalsuite.checkpoint.json_files import MAX_TEXT_BYTES, read_config
from evalsuite.checkpoint.quantization import quantization
from evalsuite.checkpoint.shards import listed_shards, pickled_weights
from evalsuite.checkpoint.text_part import text_config
from evalsuite.errors import DataError
from evalsuite.files import read_json
from evalsuite.fingerprint import text_sha256

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
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")
TEMPLATE_DATE = date(2024, 7, 26)
"""The date that templates write as today's unless another is asked for: the one that Llama 3.2's template writes
where it is not told the date (meta-llama/Llama-3.2-1B-Instruct chat template)."""
_DATE_FUNCTION = "strftime_now"
# Where configs have the context, in the order of vLLM's derive_max_model_len_and_key, and n_ctx of old GPT models.
_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_sequence_length",
    "max_seq_length",
)
_LONG_ROPE = frozenset({"longrope", "su"})
"""The names of LongRoPE in configs; "su" is the older one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model that can be queried.

    ``path`` is the folder to serve (the base model's for a LoRA adapter, whose own folder is
    ``adapter``); None when ``endpoint`` is set. ``fingerprint`` covers weights and config: 64
    hex digits; for an endpoint its name and what the server reports of it, which is ``served``.
    """

    name: str
    path: Path | None
    fingerprint: str
    tokenizer_sha256: str | None = None
    chat_template: str | None = None
    adapter: Path | None = None
    endpoint: str | None = None
    served: dict[str, Any] | None = None
    served_name: str | None = None
    """The endpoint's own name for a model that the user calls otherwise."""
    config: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    training_step: dict[str, Any] | None = None
    """How far training had come, for a checkpoint saved along the way (``training_run.training_step``)."""
    trust_remote_code: bool = False
    """Whether code shipped with the checkpoint may run."""
    own_tokenizer: bool = False
    """Whether an adapter brings a tokenizer, which then replaces its base's."""
    template_names: tuple[str, ...] = ()
    """The names of the chat templates to choose from, where none of them is the default."""
    template_date: date = TEMPLATE_DATE
    """What the chat template writes as today's date."""
    embedding_rows: int | None = None
    """How many tokens the weights have an embedding for, where it is known."""
    has_plain_head: bool = False
    """Whether the output layer's weights are known to be plain floats, whatever the others are."""

    @property
    def slug(self) -> str:
        """Readable folder name plus the first 8 digits of the fingerprint."""
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.") or "model"
        return f"{name[:80]}-{self.fingerprint[:8]}"

    @property
    def quantization(self) -> str | None:
        """The method and bits of quantised weights, as "gptq 4-bit"; None where they are not quantised."""
        return quantization(self.config)

    @property
    def chat_template_sha256(self) -> str | None:
        return None if self.chat_template is None else text_sha256(self.chat_template)

    @property
    def writes_date(self) -> bool:
        return _DATE_FUNCTION in (self.chat_template or "")

    @property
    def tokenizer_folder(self) -> Path | None:
        """The folder of the tokenizer: the adapter's if it brings one, else that of the weights."""
        return self.adapter if self.own_tokenizer else self.path

    @property
    def context_length(self) -> int | None:
        """Maximum number of positions in the config, None if it has none."""
        config = self.config or {}
        for section in (text_config(config), config):
            for value in (section.get(key) for key in _CONTEXT_KEYS):
                if isinstance(value, int) and value > 0:
                    return value
        return None

    @property
    def plain_context(self) -> int | None:
        """The longest context in which short prompts are read as in training; None if the config does not say.

        With LongRoPE (Phi-3, Phi-4-mini) that is less than ``context_length``: transformers scales the positions of
        long prompts only, vLLM those of every prompt once the context it serves is longer (vllm-project/vllm@v0.32.0
        vllm/model_executor/layers/rotary_embedding/phi3_long_rope_scaled_rope.py). It is vLLM's own default.
        """
        length, config = self.context_length, self.config or {}
        for section in (text_config(config), config):
            rope = section.get("rope_parameters") or section.get("rope_scaling")
            if not isinstance(rope, dict) or not _LONG_ROPE & {rope.get("rope_type"), rope.get("type")}:
                continue
            for trained in (section, rope):
                value = trained.get("original_max_position_embeddings")
                if isinstance(value, int) and value > 0:
                    return value if length is None else min(value, length)
        return length


def remote_code(checkpoint: Checkpoint) -> list[str]:
    """Return the references to custom code (``auto_map``) in a checkpoint's configs; usually empty."""
    if checkpoint.path is None:
        return []
    tokenizer = checkpoint.path / "tokenizer_config.json"
    configs = [checkpoint.config or {}, read_config(tokenizer) if tokenizer.is_file() else {}]
    maps = [config.get("auto_map") for config in configs]
    values = [value for auto_map in maps if isinstance(auto_map, dict) for value in auto_map.values()]
    references = [each for value in values for each in (value if isinstance(value, list) else [value])]
    return sorted({reference for reference in references if isinstance(reference, str)})


def weight_bytes(checkpoint: Checkpoint) -> int:
    """Return the bytes of weights on disk, a lower bound for serving memory; 0 for an endpoint."""
    if checkpoint.path is None:
        return 0
    files = {file.name: file.stat().st_size for file in checkpoint.path.glob("*.safetensors")}
    if not files:
        return sum(file.stat().st_size for file in pickled_weights(checkpoint.path))
    listed = listed_shards(checkpoint.path)
    return sum(size for name, size in files.items() if listed is None or name in listed)


def generation_config(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Return the checkpoint's generation_config.json, empty if it has none; None for an endpoint."""
    if checkpoint.path is None:
        return None
    for folder in (checkpoint.adapter or checkpoint.path, checkpoint.path):
        path = folder / "generation_config.json"
        if path.is_file():
            try:
                settings = read_json(path, MAX_TEXT_BYTES)
            except DataError:
                return {}
            return settings if isinstance(settings, dict) else {}
    return {}
