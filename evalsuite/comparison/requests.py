"""What a row of prompts or pairs asks: its turns, system prompt, reference, rubric and group.

{"id": "1", "system": "Answer in French.", "prompt": "Say hello", "reference": "Bonjour", "rubric": "One word."}
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalsuite.errors import DataError
from judges.verdicts import Request

_PROMPT_KEYS = ("prompt", "instruction", "question", "input")
_MESSAGE_KEYS = ("messages", "conversation", *_PROMPT_KEYS)
_REFERENCE_KEYS = ("reference", "reference_answer", "gold")
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A conversation as the judge sees it: the request, and the assistant's turns between its turns."""

    request: Request
    replies: tuple[str, ...] = ()


def dialogue_of(row: Mapping[str, Any], where: str) -> Dialogue | None:
    """Read what a row asks; None where it has no prompt. Raises DataError for messages that cannot be shown."""
    messages = next((row[key] for key in _MESSAGE_KEYS if _is_messages(row.get(key))), None)
    if messages is not None:
        turns = read_messages(messages, where)
    elif (texts := _texts(row)) is not None:
        turns = [("user", text) for text in texts]
    else:
        return None
    systems = [text for role, text in turns if role == "system"]
    if isinstance(row.get("system"), str):
        systems.insert(0, row["system"])
    request = Request(
        tuple(text for role, text in turns if role == "user"),
        system="\n\n".join(systems),
        reference=_joined(row, _REFERENCE_KEYS, where),
        rubric=_joined(row, ("rubric",), where),
    )
    return Dialogue(request, tuple(text for role, text in turns if role == "assistant"))


def read_messages(messages: Sequence[Mapping[str, Any]], where: str) -> list[tuple[str, str]]:
    """Return (role, text) of each message; raises DataError for tools and for content that is not text."""
    turns = []
    for number, message in enumerate(messages, 1):
        role = message.get("role", message.get("from"))
        role = {"human": "user", "gpt": "assistant"}.get(str(role), role)
        if role not in _ROLES or message.get("tool_calls"):
            named = "tool calls" if message.get("tool_calls") else f"the role {role!r}"
            raise DataError(f"{where}, message {number} has {named}; use only system, user and assistant messages")
        turns.append((str(role), _content(message.get("content", message.get("value")), f"{where}, message {number}")))
    return turns


def grouped(requests: Sequence[tuple[str, Request, str | None]]) -> tuple[tuple[str, ...], list[str]]:
    """Return the group of each (id, request, group or None), and notes on requests that are the same except for layout.

    Equal requests without their own group are one group: asking one question thirty times is not thirty prompts.
    """
    by_text: dict[str, list[str]] = {}
    groups = []
    for identity, request, group in requests:
        text = " ".join(re.findall(r"\w+|[^\w\s]", "\n".join([request.system, *request.turns]).casefold()))
        groups.append(f"group {group}" if group is not None else f"text {text}")
        if group is None:
            by_text.setdefault(text, []).append(identity)
    copies = [ids for ids in by_text.values() if len(ids) > 1]
    if not copies:
        return tuple(groups), []
    listed = ", ".join(copies[0][:3]) + (", …" if len(copies[0]) > 3 else "")
    return tuple(groups), [
        f"{sum(map(len, copies))} prompts are copies of {len(copies)} ({listed} are the same); copies count as one "
        "observation; give a 'group' to say which prompts belong together"
    ]


def group_of(row: Mapping[str, Any]) -> str | None:
    return None if row.get("group") is None else str(row["group"])


def _texts(row: Mapping[str, Any]) -> list[str] | None:
    for key in ("turns", *_PROMPT_KEYS):
        value = row.get(key)
        if isinstance(value, list) and value and all(isinstance(turn, str) for turn in value):
            return value
        if isinstance(value, str) and value.strip():
            return [value]
    return None


def _is_messages(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _content(content: object, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        if other := [part.get("type") for part in content if not isinstance(part.get("text"), str)]:
            raise DataError(f"{where} has a part of type {other[0]!r}; give text only")
        return "\n".join(part["text"] for part in content)
    raise DataError(f"{where} has no text as its content; give a string or parts of text")


def _joined(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    for name in names:
        value = row.get(name)
        if value in (None, "", []):
            continue
        texts = value if isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts):
            raise DataError(f"{where} has a {name} that is not a text; give a string or a list of strings")
        return "\n\n".join(texts)
    return ""
