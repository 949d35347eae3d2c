"""Requests to a model and its answers, independent of the transport.

Suites only use :class:`Chat`; ``client.Client`` implements it for a real server, and tests with a scripted one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from judges.types import Message, Unscored


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters of a completion.

    ``temperature`` 0 is greedy; then ``seed`` has no effect and is not part of the store's key.
    ``max_new_tokens`` is reduced to what fits in the context, and a prompt that leaves no token is
    ``Unscored("context_length")``. None for temperature, top_p and top_k means the checkpoint's
    generation_config (as MixEval does). ``logprobs`` requests the answer's ``cumulative_logprob``.
    """

    max_new_tokens: int
    temperature: float | None = 0.0
    top_p: float | None = 1.0
    top_k: int | None = None
    seed: int = 0
    stop: tuple[str, ...] = ()
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Guide:
    """A constraint on the output: exactly one of the two is set."""

    choice: tuple[str, ...] = ()
    regex: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer of the server.

    ``finish_reason`` is the server's, "stop" or "length". ``cumulative_logprob`` is the sum of the sampled
    tokens' raw log-probabilities (natural logarithm, before temperature), if requested.

    ``text`` and ``completion_tokens`` are the answer's alone. ``thought`` is what the model thought before it, None
    where it did not think; ``thought_closed`` says that it was closed from outside, because it used up its budget or
    stopped without its end mark, and ``thought_short`` that the context left less than the budget.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cumulative_logprob: float | None = None
    thought: str | None = None
    thought_tokens: int = 0
    thought_closed: bool = False
    thought_short: bool = False


class LabelLogprobs(dict[str, float]):
    """Log-probabilities by label; ``thought`` is what the model thought before it would write one, None for nothing."""

    thought: str | None = None


def thought_of(logprobs: Mapping[str, float] | Unscored) -> str | None:
    """Return the thought before the labels, where the client tells it."""
    return logprobs.thought if isinstance(logprobs, LabelLogprobs) else None


class Chat(Protocol):
    """A chat model, the candidate or the judge.

    No method raises for a single bad item: that is an ``Unscored``. A dead server raises ``ServerError``.
    """

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None = None
    ) -> Completion | Unscored:
        """Answer ``messages``; a final assistant message is continued."""

    async def label_logprobs(
        self, messages: Sequence[Message], labels: Sequence[str], spellings: Sequence[str] = ()
    ) -> Mapping[str, float] | Unscored:
        """Return the raw log-probability of each label as the first token of the answer.

        Each label must be a single token of the model's tokenizer. If the server supports it, labels are
        requested by id, so that none is missing. Of ``spellings`` those are returned too that are a token.
        """


class Scorer(Chat, Protocol):
    """A model that judges: one that writes, or a reward model."""

    async def reward(self, messages: Sequence[Message]) -> float | Unscored:
        """Return a reward model's score of a whole conversation, its last message the answer; any finite number."""


def derive_seed(run_seed: int, *parts: object) -> int:
    """Derive the seed of one completion from the run's seed and the completion's identity.

    The result (in [0, 2**31)) depends on nothing else, so neither order nor resuming changes a sampled answer.
    """
    text = "\x1f".join([str(run_seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
