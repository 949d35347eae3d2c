"""Contexts and continuations in token ids, exactly as lm-eval splits them, each context tokenised once.

lm-eval tokenises ``context + choice`` anew for every choice. Where a tokenizer splits its text
into words before it merges, what stands before a word boundary well inside the context does
not depend on what follows the context, so only the context's last words are tokenised again
with each choice. Tokenizers that merge across words are asked for the whole text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LEAST_TAIL_CHARS = 32
_MOST_TAIL_CHARS = 400


def encode_texts(
    tokenizer: Any, bos: str, texts: Sequence[str], add_special_tokens: bool | None = None, **kwargs: Any
) -> list[list[int]]:
    """Tokenise texts; one that begins with ``bos`` gets no second one, an empty one is no tokens.

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
    moved = [_spaces_moved(context, continuation) for context, continuation in pairs]
    contexts = _read_contexts(tokenizer, bos, dict.fromkeys(context for context, _ in moved if context))
    ends = list(dict.fromkeys((context, own) for context, own in moved if context and contexts[context].tail))
    after_tail = encode_texts(tokenizer, bos, [contexts[context].tail + own for context, own in ends], False)
    wholes = list(dict.fromkeys(context + own for context, own in moved if context and not contexts[context].tail))
    bare = list(dict.fromkeys(own for context, own in moved if not context))
    by_end = dict(zip(ends, after_tail, strict=True))
    by_whole = dict(zip(wholes, encode_texts(tokenizer, bos, wholes), strict=True))
    by_bare = dict(zip(bare, encode_texts(tokenizer, bos, bare, False), strict=True))
    split = []
    for context, own in moved:
        if not context:
            split.append(_after_prefix(prefix_token_id, by_bare[own]))
            continue
        known = contexts[context]
        if known.tail:
            continuation = by_end[context, own][len(known.ids) - known.before_tail :]
        else:
            continuation = by_whole[context + own][len(known.ids) :]
        split.append((known.ids or [prefix_token_id], continuation))
    return split


@dataclass(frozen=True, slots=True)
class _Context:
    """A context's tokens; ``tail`` is its end from a word boundary on, after ``before_tail`` tokens ("" = none)."""

    ids: list[int]
    tail: str = ""
    before_tail: int = 0


def _read_contexts(tokenizer: Any, bos: str, texts: Iterable[str]) -> Mapping[str, _Context]:
    least = max([_LEAST_TAIL_CHARS, *(len(word) + 1 for word in tokenizer.get_added_vocab())])
    contexts = {}
    asked = list(texts)
    for text, (ids, encoding) in zip(asked, _encoded(tokenizer, bos, asked), strict=True):
        at = _word_boundary(text, encoding, least)
        contexts[text] = _Context(ids) if at is None else _Context(ids, text[at[1] :], at[0])
    tails = [text for text in asked if contexts[text].tail]
    again = encode_texts(tokenizer, bos, [contexts[text].tail for text in tails], False)
    for text, ids in zip(tails, again, strict=True):
        # A tokenizer that marks the start or the end of a text reads a tail on its own differently.
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
    found: list[tuple[list[int], Any]] = [([], None)] * len(texts)
    own = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
    begun = [index for index, text in enumerate(texts) if text and text.startswith(bos)]
    plain = [index for index, text in enumerate(texts) if text and not text.startswith(bos)]
    for indices, flags in ((begun, {"add_special_tokens": False}), (plain, own)):
        if not indices:
            continue
        batch = tokenizer(
            [texts[index] for index in indices], return_attention_mask=False, verbose=False, **kwargs, **flags
        )
        encodings = getattr(batch, "encodings", None) or [None] * len(indices)
        for index, ids, encoding in zip(indices, batch.input_ids, encodings, strict=True):
            found[index] = (ids, encoding)
    return found


def _spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation


def _after_prefix(prefix_token_id: int, ids: list[int]) -> tuple[list[int], list[int]]:
    return (ids[:1], ids[1:]) if ids[:1] == [prefix_token_id] else ([prefix_token_id], ids)
