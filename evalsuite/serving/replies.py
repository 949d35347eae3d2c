"""Parsing and validating a server's replies; pure.

Each reader takes the parsed JSON and returns what is saved in the store, or ``Unscored`` for an invalid
reply (NaN, missing fields).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalsuite.text import is_well_formed, mapped, without_surrogates
from judges.thoughts import split_thought
from judges.types import Unscored

Reader = Callable[[dict[str, Any]], dict[str, Any] | Unscored]

_ABORTED = frozenset({"abort", "aborted", "error", "cancelled"})
"""Finish reasons for an answer that the server cut off."""
_MINUS_INFINITY = -9999.0
FEATURE_IDS = (0, 1, 2)
"""The tokens requested to detect ``logprob_token_ids``."""


def _first(reply: Mapping[str, Any], *path: str) -> Any:
    """Return a nested value of the reply's first choice by ``index``, whatever their order; None if missing."""
    choices: Any = reply.get("choices") or ()
    # Six values are read of every reply, and nearly all replies have one choice.
    is_one = isinstance(choices, list) and len(choices) == 1
    objects = (choice for choice in choices if isinstance(choice, dict))
    value: Any = choices[0] if is_one else min(objects, key=_index, default=None)
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def read_safely(read: Reader, raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    """Read a reply; one that does not hold what was asked for is ``malformed_reply``. Lone surrogates are U+FFFD."""
    try:
        answer = read(raw)
        if isinstance(answer, Unscored) or is_well_formed(answer):
            return answer
        return {**mapped(answer, without_surrogates)}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        return Unscored("malformed_reply", f"{type(error).__name__}: {error}")


def _completion(text: object, raw: Mapping[str, Any]) -> dict[str, Any] | Unscored:
    if _first(raw, "finish_reason") == "content_filter":
        return Unscored("content_filter", "the server's content filter cut the answer off")
    if not isinstance(text, str):
        return Unscored("malformed_reply", "the reply has no text")
    prompt_tokens, completion_tokens, cached_tokens = token_counts(raw)
    # Some gateways leave the reason out of an answer that is complete.
    reason = _first(raw, "finish_reason") or ("stop" if text else None)
    if not isinstance(reason, str) or reason in _ABORTED:
        return Unscored("unfinished_reply", f"the server's finish_reason is {reason!r}")
    if not text and not completion_tokens:
        # An empty answer of a model has at least its end token.
        return Unscored("empty_reply", "the server counts 0 tokens for an empty answer")
    # The fields of ``Completion``.
    return {
        "text": text,
        "finish_reason": reason,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "cached_tokens": cached_tokens,
        "cumulative_logprob": cumulative_logprob(_first(raw, "logprobs")),
    }


def cumulative_logprob(logprobs: object) -> float | None:
    """Return the sum of the sampled tokens' log-probabilities (completion or chat format), None without them."""
    if not isinstance(logprobs, Mapping):
        return None
    chosen = logprobs.get("token_logprobs")
    if chosen is None and isinstance(logprobs.get("content"), list):
        chosen = [token.get("logprob") for token in logprobs["content"] if isinstance(token, Mapping)]
    if not isinstance(chosen, list) or not all(isinstance(value, int | float) for value in chosen):
        return None
    total = math.fsum(chosen)
    return total if math.isfinite(total) else None


def token_counts(raw: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return (prompt, completion, cached) tokens of a reply; invalid counts are 0, as no score depends on them."""
    usage = raw.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, Mapping) else {}
    counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"), details.get("cached_tokens"))
    prompt, completion, cached = (
        count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else 0 for count in counts
    )
    return prompt, completion, cached


def _is_logprob(value: float) -> bool:
    """Return whether a value is a finite log-probability; vLLM writes -9999 for minus infinity."""
    return math.isfinite(value) and value > _MINUS_INFINITY


def read_completion(raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    return _completion(_first(raw, "text"), raw)


def read_generated(raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    """Read a text with its token ids, None from a server that does not return them."""
    reply = _completion(_first(raw, "text"), raw)
    if isinstance(reply, Unscored):
        return reply
    ids = _first(raw, "token_ids")
    valid = isinstance(ids, list) and all(type(token) is int for token in ids)
    return {**reply, "token_ids": ids if valid else None}


def begun_text(raw: dict[str, Any]) -> str:
    """Return the text of a chat reply, its thought included, whether it was cut or not; "" without any."""
    texts = [_first(raw, "message", name) for name in ("reasoning_content", "reasoning", "content")]
    return "".join(text for text in texts if isinstance(text, str))


def read_chat(raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    """Read a chat reply; its thought is in a separate field, or before the answer in the content.

    ``thought_closed`` says that the thought was cut, so that there is no answer.
    """
    content = _joined(_first(raw, "message", "content"))
    fields = [_first(raw, "message", name) for name in ("reasoning_content", "reasoning")]
    thought = next((text for text in fields if isinstance(text, str) and text), None)
    n_thought = reasoning_tokens(raw)
    if content is None and (thought is not None or n_thought):
        content = ""
    reply = _completion(content, raw)
    if isinstance(reply, Unscored):
        return reply
    text: str | None = reply["text"]
    if thought is None:
        thought, text = split_thought(reply["text"])
    # A server that hides thinking and does not count it returns an empty answer that was cut.
    is_hidden = not reply["text"] and reply["finish_reason"] == "length"
    if thought is None and not n_thought and not is_hidden:
        return reply
    is_cut = reply["finish_reason"] == "length" and not text
    return {
        **reply,
        "text": text or "",
        "completion_tokens": max(0, reply["completion_tokens"] - n_thought),
        "thought": thought or "",
        "thought_tokens": n_thought,
        "thought_closed": is_cut or text is None,
    }


def _joined(content: object) -> object:
    """Return content parts that are all text as one text, and any other content as it is."""
    if not isinstance(content, list) or not content:
        return content
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    known = [text for text in texts if isinstance(text, str)]
    return "".join(known) if len(known) == len(content) else content


def reasoning_tokens(raw: Mapping[str, Any]) -> int:
    """Return the number of a chat reply's tokens that were thought, as far as the server counts them."""
    usage = raw.get("usage")
    details = usage.get("completion_tokens_details") if isinstance(usage, Mapping) else None
    count = details.get("reasoning_tokens") if isinstance(details, Mapping) else None
    return count if type(count) is int and count > 0 else 0


def read_next_token(raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    top = _first(raw, "logprobs", "top_logprobs")[0]
    logprobs = {key.removeprefix("token_id:"): float(value) for key, value in top.items()}
    if not all(map(_is_logprob, logprobs.values())):
        return Unscored("non_finite_logprob", "the server returned NaN or an infinite log-probability")
    return {"logprobs": logprobs, "top_id": int(_first(raw, "logprobs", "tokens")[0].removeprefix("token_id:"))}


def read_features(raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    top = (_first(raw, "logprobs", "top_logprobs") or [{}])[0]
    # A server without the feature may return one or two of them (the most likely and the sampled token).
    return {"has": isinstance(top, dict) and all(f"token_id:{token}" in top for token in FEATURE_IDS)}


def read_top_logprobs(raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    content = _first(raw, "logprobs", "content")
    if not content or content[0].get("top_logprobs") is None:
        return Unscored("no_logprobs", "the server returns no log-probabilities")
    top = {str(entry["token"]): float(entry["logprob"]) for entry in content[0]["top_logprobs"]}
    if any(math.isnan(value) or value == math.inf for value in top.values()):
        return Unscored("non_finite_logprob", "the server returned NaN or an infinite log-probability")
    # Minus infinity is probability 0, like a token that is not among the most likely ones.
    return {"top": {token: value for token, value in top.items() if value != -math.inf}}


def read_prompt_logprobs(raw: dict[str, Any], tokens: Sequence[int]) -> dict[str, Any] | Unscored:
    entries = _first(raw, "prompt_logprobs")
    read: list[tuple[float, bool]] = [(0.0, True)]
    for token, entry in zip(tokens[1:], entries[1:], strict=True):
        chosen = entry[str(token)]
        value = float(chosen["logprob"])
        if not _is_logprob(value):
            return Unscored("non_finite_logprob", "the server returned NaN or an infinite log-probability")
        tied = len(entry) > 1 and value >= max(float(other["logprob"]) for other in entry.values())
        read.append((value, chosen["rank"] == 1 or tied))
    return {"tokens": read}


def read_continuations(raw: dict[str, Any], continuations: Sequence[Sequence[int]]) -> dict[str, Any] | Unscored:
    """Read the reply of ``scoring_endpoint``: a list of (log-probability, is greedy) per continuation."""
    read = []
    for tokens, steps in zip(continuations, raw["results"], strict=True):
        if any(value is None or not math.isfinite(value) for value, _ in steps):
            return Unscored("non_finite_logprob", "the server returned NaN or an infinite log-probability")
        read.append([(float(value), bool(greedy)) for (value, greedy), _ in zip(steps, tokens, strict=True)])
    return {"steps": read}
