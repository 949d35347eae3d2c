"""The tokenizer that vLLM is given, where it would read a checkpoint's own as another kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.checkpoint.adapters import tokenizer_files
from evalsuite.checkpoint.json_files import read_config
from evalsuite.files import write_json

_SETTINGS, _VOCABULARY = "tokenizer_config.json", "tokenizer.json"
_SENTENCEPIECE = frozenset({"LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast"})
"""Classes that transformers 5 builds with SentencePiece's steps, whatever tokenizer.json says
(huggingface/transformers@v5.19.0 src/transformers/models/llama/tokenization_llama.py)."""
_AS_WRITTEN = "PreTrainedTokenizerFast"
"""The class that is what tokenizer.json says, which evalsuite loads too."""


def corrected_tokenizer(checkpoint: Checkpoint) -> TemporaryDirectory[str] | None:
    """Return a folder with the tokenizer under the right class, None for a checkpoint that names it.

    DeepSeek-R1-Distill-Llama calls its byte-level tokenizer a LlamaTokenizer: vLLM's answers would have "Ġ" in place
    of spaces. The caller removes the folder.
    """
    folder = checkpoint.tokenizer_folder
    if folder is None or not (folder / _SETTINGS).is_file() or not (folder / _VOCABULARY).is_file():
        return None
    settings = read_config(folder / _SETTINGS)
    if settings.get("tokenizer_class") not in _SENTENCEPIECE or not _is_byte_level(read_config(folder / _VOCABULARY)):
        return None
    corrected = TemporaryDirectory(prefix="evalsuite-tokenizer-")
    for file in tokenizer_files(folder):
        if file.name != _SETTINGS:
            Path(corrected.name, file.name).symlink_to(file.resolve())
    write_json(Path(corrected.name, _SETTINGS), settings | {"tokenizer_class": _AS_WRITTEN})
    return corrected


def _is_byte_level(vocabulary: Mapping[str, Any]) -> bool:
    decoder = vocabulary.get("decoder")
    steps = [decoder, *(decoder.get("decoders") or ())] if isinstance(decoder, dict) else []
    return any(isinstance(step, dict) and step.get("type") == "ByteLevel" for step in steps)
