"""The tensors of a checkpoint as the headers of its files list them, compared with its index and its config."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.checkpoint.quantization import quantization_config
from evalsuite.checkpoint.shards import unmerged, weight_map
from evalsuite.checkpoint.text_part import text_config
from evalsuite.errors import CheckpointError
from evalsuite.files import parse_json

_MAX_HEADER_BYTES = 100_000_000
"""The largest header that the safetensors library reads."""
_EMBEDDING = "embed_tokens.weight"
_EMBEDDINGS = (
    "model.embed_tokens.weight",
    "language_model.model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight",
    "model.text_model.embed_tokens.weight",
    "thinker.model.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "transformer.wte.weight",
    "wte.weight",
    "gpt_neox.embed_in.weight",
    "transformer.word_embeddings.weight",
    "backbone.embeddings.weight",
)
_HEADS = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output|output_layer|head)\.")
_PLAIN = frozenset({"F32", "F16", "BF16"})
_LAYER = re.compile(
    r"(?:(?:model|language_model|text_model|thinker|transformer|gpt_neox|backbone)\.)+(?:layers|h)\.(\d+)\."
)
_EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(.+)")
_EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")
_FIRST_MLP = "layers.0.mlp.gate_proj.weight"
"""Beside the embedding."""
_GENERATES = re.compile(r"ForCausalLM|ForConditionalGeneration|LMHeadModel")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a safetensors file; ``start`` and ``end`` are its bytes in the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Return the tensors of weight files by name, from the headers of safetensors; raises CheckpointError.

    Pickled files are not read. A header's last offset is compared with the size of its file, so that a truncated
    download fails early.
    """
    tensors: dict[str, Tensor] = {}
    for file in files:
        if file.suffix == ".safetensors":
            tensors |= _read_header(file)
    return tensors


def _read_header(path: Path) -> dict[str, Tensor]:
    size = path.stat().st_size
    tensors: dict[str, Tensor] | None = None
    length = 0
    try:
        with path.open("rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if 0 < length <= size - 8:
                if length > _MAX_HEADER_BYTES:
                    raise ValueError(f"its header claims {length:,} bytes")
                header = parse_json(handle.read(length).decode("utf-8"))
                tensors = {
                    name: _tensor(path, entry, 8 + length) for name, entry in header.items() if name != "__metadata__"
                }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a safetensors file ({error}); copy it again") from error
    end = max((tensor.end for tensor in (tensors or {}).values()), default=None)
    if tensors is None or (end is not None and end != size):
        expected = "a header" if end is None else f"{end:,} bytes"
        raise CheckpointError(f"{path} is truncated: it has {size:,} bytes, its header needs {expected}; copy it again")
    return tensors


def _tensor(path: Path, entry: Mapping[str, Any], data: int) -> Tensor:
    start, end = map(operator.index, entry["data_offsets"])
    return Tensor(path, str(entry["dtype"]), tuple(map(operator.index, entry["shape"])), data + start, data + end)


def check_tensors(folder: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Raise CheckpointError where weights are missing or empty, or do not fit the config.

    What is missing would be newly initialised, at random, by transformers.
    """
    _check_index(folder, tensors)
    empty = sorted(name for name, tensor in tensors.items() if 0 in tensor.shape and name.endswith(("weight", "bias")))
    if empty:
        raise CheckpointError(
            unmerged(folder)
            or f"{folder} has {len(empty)} empty tensors ({', '.join(empty[:2])}), as ZeRO-3 leaves them; "
            "save it with stage3_gather_16bit_weights_on_model_save"
        )
    text = text_config(config)
    found = {int(match[1]) for name in tensors if (match := _LAYER.match(name))}
    n_layers = text.get("num_hidden_layers", text.get("n_layer"))
    if found and isinstance(n_layers, int) and (lost := sorted(set(range(min(n_layers, 10_000))) - found)):
        raise CheckpointError(
            f"{folder} has no weights for {len(lost)} of {n_layers} layers (layer {lost[0]}); save the checkpoint again"
        )
    _check_experts(folder, tensors, text)
    quantised = quantization_config(config) is not None
    if not quantised:
        _check_widths(folder, tensors, text)
    embedding = embedding_of(tensors)
    if embedding is None:
        return
    if not any(_HEADS.search(name) for name in tensors) and _needs_head(config):
        raise CheckpointError(
            f"{folder} has no lm_head.weight, and its head is not the embedding (tie_word_embeddings is false); save "
            "the checkpoint again, or set it to true in config.json if the head is tied"
        )
    rows, vocabulary = embedding.shape[0], text.get("vocab_size")
    if isinstance(vocabulary, int) and rows != vocabulary and not quantised:
        raise CheckpointError(
            f"{folder} has {rows:,} rows in its embedding, and its config has vocab_size {vocabulary:,}; "
            "save config and weights together again"
        )


def _check_experts(folder: Path, tensors: Mapping[str, Tensor], text: Mapping[str, Any]) -> None:
    """Look for experts without weights, which vLLM leaves uninitialised and says nothing of."""
    n_experts = next((text[key] for key in _EXPERT_COUNTS if isinstance(text.get(key), int)), 0)
    found: dict[tuple[str, str], set[int]] = {}
    for name in tensors:
        if match := _EXPERT.fullmatch(name):
            # A quantised layer has several tensors, and a plain one among them another.
            found.setdefault((match[1], match[3].rpartition(".")[0]), set()).add(int(match[2]))
    for (experts, layer), numbers in found.items():
        if lost := sorted(set(range(min(n_experts, 10_000))) - numbers):
            raise CheckpointError(
                f"{folder} has no weights for {len(lost)} of {n_experts} experts ({experts}.{lost[0]}.{layer}); save "
                "the checkpoint again"
            )


def _check_widths(folder: Path, tensors: Mapping[str, Tensor], text: Mapping[str, Any]) -> None:
    """Compare the first MLP with the config: vLLM cuts weights that are too wide and says nothing."""
    prefix = next((name.removesuffix(_EMBEDDING) for name in _EMBEDDINGS if name in tensors), "")
    if (gate := tensors.get(prefix + _FIRST_MLP)) is None or len(gate.shape) != 2:
        return
    for key, width in zip(("intermediate_size", "hidden_size"), gate.shape, strict=True):
        if isinstance(said := text.get(key), int) and said != width:
            raise CheckpointError(
                f"{folder} has {width:,} as {key} in its weights and {said:,} in its config; save config and weights "
                "together again"
            )


def embedding_of(tensors: Mapping[str, Tensor]) -> Tensor | None:
    """Return the embedding of the tokens, None where it is not known by name."""
    return next((tensors[name] for name in _EMBEDDINGS if name in tensors and len(tensors[name].shape) == 2), None)


def has_plain_head(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the output layer's weights are floats as they are: those of a head, else of the embedding."""
    found = [name for name in tensors if _HEADS.search(name)] or [name for name in _EMBEDDINGS if name in tensors]
    return bool(found) and all(name.endswith((".weight", ".bias")) and tensors[name].dtype in _PLAIN for name in found)


def _check_index(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    listed = weight_map(folder) or {}
    lost = sorted(listed.keys() - tensors.keys())
    if lost:
        raise CheckpointError(
            f"{folder} lacks {len(lost)} of the {len(listed)} tensors that its index lists ({', '.join(lost[:3])}); "
            "save or copy the checkpoint again"
        )


def generators_in(config: Mapping[str, Any]) -> list[str]:
    """Return the architectures in a config that generate text, by name."""
    named = config.get("architectures")
    return [name for name in map(str, named if isinstance(named, list) else ()) if _GENERATES.search(name)]


def _needs_head(config: Mapping[str, Any]) -> bool:
    """Whether the model generates with a head of its own; False where that is not known."""
    if not generators_in(config):
        return False
    inner = text_config(config)
    said = [part["tie_word_embeddings"] for part in (config, inner) if part.get("tie_word_embeddings") is not None]
    if said:
        return not any(said)
    # A config leaves out what is its class's default.
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    try:
        return getattr(CONFIG_MAPPING[str(inner.get("model_type"))], "tie_word_embeddings", None) is False
    except KeyError:
        return False
