"""Contexts and continuations in token ids, exactly as lm-eval splits them, each context tokenised once.

lm-eval tokenises ``context + choice`` again for every choice. Where a tokenizer splits its text into words before it
merges, the tokens before a word boundary well inside the context do not depend on what follows the context, so only the
context's last words are tokenised again with each choice. Tokenizers that merge across words tokenise the whole text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from evalsuite.text import well_formed

_LEAST_TAIL_CHARS = 32
_MOST_TAIL_CHARS = 400


def encode_texts(
    tokenizer: Any, bos: str, texts: Sequence[str], add_special_tokens: bool | None = None, **kwargs: Any
) -> list[list[int]]:
    """Tokenise texts; one that begins with ``bos`` gets no second one, an empty one gives no tokens.

    Source: lm-eval 0.4.13 lm_eval/models/vllm_causallms.py ``VLLM.tok_encode`` with
    ``add_bos_token`` left to the tokenizer.
    """
    return [ids for ids, _ in _encoded(tokenizer, bos, texts, add_special_tokens, **kwargs)]


def encode_pairs(
    tokenizer: Any, prefix_token_id: int, pairs: Sequence[tuple[str, str]]
) -> list[tuple[list[int], list[int]]]:
    """Split each (context, continuation) into token ids as lm-eval does.

    Source: lm-eval 0.4.13 lm_eval/api/model.py ``TemplateLM.loglikelihood`` and
    ``_encode_pair``. Deviations: a context of spaces alone, and an empty continuation of an
    empty context, on which lm-eval fails, are conditioned on the prefix token.
    """
    bos = str(tokenizer.decode(prefix_token_id))
    # Spaces at the end of a context go to the choice.
    moved = [(bare := context.rstrip(), context[len(bare) :] + choice) for context, choice in pairs]
    contexts = _read_contexts(tokenizer, bos, list(dict.fromkeys(context for context, _ in moved if context)))
    # Of each pair the text to tokenise, whether with special tokens, and how many tokens of it are the context's.
    plans: list[tuple[str, bool | None, int]] = []
    for context, choice in moved:
        known = contexts.get(context)
        if known is None:
            plans.append((choice, False, 0))
        elif known.tail:
            plans.append((known.tail + choice, False, len(known.ids) - known.before_tail))
        else:
            plans.append((context + choice, None, len(known.ids)))
    encoded: dict[tuple[str, bool | None], list[int]] = {}
    for flag in (False, None):
        texts = list(dict.fromkeys(text for text, special, _ in plans if special is flag))
        encoded |= zip(((text, flag) for text in texts), encode_texts(tokenizer, bos, texts, flag), strict=True)
    split = []
    for (context, _), (text, special, cut) in zip(moved, plans, strict=True):
        ids = encoded[text, special]
        if context:
            split.append((contexts[context].ids or [prefix_token_id], ids[cut:]))
        else:
            split.append((ids[:1], ids[1:]) if ids[:1] == [prefix_token_id] else ([prefix_token_id], ids))
    return split


class _Context(NamedTuple):
    """A context's tokens; ``tail`` is its text after ``before_tail`` tokens, from a word boundary ("" = none)."""

    ids: list[int]
    tail: str = ""
    before_tail: int = 0


def _read_contexts(tokenizer: Any, bos: str, texts: Sequence[str]) -> Mapping[str, _Context]:
    least = max([_LEAST_TAIL_CHARS, *(len(token) + 1 for token in tokenizer.get_added_vocab())])
    contexts = {}
    for text, (ids, encoding) in zip(texts, _encoded(tokenizer, bos, texts), strict=True):
        at = _word_boundary(text, encoding, least)
        contexts[text] = _Context(ids) if at is None else _Context(ids, text[at[1] :], at[0])
    tails = [text for text in texts if contexts[text].tail]
    again = encode_texts(tokenizer, bos, [contexts[text].tail for text in tails], False)
    for text, ids in zip(tails, again, strict=True):
        # A tokenizer that marks the start or end of a text tokenises a tail on its own differently.
        if ids != contexts[text].ids[contexts[text].before_tail :]:
            contexts[text] = _Context(contexts[text].ids)
    return contexts


def _word_boundary(text: str, encoding: Any, least: int) -> tuple[int, int] | None:
    """Return (tokens, characters) before a space that begins a word of the tokenizer's, near the end of ``text``."""
    if encoding is None:
        return None
    words, offsets = encoding.word_ids, encoding.offsets
    for index in range(len(words) - 1, 0, -1):
        start = offsets[index - 1][1]
        if len(text) - start > _MOST_TAIL_CHARS:
            return None
        if (
            len(text) - start >= least
            and words[index] is not None
            and words[index - 1] is not None
            and words[index] != words[index - 1]
            and text[start].isspace()
            and not text[start - 1].isspace()
        ):
            return index, start
    return None


def _encoded(
    tokenizer: Any, bos: str, texts: Sequence[str], add_special_tokens: bool | None = None, **kwargs: Any
) -> list[tuple[list[int], Any]]:
    """Return (ids, the fast tokenizer's encoding or None) of each text."""
    encoded: list[tuple[list[int], Any]] = [([], None)] * len(texts)
    special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
    for begun, flags in ((True, {"add_special_tokens": False}), (False, special)):
        indices = [index for index, text in enumerate(texts) if text and text.startswith(bos) is begun]
        if not indices:
            continue
        chosen = [well_formed(texts[index]) for index in indices]
        batch = tokenizer(chosen, return_attention_mask=False, verbose=False, **kwargs, **flags)
        encodings = getattr(batch, "encodings", None) or [None] * len(indices)
        for index, ids, encoding in zip(indices, batch.input_ids, encodings, strict=True):
            encoded[index] = (ids, encoding)
    return encoded
