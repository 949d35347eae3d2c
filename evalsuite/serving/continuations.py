"""Log-likelihoods of continuations from a trie of next-token questions; pure.

The continuations of one context share prefixes. Each inner node of their trie is one question to the server (the
log-probabilities of these ids as the next token); the log-likelihood of a continuation is the sum of the answers along
its path. Ten one-letter choices need a single question; the context is in the server's prefix cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evalsuite.serving.scoring_endpoint import MAX_IDS
from judges.types import Unscored

Tokens = tuple[int, ...]

_ANOTHER_TOKEN = -1

_QUESTION_COST_TOKENS = 24
"""The cost of one question in prefilled tokens: half a cache block plus request overhead."""


@dataclass(frozen=True, slots=True)
class NextToken:
    """The server's answer to one question.

    ``logprobs`` has the raw log-probability (natural, over the whole vocabulary) of exactly the
    requested ids; ``top_id`` is the greedy token and ``top_logprob`` its log-probability if returned.
    """

    logprobs: Mapping[int, float]
    top_id: int
    top_logprob: float | None = None

    def is_top(self, token: int) -> bool:
        """Return whether no token is more likely; ties, common in 16 bits, count as greedy as in lm-eval."""
        tied = self.top_logprob is not None and self.logprobs[token] >= self.top_logprob
        return token == self.top_id or tied


def next_token_of(ids: Sequence[int], steps: Sequence[Sequence[tuple[float, bool]]]) -> NextToken:
    """Return what ``continuation_steps`` says of continuations of one token each."""
    logprobs = {token: value for token, [(value, _)] in zip(ids, steps, strict=True)}
    top = next((token for token, [(_, is_top)] in zip(ids, steps, strict=True) if is_top), _ANOTHER_TOKEN)
    return NextToken(logprobs, top, logprobs.get(top))


class Loglikelihood(NamedTuple):
    """The log-likelihood of a continuation (natural), and whether greedy decoding would generate it."""

    value: float
    is_greedy: bool


@dataclass(frozen=True, slots=True)
class Question:
    """A request for the log-probabilities of ``ids`` after the context followed by ``path``."""

    path: Tokens
    ids: Tokens


@dataclass(frozen=True, slots=True)
class ContextGroup:
    """All continuations of one context; ``members`` are their positions in the caller's sequence."""

    context: Tokens
    continuations: tuple[Tokens, ...]
    members: tuple[int, ...]


class Fitted(NamedTuple):
    """A context and continuation that fit in the model, and the number of tokens truncated on the left."""

    context: Tokens
    continuation: Tokens
    cut: int


def truncate_left(context: Sequence[int], continuation: Sequence[int], max_model_len: int) -> Fitted | Unscored:
    """Truncate the context on the left so that it fits with its continuation in ``max_model_len - 1`` tokens.

    One token is reserved because vLLM always generates one. Source: lm-eval 0.4.13
    lm_eval/models/vllm_causallms.py ``VLLM._loglikelihood_tokens``. Deviation: a continuation that leaves
    no token of context is ``Unscored("context_length")``, where lm-eval fails or sums over the wrong
    positions. Continuations of different lengths may keep different parts of one context, which puts
    them in different groups. Raises ValueError for an empty context.
    """
    if not context:
        raise ValueError("empty context; condition on the prefix token instead")
    limit = max_model_len - 1
    if len(continuation) >= limit:
        return Unscored(
            "context_length",
            f"a continuation of {len(continuation)} tokens leaves no context in {max_model_len} tokens",
        )
    cut = max(0, len(context) + len(continuation) - limit)
    return Fitted(tuple(context[cut:]), tuple(continuation), cut)


def group_by_context(pairs: Iterable[tuple[int, Tokens, Tokens]]) -> list[ContextGroup]:
    """Group (position, context, continuation) by context, in order of first appearance."""
    groups: dict[Tokens, tuple[list[Tokens], list[int]]] = {}
    for position, context, continuation in pairs:
        continuations, members = groups.setdefault(context, ([], []))
        continuations.append(continuation)
        members.append(position)
    return [ContextGroup(context, tuple(each), tuple(members)) for context, (each, members) in groups.items()]


def questions_for(continuations: Iterable[Sequence[int]]) -> tuple[Question, ...]:
    """Return the fewest next-token questions that determine every continuation, shortest paths first.

    One question per inner node of the trie; a node with more than ``MAX_IDS`` children needs several. An empty
    continuation needs none.
    """
    children: dict[Tokens, dict[int, None]] = {}
    for continuation in continuations:
        tokens = tuple(continuation)
        for depth, token in enumerate(tokens):
            children.setdefault(tokens[:depth], {})[token] = None
    questions = []
    for path in sorted(children, key=len):
        ids = tuple(children[path])
        questions += [Question(path, ids[first : first + MAX_IDS]) for first in range(0, len(ids), MAX_IDS)]
    return tuple(questions)


def questions_are_cheaper(context_tokens: int, continuations: Iterable[Tokens], questions: Sequence[Question]) -> bool:
    """Return whether the trie's questions cost less than one ``prompt_logprobs`` request per continuation.

    The trie prefills the context once and then pays for each question; ``prompt_logprobs`` prefills the
    context for each distinct continuation, without the prefix cache. Both give the same figures and
    differ only in speed, for example for continuations of many sentences.
    """
    distinct = set(continuations)
    if len(questions) <= len(distinct):
        return True
    cost = context_tokens + sum(len(question.path) + _QUESTION_COST_TOKENS for question in questions)
    return cost < sum(context_tokens + len(continuation) for continuation in distinct)


def loglikelihoods(
    continuations: Iterable[Sequence[int]], questions: Sequence[Question], answers: Sequence[NextToken | Unscored]
) -> list[Loglikelihood | Unscored]:
    """Sum the answers along each continuation's path.

    ``answers`` are in the order of ``questions``. An empty continuation has log-likelihood 0.0 and is
    greedy, as in lm-eval (an empty sum). A continuation whose path has an Unscored answer, a missing id,
    or a NaN or infinite log-probability is Unscored.
    """
    table: dict[tuple[Tokens, int], NextToken | Unscored] = {}
    for question, answer in zip(questions, answers, strict=True):
        for token in question.ids:
            table[question.path, token] = answer
    return [_sum_along(tuple(continuation), table) for continuation in continuations]


def sum_steps(steps: Iterable[tuple[float, bool]]) -> Loglikelihood | Unscored:
    """Sum (log-probability, is the most likely) over the tokens of a continuation."""
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
            return Unscored("malformed_reply", f"the server returned no log-probability for token {token}")
        steps.append((answer.logprobs[token], answer.is_top(token)))
    return sum_steps(steps)
