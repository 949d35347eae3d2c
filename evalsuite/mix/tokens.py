"""Counting a conversation's tokens as training will see them, in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalsuite.assets import demo_checkpoint
from evalsuite.checkpoint import TOKENIZER_FILES, Checkpoint
from evalsuite.conversations.formats import Conversation
from evalsuite.conversations.words import texts_of
from evalsuite.errors import CheckpointError, DataError, first_line
from evalsuite.fingerprint import files_sha256
from evalsuite.serving.chat_format import ChatFormat, load_chat_format, load_tokenizer
from judges.types import Message

_TOKENIZER_FILES = (*TOKENIZER_FILES, "vocab.txt", "*.model", "*.tiktoken", "chat_template.*")
_PIECE_CHARS = 100_000
"""A tokenizer needs over a hundred bytes per character: longer texts are counted in pieces."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Counts a conversation's tokens with those of the chat template, or without one those of its texts alone.

    Texts of more than 100,000 characters are cut at white space and counted in pieces, which may add a token per cut.
    """

    form: ChatFormat
    longest: int
    """The characters of the longest token."""

    def least(self, conversation: Conversation) -> int:
        """Return a number of tokens that a very long conversation has at least, without tokenising it; else 0."""
        chars = sum(len(text) for message in conversation.messages for text in texts_of(message))
        return chars // self.longest if chars > _PIECE_CHARS else 0

    def __call__(self, conversation: Conversation) -> int:
        texts = [text for message in conversation.messages for text in texts_of(message)]
        if self.form.source is not None:
            try:
                if sum(map(len, texts)) <= _PIECE_CHARS:
                    return len(self.form.conversation_tokens(conversation.messages))
                short = [Message(message.role, "x") for message in conversation.messages]
                around = len(self.form.conversation_tokens(short)) - len(short)
                return around + sum(map(self._tokens_of, texts))
            except CheckpointError:
                pass  # the template refuses these roles: sft drops the conversation with that reason
        return sum(map(self._tokens_of, texts))

    def _tokens_of(self, text: str) -> int:
        return sum(len(self.form.encode(piece)) for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces of about 100,000 characters, cut before white space where there is some."""
    start = 0
    while start < len(text):
        end = start + _PIECE_CHARS
        if end < len(text) and (space := re.compile(r"\s").search(text, end, end + _PIECE_CHARS)):
            end = space.start()
        yield text[start:end]
        start = end


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
        folder = _tokenizer_folder(model)
        template = load_tokenizer(folder).chat_template
        template = template if isinstance(template, str) else None
        form = load_chat_format(Checkpoint(model, folder, "", chat_template=template))
    except Exception as error:  # the hub client, the file system and the tokenizer raise many types
        raise _no_tokenizer(model, first_line(error)) from error
    # A byte-level token of n bytes has at most n characters, and its name in the vocabulary at least as many.
    longest = max(map(len, form.tokenizer.get_vocab()), default=1)
    about = {"name": model, "vocabulary": len(form.tokenizer), "chat_template": form.source is not None}
    return TokenCount(form, longest), about
