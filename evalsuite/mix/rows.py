"""The rows of a mix's sources: read, filtered, and known by numbers instead of by their texts.

A conversation is kept in memory as three 64-bit numbers: the key it is drawn by, the key of the text that
makes it a duplicate, and its place in the source; in a blend, where it is drawn by its prompts, the key of its
content too. With a million rows the chance that any two different
ones share a 64-bit key is below one in ten million.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.assets import demo_checkpoint
from evalsuite.assets.hub import one_line
from evalsuite.checkpoint import TOKENIZER_FILES
from evalsuite.conversations.formats import Conversation, Format, conversation_of, detect_format
from evalsuite.conversations.source import Rows, open_source
from evalsuite.errors import DataError
from evalsuite.fingerprint import files_sha256
from evalsuite.progress import Progress
from evalsuite.recipes.recipe import Filters, Source, Text
from judges.types import Unscored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TELL_EVERY = 500
_TOKENIZER_FILES = (*TOKENIZER_FILES, "vocab.txt", "*.model", "*.tiktoken")

TokenCount = Callable[[Conversation], int]
"""Tokens of a conversation's texts, without a chat template."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One member of a source: its rows, how to read them, and the DGM that answered."""

    rows: Rows
    layout: Format
    dgm: str | None

    def conversations(self, progress: Progress, task: str) -> Iterator[tuple[int, Conversation | Unscored]]:
        """Yield every row's place and what it says, in the source's order."""
        progress.begin(task, self.rows.n_rows)
        waiting = 0
        for place, row in enumerate(self.rows):
            yield place, conversation_of(row, self.layout)
            waiting += 1
            if waiting == _TELL_EVERY:
                progress.advance(task, waiting)
                waiting = 0
        progress.advance(task, waiting)


@dataclass(frozen=True, slots=True)
class Pool:
    """What one member has to offer after the filters: arrays of one length, in the source's order.

    ``keys`` order the draw, ``texts`` tell duplicates, ``contents`` cover everything of a conversation that
    the mix holds (in a source that is no blend they are the keys). ``dropped`` counts the other rows by the
    rule that dropped them.
    """

    n_rows: int
    dropped: Mapping[str, int]
    keys: NDArray[np.uint64]
    texts: NDArray[np.uint64]
    contents: NDArray[np.uint64]
    places: NDArray[np.int64]


def open_streams(source: Source) -> tuple[Stream, ...]:
    """Open every member of a source; raises DataError in one sentence for what cannot be opened or read."""
    streams = []
    for word, dgm, given in source.members:
        rows = open_source(word)
        streams.append(Stream(rows, given or detect_format(rows.columns, word), dgm))
    return tuple(streams)


def scan(stream: Stream, source: Source, on: Text, count_tokens: TokenCount | None, progress: Progress) -> Pool:
    """Read a member once: count what the filters drop, and keep the numbers of the rest.

    In a blend a conversation is drawn by its user turns, so that it is answered by one DGM only.
    Raises DataError when no row has the given layout.
    """
    import numpy as np

    dropped: Counter[str] = Counter()
    keys, texts, contents, places = array("Q"), array("Q"), array("Q"), array("q")
    n_rows = 0
    example = ""
    for place, conversation in stream.conversations(progress, f"reading {source.name}"):
        n_rows += 1
        if isinstance(conversation, Unscored):
            dropped[conversation.reason] += 1
            example = example or conversation.detail
            continue
        rule = failed_rule(conversation, source.filters, count_tokens)
        if rule is not None:
            dropped[rule] += 1
            continue
        contents.append(key_of(content(conversation)))
        if source.blend:
            keys.append(prompts_key(conversation))
        texts.append(prompts_key(conversation) if on == "prompts" else key_of(plain(whole_text(conversation))))
        places.append(place)
    if n_rows and dropped["malformed_row"] == n_rows:
        raise DataError(
            f"no row of {stream.rows.word} reads as {stream.layout} ({example}); its columns are "
            f"{', '.join(stream.rows.columns)}: give another format, or none to have it detected"
        )
    whole = np.array(contents, dtype=np.uint64)
    return Pool(
        n_rows,
        dict(sorted(dropped.items())),
        np.array(keys, dtype=np.uint64) if source.blend else whole,
        np.array(texts, dtype=np.uint64),
        whole,
        np.array(places, dtype=np.int64),
    )


def failed_rule(conversation: Conversation, filters: Filters, count_tokens: TokenCount | None) -> str | None:
    """Return the name of the first filter that a conversation does not pass, None when it passes all; pure.

    Besides the recipe's filters a conversation must end on an answer: "no_answer" where it has none,
    "ends_with_user" where the last one is missing.
    """
    messages = conversation.messages
    if messages[-1].role != "assistant":
        return "ends_with_user" if any(message.role == "assistant" for message in messages) else "no_answer"
    if filters.language is not None:
        known = {language.casefold() for language in filters.language}
        if (conversation.language or "").casefold() not in known:
            return "language"
    if filters.finish_reason is not None:
        ends = zip(messages, conversation.finish_reasons, strict=True)
        if any(end not in filters.finish_reason for message, end in ends if message.role == "assistant"):
            return "finish_reason"
    turns = sum(message.role == "user" for message in messages)
    chars = sum(len(message.content) for message in messages)
    for rule, value in (("turns", turns), ("chars", chars)):
        least, most = getattr(filters, f"min_{rule}"), getattr(filters, f"max_{rule}")
        if least is not None and value < least:
            return f"min_{rule}"
        if most is not None and value > most:
            return f"max_{rule}"
    if filters.max_tokens is not None and count_tokens is not None and count_tokens(conversation) > filters.max_tokens:
        return "max_tokens"
    return None


def plain(text: str) -> str:
    """Return a text without regard to case, white space and how marks are composed, for comparing.

    Characters that only look alike stay different: 2³ is not 23.
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def whole_text(conversation: Conversation) -> str:
    return "\n\n".join(f"{message.role}\n{message.content}" for message in conversation.messages)


def prompts_text(conversation: Conversation) -> str:
    return "\n\n".join(message.content for message in conversation.messages if message.role == "user")


def compared_text(conversation: Conversation, on: Text) -> str:
    """Return the text that two conversations are compared by, in plain form."""
    return plain(prompts_text(conversation) if on == "prompts" else whole_text(conversation))


def prompts_key(conversation: Conversation) -> int:
    return key_of(plain(prompts_text(conversation)))


def content(conversation: Conversation) -> str:
    """Return everything of a conversation that the mix holds, as canonical JSON."""
    turns = [[message.role, message.content] for message in conversation.messages]
    return json.dumps([conversation.hash, turns], ensure_ascii=False, separators=(",", ":"))


def key_of(text: str) -> int:
    """Return a 64-bit key of a text: the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def tokenizer_sha256(word: str) -> str:
    """Hash the files of a model's tokenizer (a folder, a hub id or ``demo``): under others ``max_tokens`` differs.

    Those of the hub are fetched. Raises DataError in one sentence when there are none.
    """
    try:
        folder = _tokenizer_folder(word)
    except Exception as error:  # the hub and the file system each have their own errors
        raise _no_tokenizer(word, one_line(error)) from error
    files = {file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern)}
    if not files:
        raise _no_tokenizer(word, "it has no tokenizer files")
    return files_sha256(files)


def _tokenizer_folder(word: str) -> Path:
    folder = Path(word).expanduser()
    if folder.is_dir():
        return folder
    if word == "demo":
        return demo_checkpoint()
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(word, allow_patterns=[*_TOKENIZER_FILES, "config.json"]))


def _no_tokenizer(word: str, reason: str) -> DataError:
    return DataError(f"the tokenizer {word!r} cannot be loaded ({reason}); name a model under mix.tokenizer")


def tokenizer_counter(word: str) -> tuple[TokenCount, dict[str, Any]]:
    """Load the tokenizer of a model (a folder, a hub id or ``demo``) and return a counter and what it is.

    Raises DataError in one sentence when it cannot be loaded.
    """
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(_tokenizer_folder(word))
    except Exception as error:  # the hub, the file system and the tokenizer's code each have their own errors
        raise _no_tokenizer(word, one_line(error)) from error

    def count(conversation: Conversation) -> int:
        texts = [message.content for message in conversation.messages]
        return sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"])

    return count, {"name": word, "vocabulary": len(tokenizer)}
