"""A chat answer that came as server-sent events, put together as the one document that it would have been."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_STARTS = (b"data:", b"event:", b"id:", b":")


def is_event_stream(raw: bytes) -> bool:
    """Return whether a body is a stream of events rather than JSON."""
    return raw.lstrip()[:6].startswith(_STARTS)


def assembled(raw: bytes) -> dict[str, Any]:
    """Return the document of a streamed answer; raises ValueError for one that is cut off or not JSON.

    An error in the stream is the document, as in a plain reply. Text fields of a message are joined, log-probabilities
    chained, and of everything else the last value counts.
    """
    document: dict[str, Any] = {}
    message: dict[str, Any] = {"role": "assistant"}
    choice: dict[str, Any] = {"index": 0, "message": message}
    is_complete = False
    for event in _events(raw):
        if event is None:
            is_complete = True
            continue
        if event.get("error"):
            return event
        document |= {name: value for name, value in event.items() if name != "choices" and value is not None}
        for part in event.get("choices") or ():
            if not isinstance(part, dict) or part.get("index", 0) != 0:
                continue
            if part.get("finish_reason") is not None:
                choice["finish_reason"], is_complete = part["finish_reason"], True
            _add_message(message, part.get("delta") or {})
            logprobs = part.get("logprobs")
            if isinstance(logprobs, dict) and isinstance(content := logprobs.get("content"), list):
                choice.setdefault("logprobs", {"content": []})["content"].extend(content)
    if not is_complete:
        raise ValueError("the stream ends before the answer does")
    return {**document, "object": "chat.completion", "choices": [choice]}


def _events(raw: bytes) -> Iterator[dict[str, Any] | None]:
    """Yield the events of a stream, None for its end."""
    for block in raw.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        if not (data := b"\n".join(lines).strip()):
            continue
        if data == b"[DONE]":
            yield None
            continue
        event = json.loads(data)
        if not isinstance(event, dict):
            raise ValueError("an event of the stream is not a JSON object")
        yield event


def _add_message(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name, value in delta.items():
        if isinstance(value, str) and name != "role":
            message[name] = (message.get(name) or "") + value
        elif value is not None or name not in message:
            message[name] = value
