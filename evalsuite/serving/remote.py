"""Conversations with a server that writes the prompts itself: ``NAME@URL`` without a local tokenizer."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from evalsuite.serving.bodies import chat_fields, depth_of, guide_fields, sampling_fields, thinking_fields
from evalsuite.serving.reasoning import Reasoning
from evalsuite.serving.replies import Reader, read_chat, read_top_logprobs
from evalsuite.serving.requests import Completion, Guide, Sampling
from judges.types import Message, Unscored

_TOP_LOGPROBS = 20
_LEAST_MASS = 0.5
"""The least probability of all labels together that counts as a verdict."""
Ask = Callable[[str, str, dict[str, Any], Reader, int], Awaitable[dict[str, Any] | Unscored]]
"""Called with (kind, path, body, reader, depth); answers from the store or the server."""


class RemoteChat:
    """Asks the server's chat endpoint.

    Thought and answer have one maximum there: the answer's token limit, and as soon as a reply shows that the model
    thinks, the bound plus the budget. What the larger one cuts is unscored, since a thought cannot be closed from
    outside.
    """

    def __init__(self, ask: Ask, reasoning: Reasoning, generation: Mapping[str, Any] | None) -> None:
        self._ask = ask
        self._reasoning = reasoning
        self._generation = generation
        self._thinks = reasoning.mode == "on" or reasoning.style is not None

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None = None
    ) -> Completion | Unscored:
        """Answer ``messages``; a final assistant message is continued."""
        bound = self._reasoning.max_answer_tokens if guide is None else None
        bound = bound or sampling.max_new_tokens
        if not self._thinks:
            reply = await self._reply(messages, sampling, guide, bound)
            if isinstance(reply, Unscored) or reply.thought is None or reply.finish_reason != "length":
                return reply
            self._thinks = True
        largest = bound + self._reasoning.budget
        reply = await self._reply(messages, sampling, guide, largest)
        if isinstance(reply, Completion) and reply.thought_closed:
            return Unscored("unfinished_thinking", f"the server cut the thought at {largest} tokens")
        return reply

    async def _reply(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None, max_tokens: int
    ) -> Completion | Unscored:
        body = {
            **chat_fields(messages, max_tokens),
            **sampling_fields(sampling, self._generation),
            **guide_fields(guide),
            **thinking_fields(self._reasoning),
            **({"stop": list(sampling.stop)} if sampling.stop else {}),
            **({"logprobs": True} if sampling.logprobs else {}),
        }
        reply = await self._ask("chat", "/chat/completions", body, read_chat, depth_of(messages))
        return reply if isinstance(reply, Unscored) else Completion(**reply)

    async def label_logprobs(
        self, messages: Sequence[Message], labels: Sequence[str], spellings: Sequence[str] = ()
    ) -> dict[str, float] | Unscored:
        """Read the labels from the top log-probabilities; one that is not among them is absent.

        Labels alone need half of the probability; with their spellings, what is too little is for the caller to say.
        """
        body = {
            **chat_fields(messages, 1),
            "temperature": 1,
            "logprobs": True,
            "top_logprobs": _TOP_LOGPROBS,
            **thinking_fields(self._reasoning),
        }
        reply = await self._ask("labels", "/chat/completions", body, read_top_logprobs, 0)
        if isinstance(reply, Unscored):
            return reply
        logprobs = {label: float(value) for label, value in reply["top"].items() if label in (*labels, *spellings)}
        # The judge was not asked for these tokens alone: if it would rather write another, they are no verdict.
        if not spellings and (mass := math.fsum(map(math.exp, logprobs.values()))) < _LEAST_MASS:
            return Unscored("label_mass", f"{' and '.join(labels)} have {mass:.1%} of the next token's probability")
        return logprobs
