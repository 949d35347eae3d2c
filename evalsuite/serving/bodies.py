"""The fields of a request's body: sampling, guided output, thinking; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from evalsuite.serving.reasoning import Reasoning
from evalsuite.serving.requests import Guide, Sampling
from judges.types import Message

_HF_DEFAULT_TOP_K = 50
NEUTRAL: Mapping[str, float] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sent with every request, to override defaults of the server and the checkpoint."""


def sampling_fields(sampling: Sampling, generation: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return all sampling settings, with those of ``generation`` where ``sampling`` leaves one to the model."""
    fields: dict[str, Any] = dict(NEUTRAL)
    if sampling.temperature is not None:
        fields |= {"temperature": sampling.temperature, "top_p": sampling.top_p or 1.0}
        if sampling.top_k is not None:
            fields["top_k"] = sampling.top_k
    elif generation is None:
        # An external server applies the model's settings itself.
        fields = {}
    else:
        fields |= {"temperature": 0, "repetition_penalty": generation.get("repetition_penalty", 1.0)}
        if generation.get("do_sample"):
            fields |= {"temperature": generation.get("temperature", 1.0), "top_p": generation.get("top_p", 1.0)}
            fields["top_k"] = generation.get("top_k", _HF_DEFAULT_TOP_K)
    if fields.get("temperature") == 0:
        return fields | {"top_p": 1.0, "top_k": -1}
    return fields | {"seed": sampling.seed}


def guide_fields(guide: Guide | None) -> dict[str, Any]:
    """Return the constraint on the output; nothing without one."""
    if guide is None:
        return {}
    return {"structured_outputs": {"choice": list(guide.choice)} if guide.choice else {"regex": guide.regex}}


def thinking_fields(reasoning: Reasoning) -> dict[str, Any]:
    """Return how a server that writes the prompts is told to think; nothing by default."""
    args = dict(reasoning.template_args)
    if reasoning.mode == "off":
        args = {"enable_thinking": False, **args}
    fields: dict[str, Any] = {"chat_template_kwargs": args} if args else {}
    return fields | ({"reasoning_effort": reasoning.effort} if reasoning.effort else {})


def chat_fields(messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
    """Return the conversation of a chat request; a final assistant turn is to be continued."""
    body: dict[str, Any] = {
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "max_tokens": max_tokens,
    }
    if messages and messages[-1].role == "assistant":
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def depth_of(messages: Sequence[Message]) -> int:
    """Return the number of answers in a conversation."""
    return sum(message.role == "assistant" for message in messages)
