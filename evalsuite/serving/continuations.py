"""Choices as a trie of next-token questions, and back to log-likelihoods; pure.

The continuations of one context share their beginnings. Each inner node of their trie is one
question to the server ("which log-probabilities have these ids as the next token?"); the
log-likelihood of a continuation is the sum of the answers along its path. Ten one-letter
choices are a single question; the context itself is served from the server's prefix cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from evalsuite.serving.chat_format import ChatFormat
from evalsuite.serving.requests import Completion, Sampling
from judges.types import Unscored

Tokens = tuple[int, ...]

MAX_IDS_PER_QUESTION = 128
"""vLLM's bound on ``logprob_token_ids`` in one request."""

_QUESTION_COST_TOKENS = 24
"""What one more question costs, in prefilled prompt tokens: half a cache block and the request itself."""


@dataclass(frozen=True, slots=True)
class NextToken:
    """The server's answer to one question.

    ``logprobs`` holds the raw log-probability (natural, over the whole vocabulary) of exactly
    the ids that were asked for; ``top_id`` is the token that greedy decoding would take, and
    ``top_logprob`` its log-probability where the server told it.
    """

    logprobs: Mapping[int, float]
    top_id: int
    top_logprob: float | None = None

    def is_top(self, token: int) -> bool:
        """Whether no other token is likelier: in 16 bits several are often equally likely, and lm-eval counts each."""
        tied = self.top_logprob is not None and self.logprobs[token] >= self.top_logprob
        return token == self.top_id or tied


class TokenServer(Protocol):
    """A served model, asked in token ids.

    No method raises for a single bad request: that is an ``Unscored``. A server that is gone
    raises ``ServerError``.
    """

    @property
    def tokenizer(self) -> Any:
        """The model's transformers tokenizer; its ``chat_template`` is the one in use, or None."""
        ...

    @property
    def max_model_len(self) -> int:
        """The longest prompt and answer together, in tokens."""
        ...

    @property
    def has_logprob_token_ids(self) -> bool:
        """Whether ``next_token_logprobs`` works on this server."""
        ...

    @property
    def scores_continuations(self) -> bool:
        """Whether ``continuation_steps`` works on this server."""
        ...

    @property
    def model_name(self) -> str: ...

    @property
    def max_in_flight(self) -> int:
        """The most requests that are with the server at once."""
        ...

    @property
    def named_format(self) -> ChatFormat | None:
        """The conversation format that the user named and the tokenizer does not know of, None without one."""
        ...

    async def continuation_steps(
        self, context: Sequence[int], continuations: Sequence[Tokens]
    ) -> list[list[tuple[float, bool]]] | Unscored:
        """Return, for each continuation (none empty), its tokens' log-probabilities and whether each is the
        most probable one.
        """
        ...

    async def next_token_logprobs(self, prompt: Sequence[int], ids: Sequence[int]) -> NextToken | Unscored:
        """Return the log-probability of each of ``ids`` (at most 128) as the token after ``prompt``."""
        ...

    async def prompt_logprobs(self, tokens: Sequence[int], start: int) -> list[tuple[float, bool]] | Unscored:
        """Return, for each position from ``start`` (at least 1) on, the token's log-probability and
        whether it is the most probable one.
        """
        ...

    async def complete(
        self, prompt: Sequence[int], sampling: Sampling, *, skip_special_tokens: bool = True
    ) -> Completion | Unscored:
        """Continue ``prompt``; stop strings end the answer and are not part of it."""
        ...


class Loglikelihood(NamedTuple):
    """The log-likelihood of a continuation (natural), and whether greedy decoding would write it."""

    value: float
    is_greedy: bool


@dataclass(frozen=True, slots=True)
class Question:
    """One question: the log-probabilities of ``ids`` after the context followed by ``path``."""

    path: Tokens
    ids: Tokens


@dataclass(frozen=True, slots=True)
class ContextGroup:
    """All continuations of one context; ``members`` are their positions in the caller's sequence."""

    context: Tokens
    continuations: tuple[Tokens, ...]
    members: tuple[int, ...]


class Fitted(NamedTuple):
    """A context and a continuation that fit into the model, and how many tokens were cut on the left."""

    context: Tokens
    continuation: Tokens
    cut: int


def fit_on_the_left(context: Sequence[int], continuation: Sequence[int], max_model_len: int) -> Fitted | Unscored:
    """Cut the context on the left so that it fits with its continuation into ``max_model_len - 1`` tokens.

    One token stays free because vLLM always generates one. Source: lm-eval 0.4.13
    lm_eval/models/vllm_causallms.py ``VLLM._loglikelihood_tokens``. Deviation: a continuation
    that leaves no token of context gives ``Unscored("context_length")``; there, lm-eval fails or
    sums over the wrong positions. Continuations of different lengths may keep different parts
    of one context; they then belong to different groups. Raises ValueError for an empty context.
    """
    if not context:
        raise ValueError("a context of no tokens; lm-eval conditions on the prefix token instead")
    room = max_model_len - 1
    if len(continuation) >= room:
        return Unscored(
            "context_length",
            f"a continuation of {len(continuation)} tokens leaves no context in {max_model_len} tokens",
        )
    cut = max(0, len(context) + len(continuation) - room)
    return Fitted(tuple(context[cut:]), tuple(continuation), cut)


def group_by_context(pairs: Iterable[tuple[int, Tokens, Tokens]]) -> list[ContextGroup]:
    """Gather (position, context, continuation) by context, in the order of first appearance."""
    found: dict[Tokens, tuple[list[Tokens], list[int]]] = {}
    for position, context, continuation in pairs:
        continuations, members = found.setdefault(context, ([], []))
        continuations.append(continuation)
        members.append(position)
    return [ContextGroup(context, tuple(own), tuple(members)) for context, (own, members) in found.items()]


def questions_for(continuations: Iterable[Sequence[int]], max_ids: int = MAX_IDS_PER_QUESTION) -> tuple[Question, ...]:
    """Return the fewest next-token questions that determine every continuation, shortest paths first.

    One question per inner node of the trie; a node with more than ``max_ids`` children needs
    several. An empty continuation needs none.
    """
    children: dict[Tokens, dict[int, None]] = {}
    for continuation in continuations:
        tokens = tuple(continuation)
        for depth, token in enumerate(tokens):
            children.setdefault(tokens[:depth], {})[token] = None
    questions = []
    for path in sorted(children, key=len):
        ids = tuple(children[path])
        questions += [Question(path, ids[first : first + max_ids]) for first in range(0, len(ids), max_ids)]
    return tuple(questions)


def asking_is_cheaper(context_tokens: int, continuations: Iterable[Tokens], questions: Sequence[Question]) -> bool:
    """Say whether the trie's questions cost less than one ``prompt_logprobs`` request a continuation.

    The trie prefills the context once and then pays for each question; the ordinary way
    prefills the context anew for each distinct continuation, past the prefix cache. Both give the same
    figures: this only decides the time, for instance on continuations of many sentences.
    """
    distinct = set(continuations)
    if len(questions) <= len(distinct):
        return True
    asked = context_tokens + sum(len(question.path) + _QUESTION_COST_TOKENS for question in questions)
    return asked < sum(context_tokens + len(continuation) for continuation in distinct)


def loglikelihoods(
    continuations: Iterable[Sequence[int]],
    questions: Sequence[Question],
    answers: Sequence[NextToken | Unscored],
) -> list[Loglikelihood | Unscored]:
    """Sum the answers along each continuation's path.

    ``answers`` stand in the order of ``questions``. An empty continuation has log-likelihood
    0.0 and is greedy, as in lm-eval (a sum over nothing). A continuation whose path meets an
    Unscored answer, an id that was not answered, or a NaN or infinite log-probability is Unscored.
    """
    table: dict[tuple[Tokens, int], NextToken | Unscored] = {}
    for question, answer in zip(questions, answers, strict=True):
        for token in question.ids:
            table[question.path, token] = answer
    return [_sum_along(tuple(continuation), table) for continuation in continuations]


def summed(steps: Iterable[tuple[float, bool]]) -> Loglikelihood | Unscored:
    """Sum (log-probability, is the most probable token) over the tokens of a continuation."""
    total, greedy = 0.0, True
    for logprob, is_top in steps:
        if not math.isfinite(logprob):
            return Unscored("non_finite_logprob", f"a token of the continuation has log-probability {logprob}")
        total += logprob
        greedy = greedy and is_top
    return Loglikelihood(total, greedy)


def _sum_along(
    continuation: Tokens, table: Mapping[tuple[Tokens, int], NextToken | Unscored]
) -> Loglikelihood | Unscored:
    steps = []
    for depth, token in enumerate(continuation):
        answer = table[continuation[:depth], token]
        if isinstance(answer, Unscored):
            return answer
        if token not in answer.logprobs:
            return Unscored("malformed_reply", f"the server gave no log-probability for token {token}")
        steps.append((answer.logprobs[token], answer.is_top(token)))
    return summed(steps)
