"""The tokens of one-token labels: in the tokenizer's own spellings, with and without a word boundary marker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.errors import UsageError
from evalsuite.serving.scoring_endpoint import MAX_IDS


def label_tokens(tokenizer: Any, labels: Sequence[str], spellings: Sequence[str] = ()) -> dict[int, str]:
    """Return the tokens of ``labels``, and of those ``spellings`` that are one token, with their texts.

    Without spellings each label has one token. Raises UsageError for a label that is not a single token.
    """
    ids: dict[int, str] = {}
    for label in labels:
        if not (found := _single_tokens(tokenizer, label)):
            raise UsageError(f"the judge's tokenizer has no single token for {label!r}; use another judge")
        ids[found[0]] = label
    for text in (*labels, *spellings) if spellings else ():
        for token in _single_tokens(tokenizer, text):
            ids.setdefault(token, text)
    return dict(list(ids.items())[:MAX_IDS])


def by_text(ids: Mapping[int, str], logprobs: Mapping[int, float]) -> dict[str, float]:
    """Return log-probabilities by text; a second token of the same text is that with a word boundary marker."""
    found: dict[str, float] = {}
    for token, text in ids.items():
        found[f" {text}" if text in found else text] = logprobs[token]
    return found


def _single_tokens(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens that are a text: at the start of an answer, and without a word boundary marker."""
    encoded = tokenizer.encode(text, add_special_tokens=False)
    bare = tokenizer.convert_tokens_to_ids(text)
    known = [token for token in (*(encoded if len(encoded) == 1 else ()), bare) if token is not None]
    return [int(token) for token in dict.fromkeys(known) if token != tokenizer.unk_token_id]
