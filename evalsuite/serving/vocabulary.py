"""Whether the weights have an embedding for the tokens that a prompt can have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import Checkpoint
from evalsuite.errors import CheckpointError


def check_vocabulary(checkpoint: Checkpoint, tokenizer: Any, load: Callable[[Path], Any]) -> None:
    """Raise CheckpointError where a prompt can have tokens beyond the embedding, which no row stands for.

    Control tokens that no prompt has are left alone: the tokenizer of Gemma 3's text models keeps one for images.
    ``load`` loads the tokenizer of a folder.
    """
    rows = checkpoint.embedding_rows
    beyond = {} if rows is None else {token: place for token, place in tokenizer.get_vocab().items() if place >= rows}
    if not beyond:
        return
    ends = {tokenizer.bos_token, tokenizer.eos_token}
    used = [
        token
        for token, place in beyond.items()
        if place not in tokenizer.added_tokens_decoder or token in ends or token in (checkpoint.chat_template or "")
    ]
    if checkpoint.own_tokenizer and checkpoint.path is not None:
        used = used or sorted(beyond.keys() - load(checkpoint.path).get_vocab().keys())
    if not used:
        return
    whose, remedy = f"the weights of {checkpoint.name} have", "give the tokenizer that they were trained with"
    if checkpoint.own_tokenizer:
        whose = f"the base of {checkpoint.name} has"
        remedy = "write the adapter into it with evalsuite sft --merge ADAPTER --out FOLDER, and give that folder"
    raise CheckpointError(
        f"{whose} {rows:,} rows in the embedding, and the tokenizer in {checkpoint.tokenizer_folder} has "
        f"{len(beyond):,} tokens beyond them ({used[0]} is {beyond[used[0]]:,}); {remedy}"
    )
