"""What a turn of a data set has besides its role and text: thought, tool calls, weight; and the tools of a row; pure.

Every spelling that is common among trainers is read, and written back in one: OpenAI's, as TRL reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from judges.types import Message, ToolCall

_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")
_THOUGHT_PARTS = ("thinking", "reasoning")
_LOSS_SWITCHES = ("train", "loss")


def thought_of(turn: Mapping[str, Any]) -> str | None:
    """Return the thought in a field of the turn's own, or in content parts of the type "thinking"; None without one."""
    named = next((turn[name] for name in _THOUGHTS if isinstance(turn.get(name), str) and turn[name].strip()), None)
    if named is not None or not isinstance(turn.get("content"), list | tuple):
        return named
    parts = [part for part in turn["content"] if is_thought(part)]
    texts = [_part_text(next((part[kind] for kind in (*_THOUGHT_PARTS, "text") if kind in part), "")) for part in parts]
    return "\n".join(text for text in texts if text.strip()) or None


def is_thought(part: Any) -> bool:
    """Whether a content part is a thought, as Mistral's templates have it."""
    return isinstance(part, Mapping) and part.get("type") in _THOUGHT_PARTS


def _part_text(value: object) -> str:
    if isinstance(value, list | tuple):
        return "".join(_part_text(part.get("text", "") if isinstance(part, Mapping) else part) for part in value)
    return value if isinstance(value, str) else ""


def weight_of(turn: Mapping[str, Any]) -> float | None:
    """Return the weight of a turn's loss: OpenAI's ``weight``, or ``train`` (axolotl) or ``loss`` (ms-swift) as 0 or 1.

    Raises ValueError for a weight that is not a number of at least 0.
    """
    weight = turn.get("weight")
    if weight is None:
        switch = next((turn[name] for name in _LOSS_SWITCHES if isinstance(turn.get(name), bool)), None)
        return None if switch is None else float(switch)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < float("inf"):
        raise ValueError(f"weight {weight!r} is not a number of at least 0")
    return float(weight)


def calls_of(turn: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """Return the turn's tool calls: ``tool_calls`` (a list, or its JSON text) or the older ``function_call``.

    Raises ValueError for calls without a name or whose arguments are no object.
    """
    given = _parsed(turn.get("tool_calls"), "tool_calls")
    if not given and (single := _parsed(turn.get("function_call"), "function_call")):
        given = [single]
    if given and not isinstance(given, list | tuple):
        raise ValueError("tool_calls is not a list of calls")
    return tuple(call_of(call) for call in given or ())


def call_of(call: Any) -> ToolCall:
    """Return one call, given as OpenAI's object or as {name, arguments}; raises ValueError."""
    function = call.get("function") or call if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        raise ValueError("a tool call has no name")
    arguments = _parsed(function.get("arguments", function.get("parameters")) or {}, f"arguments of {name}")
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the arguments of {name} are not an object")
    identity = call.get("id")
    text = json.dumps(without_nulls(arguments), ensure_ascii=False)
    return ToolCall(name, text, identity if isinstance(identity, str) else "")


def tools_of(row: Mapping[str, Any]) -> str | None:
    """Return the tools that a conversation may call as JSON text, a list of OpenAI's objects; None without any.

    Raises ValueError for anything but a list (or its JSON text) of objects with a name.
    """
    given = _parsed(row.get("tools"), "tools")
    if not given:
        return None
    tools = [_tool(tool) for tool in given] if isinstance(given, list | tuple) else [_tool(given)]
    return json.dumps(tools, ensure_ascii=False)


def _tool(tool: Any) -> dict[str, Any]:
    tool = _parsed(tool, "tools")
    function = tool.get("function") or tool if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise ValueError("a tool has no name")
    return {"type": "function", "function": without_nulls(function)}


def without_nulls(value: object) -> Any:
    """Return a value without null fields, which Arrow adds to objects with different keys in one column."""
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list | tuple) else value


def _parsed(value: object, name: str) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"{name} is not JSON") from error


def fields_of(message: Message) -> dict[str, Any]:
    """Return a message as a data set has it; only fields that are set besides role and content."""
    calls = [
        {"id": call.id or None, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    further: dict[str, Any] = {
        "reasoning_content": message.thought,
        "tool_calls": calls,
        "name": message.name,
        "tool_call_id": message.tool_call_id,
    }
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    fields |= {name: value for name, value in further.items() if value}
    return fields if message.weight is None else fields | {"weight": message.weight}
