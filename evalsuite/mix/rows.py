"""Reading and filtering the rows of a mix's sources, which are kept in memory as 64-bit keys, not as texts.

A conversation is three 64-bit numbers: the key by which it is drawn, the key of the text by which duplicates are found,
and its row index; in a blend, where it is drawn by its prompts, also the key of its content. With a million rows, the
probability that any two different ones share a key is below one in ten million.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evalsuite.assets import demo_checkpoint
from evalsuite.checkpoint import TOKENIZER_FILES
from evalsuite.conversations.fields import fields_of
from evalsuite.conversations.formats import (
    READ_COLUMNS,
    Conversation,
    Format,
    Thinking,
    conversation_of,
    detect_format,
    with_thoughts,
)
from evalsuite.conversations.source import Rows, open_source
from evalsuite.errors import DataError, first_line
from evalsuite.fingerprint import files_sha256
from evalsuite.mix.duplicates import plain
from evalsuite.progress import Progress
from evalsuite.recipes.recipe import Filters, Source, Text
from judges.types import Message, Unscored

_PROGRESS_EVERY = 500
_TOKENIZER_FILES = (*TOKENIZER_FILES, "vocab.txt", "*.model", "*.tiktoken")

_COMPLETE = (None, "stop", "tool_calls")
"""How an answer may have ended by default; None is not recorded."""

TokenCount = Callable[[Conversation], int]
"""Tokens of a conversation's texts, without a chat template."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One member of a source: its rows, their format, and the DGM that answered."""

    rows: Rows
    layout: Format
    dgm: str | None
    thinking: Thinking = "keep"

    def conversations(
        self, progress: Progress, task: str, wanted: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[int, Conversation | Unscored]]:
        """Yield every row's index and conversation, in the source's order; of ``wanted`` rows only, if given."""
        progress.begin(task, self.rows.n_rows)
        n_rows = 0
        for index, row in enumerate(self.rows):
            if wanted is None or (index < len(wanted) and wanted[index]):
                read = conversation_of(row, self.layout)
                yield index, read if isinstance(read, Unscored) else with_thoughts(read, self.thinking)
            n_rows = index + 1
            if n_rows % _PROGRESS_EVERY == 0:
                progress.advance(task, _PROGRESS_EVERY)
        progress.advance(task, n_rows % _PROGRESS_EVERY)


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows of one member that pass the filters: arrays of equal length, in the source's order.

    ``keys`` order the draw, ``texts`` identify duplicates, ``contents`` cover everything of a conversation
    that the mix contains (equal to the keys unless in a blend), ``rows`` are the row indices. ``dropped``
    counts the other rows by the rule that dropped them, ``changed`` those that are read with a change.
    """

    n_rows: int
    dropped: Mapping[str, int]
    changed: Mapping[str, int]
    keys: NDArray[np.uint64]
    texts: NDArray[np.uint64]
    contents: NDArray[np.uint64]
    rows: NDArray[np.int64]


def open_streams(source: Source, thinking: Thinking = "keep") -> tuple[Stream, ...]:
    """Open every member of a source; raises DataError for one that cannot be opened or read."""
    streams = []
    for spec, dgm, layout in source.members:
        rows = open_source(spec, READ_COLUMNS)
        streams.append(Stream(rows, layout or detect_format(rows.columns, spec), dgm, thinking))
    return tuple(streams)


def scan(stream: Stream, source: Source, on: Text, count_tokens: TokenCount | None, progress: Progress) -> Pool:
    """Read a member once: count the rows that the filters drop, and keep the keys of the rest.

    In a blend a conversation is drawn by its user turns, so that only one DGM answers it. Raises DataError
    if no row has the given format.
    """
    dropped: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    keys, texts, contents, indices = array("Q"), array("Q"), array("Q"), array("q")
    n_rows = 0
    example = ""
    for index, conversation in stream.conversations(progress, f"reading {source.name}"):
        n_rows += 1
        if isinstance(conversation, Unscored):
            dropped[conversation.reason] += 1
            example = example or conversation.detail
            continue
        if (rule := failed_rule(conversation, source.filters, count_tokens)) is not None:
            dropped[rule] += 1
            continue
        changed["empty_system_left_out"] += conversation.had_empty_system
        contents.append(key_of(content(conversation)))
        if source.blend:
            keys.append(key_of(compared_text(conversation, "prompts")))
        texts.append(key_of(compared_text(conversation, on)))
        indices.append(index)
    if n_rows and dropped["malformed_row"] == n_rows:
        raise DataError(
            f"no row of {stream.rows.spec} can be read as {stream.layout} ({example}); its columns are "
            f"{', '.join(stream.rows.columns)}: give another format, or none to detect it"
        )
    content_keys = np.array(contents, dtype=np.uint64)
    draw_keys = np.array(keys, dtype=np.uint64) if source.blend else content_keys
    text_keys, rows = np.array(texts, dtype=np.uint64), np.array(indices, dtype=np.int64)
    return Pool(n_rows, dict(sorted(dropped.items())), dict(+changed), draw_keys, text_keys, content_keys, rows)


def failed_rule(conversation: Conversation, filters: Filters, count_tokens: TokenCount | None) -> str | None:
    """Return the name of the first filter that a conversation fails, None if it passes all; pure.

    In addition to the recipe's filters, a conversation must end with an answer: "no_answer" if it has
    none, "ends_with_user" if the last one is missing.
    """
    messages = conversation.messages
    if messages[-1].role != "assistant":
        return "ends_with_user" if any(message.role == "assistant" for message in messages) else "no_answer"
    if filters.language is not None:
        allowed = {language.casefold() for language in filters.language}
        if (conversation.language or "").casefold() not in allowed:
            return "language"
    if filters.finish_reason != "any":
        complete = _COMPLETE if filters.finish_reason is None else filters.finish_reason
        ends = zip(messages, conversation.finish_reasons, strict=True)
        if any(end not in complete for message, end in ends if message.role == "assistant"):
            return "finish_reason"
    turns = sum(message.role == "user" for message in messages)
    chars = sum(len(text) for message in messages for text in texts_of(message))
    for rule, value in (("turns", turns), ("chars", chars)):
        minimum, maximum = getattr(filters, f"min_{rule}"), getattr(filters, f"max_{rule}")
        if minimum is not None and value < minimum:
            return f"min_{rule}"
        if maximum is not None and value > maximum:
            return f"max_{rule}"
    if filters.max_tokens is not None and count_tokens is not None and count_tokens(conversation) > filters.max_tokens:
        return "max_tokens"
    return None


def compared_text(conversation: Conversation, on: Text) -> str:
    """Return the normalised text by which two conversations are compared."""
    if on == "prompts":
        return plain("\n\n".join(message.content for message in conversation.messages if message.role == "user"))
    turns = ("\n".join([message.role, *texts_of(message)]) for message in conversation.messages)
    return plain("\n\n".join(turns))


def texts_of(message: Message) -> list[str]:
    """Return all texts of a message: content, thought and tool calls."""
    further = [message.thought or "", *(f"{call.name} {call.arguments}" for call in message.tool_calls)]
    return [message.content, *(text for text in further if text)]


def content(conversation: Conversation) -> str:
    """Return everything of a conversation that the mix contains, as canonical JSON."""
    turns = [_fields(message) for message in conversation.messages]
    tools = [] if conversation.tools is None else [conversation.tools]
    return json.dumps([conversation.hash, turns, *tools], ensure_ascii=False, separators=(",", ":"))


def _fields(message: Message) -> list[Any]:
    fields = fields_of(message)
    return [fields.pop("role"), fields.pop("content"), *([fields] if fields else [])]


def key_of(text: str) -> int:
    """Return a 64-bit key of a text, the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def tokenizer_sha256(model: str) -> str:
    """Hash the files of a model's tokenizer (a folder, a hub id or ``demo``), on which ``max_tokens`` depends.

    Files on the hub are downloaded. Raises DataError if there are none.
    """
    try:
        folder = _tokenizer_folder(model)
    except Exception as error:  # the hub client and the file system raise many types
        raise _no_tokenizer(model, first_line(error)) from error
    if not (files := {file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern)}):
        raise _no_tokenizer(model, "no tokenizer files")
    return files_sha256(files)


def _tokenizer_folder(model: str) -> Path:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if model == "demo":
        return demo_checkpoint()
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, allow_patterns=[*_TOKENIZER_FILES, "config.json"]))


def _no_tokenizer(model: str, reason: str) -> DataError:
    return DataError(f"cannot load the tokenizer {model!r} ({reason}); give another model as mix.tokenizer")


def tokenizer_counter(model: str) -> tuple[TokenCount, dict[str, Any]]:
    """Load the tokenizer of a model (a folder, a hub id or ``demo``) and return a counter and its description.

    Raises DataError if it cannot be loaded.
    """
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(_tokenizer_folder(model))
    except Exception as error:  # the hub client, the file system and the tokenizer raise many types
        raise _no_tokenizer(model, first_line(error)) from error

    def count(conversation: Conversation) -> int:
        texts = [text for message in conversation.messages for text in texts_of(message)]
        return sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])

    return count, {"name": model, "vocabulary": len(tokenizer)}
