"""Reading a server's replies: pure, and never trusting one.

Each reader takes the parsed JSON and returns what the store remembers, or ``Unscored`` for a
reply that cannot be believed (NaN, missing fields).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evalsuite.serving.requests import Completion
from judges.types import Unscored


def _first(reply: Mapping[str, Any], *path: str) -> Any:
    """Walk into the reply's first choice; None where the path ends early."""
    value: Any = (reply.get("choices") or [{}])[0]
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def read_safely(
    read: Callable[[dict[str, Any]], dict[str, Any] | Unscored], raw: dict[str, Any]
) -> dict[str, Any] | Unscored:
    try:
        return read(raw)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        return Unscored("malformed_reply", f"{type(error).__name__}: {error}")


def _completion(text: Any, raw: Mapping[str, Any]) -> dict[str, Any] | Unscored:
    if not isinstance(text, str):
        return Unscored("malformed_reply", "the reply holds no text")
    usage = raw.get("usage") or {}
    return asdict(
        Completion(
            text=text,
            finish_reason=str(_first(raw, "finish_reason")),
            prompt_tokens=usage.get("prompt_tokens") or 0,
            completion_tokens=usage.get("completion_tokens") or 0,
            cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        )
    )


def read_completion(raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    return _completion(_first(raw, "text"), raw)


def read_chat(raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    return _completion(_first(raw, "message", "content"), raw)


def read_next_token(raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    top = _first(raw, "logprobs", "top_logprobs")[0]
    logprobs = {key.removeprefix("token_id:"): float(value) for key, value in top.items()}
    if not all(math.isfinite(value) for value in logprobs.values()):
        return Unscored("non_finite_logprob", "the server returned NaN or an infinite log-probability")
    return {"logprobs": logprobs, "top_id": int(_first(raw, "logprobs", "tokens")[0].removeprefix("token_id:"))}


def read_features(raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    top = (_first(raw, "logprobs", "top_logprobs") or [{}])[0]
    return {"logprob_token_ids": isinstance(top, dict) and "token_id:0" in top}


def read_top_logprobs(raw: dict[str, Any]) -> dict[str, Any] | Unscored:
    content = _first(raw, "logprobs", "content")
    if not content:
        return Unscored("malformed_reply", "the server returns no log-probabilities")
    return {"top": {str(entry["token"]): float(entry["logprob"]) for entry in content[0]["top_logprobs"]}}


def read_prompt_logprobs(raw: dict[str, Any], tokens: Sequence[int]) -> dict[str, Any] | Unscored:
    entries = _first(raw, "prompt_logprobs")
    read: list[tuple[float, bool]] = [(0.0, True)]
    for token, entry in zip(tokens[1:], entries[1:], strict=True):
        own = entry[str(token)]
        value = float(own["logprob"])
        if not math.isfinite(value):
            return Unscored("non_finite_logprob", "the server returned NaN or an infinite log-probability")
        read.append((value, own["rank"] == 1))
    return {"tokens": read}
