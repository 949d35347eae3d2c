"""Log-likelihoods of continuations, computed inside vLLM's process.

Loaded by vLLM (``--middleware``) into managed servers. vLLM's HTTP API needs one request per token of a continuation,
or one ``prompt_logprobs`` request, which skips the prefix cache and computes logits for the whole context. Here a
request uses the cache and gets the log-probabilities of its uncached tail, and what continuations share is asked once.
One POST to ``PATH`` answers all continuations of one context:

    {"model": name, "context": [ids], "continuations": [[ids], ...]}
    -> {"results": [[[logprob, is_greedy], ...], ...], "usage": {...}}

vLLM has log-probabilities only for positions that it computed: those before are garbage (model runner V1, on a CPU) or
missing from the list (V2, on a GPU). If the cache covers part of a continuation, it is scored again without the cache.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import secrets
import uuid
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

PATH = "/v1/evalsuite/loglikelihoods"
MAX_IDS = 128
"""vLLM's limit of ``logprob_token_ids`` per request; its ``--max-logprobs`` must be as large."""

_WITHOUT_KEY = frozenset({"/classify", "/pooling", "/score", "/rerank"})
"""Paths that vLLM answers without its key."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Tokens = tuple[int, ...]
Step = tuple[float | None, bool]
"""The log-probability of a token, and whether it is the most likely one."""


@dataclass(frozen=True, slots=True)
class Question:
    """One request to the engine: the log-probabilities of ``ids`` after the context and ``path``.

    It also returns those of the tokens of ``path`` from position ``start`` on; the ones before are known from the
    question above. ``below`` are the questions on what follows.
    """

    path: Tokens
    start: int
    ids: Tokens
    below: tuple[Question, ...]


class ScoringEndpoint:
    """An ASGI middleware that answers ``PATH`` and passes everything else on; what vLLM leaves open needs the key."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        key = os.environ.get("VLLM_API_KEY", "")
        self._key = hashlib.sha256(key.encode()).digest() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_open = scope["type"] == "http" and scope["path"] in _WITHOUT_KEY and self._is_denied(scope)
        if not is_open and (scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST"):
            await self._app(scope, receive, send)
            return
        status, reply = await self._answer(scope, receive)
        body = json.dumps(reply).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _is_denied(self, scope: Scope) -> bool:
        return self._key is not None and not _has_key(scope, self._key)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, dict[str, Any]]:
        # vLLM runs middleware before its authentication.
        if self._is_denied(scope):
            return 401, _error("Unauthorized", 401)
        try:
            request = json.loads(await _body(receive))
            context, continuations = _token_lists(request)
        except (ValueError, KeyError, TypeError) as error:
            return 400, _error(f"invalid request to {PATH}: {error}", 400)
        state = scope["app"].state
        served = {model.name for model in state.openai_serving_models.base_model_paths}
        if request.get("model") not in served:
            return 404, _error(f"model {request.get('model')!r} is not served here without an adapter", 404)
        engine = _Engine(state.engine_client)
        try:
            results = await engine.score(context, continuations)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            # Another version of vLLM without one of the settings (TypeError) or with other replies. After a 400 the
            # client uses the slower requests. Errors that kill the engine are not caught.
            return 400, _error(f"{type(error).__name__}: {error}", 400)
        return 200, {"results": results, "usage": engine.usage}


class _Engine:
    """Scores the continuations of one context with vLLM's engine."""

    def __init__(self, client: Any) -> None:
        self._client = client
        # Continuations have priority over other contexts, which would evict theirs from the cache.
        scheduler = getattr(getattr(client, "vllm_config", None), "scheduler_config", None)
        self._order = {"priority": -1} if getattr(scheduler, "policy", None) == "priority" else {}
        self._n_engines = _n_engines(getattr(client, "vllm_config", None))
        self._rank: dict[str, int] = {}
        self.usage: dict[str, Any] = {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    async def score(self, context: list[int], continuations: list[list[int]]) -> list[list[Step]]:
        # vLLM sends each request to the least busy engine, which may not have the context in its cache.
        if self._n_engines > 1:
            self._rank = {"data_parallel_rank": zlib.crc32(repr(context).encode()) % self._n_engines}
        steps = await self._steps(context, questions(map(tuple, continuations)))
        return [[steps[tuple(tokens[:end])] for end in range(1, len(tokens) + 1)] for tokens in continuations]

    async def _steps(self, context: list[int], question: Question) -> dict[Tokens, Step]:
        """Return the step at the end of each path that the question and those below it determine."""
        steps: dict[Tokens, Step] = {}
        for first in range(0, len(question.ids), MAX_IDS):
            steps |= await self._next_tokens(context, question, question.ids[first : first + MAX_IDS])
        # Now the prompts of those below are in the cache but for their ends.
        for others in await asyncio.gather(*(self._steps(context, below) for below in question.below)):
            steps |= others
        return steps

    async def _next_tokens(self, context: list[int], question: Question, ids: Tokens) -> dict[Tokens, Step]:
        path, prompt, order = question.path, [*context, *question.path], self._order if question.path else {}
        settings: dict[str, Any] = {"logprobs": len(ids), "logprob_token_ids": list(ids)}
        steps: dict[Tokens, Step] = {}
        if question.start == len(path):
            reply = await self._generate(prompt, order, **settings)
        else:
            start = len(context) + question.start
            # The most likely token is requested too: an equally likely one has rank 2, and both count as greedy.
            settings |= {"prompt_logprobs": 1}
            reply = await self._generate(prompt, order, **settings, skip_reading_prefix_cache=False)
            # The log-probability of token i is at position i - 1, which must have been computed.
            if max(reply.num_cached_tokens or 0, _n_missing(reply, prompt)) > start - 1:
                reply = await self._generate(prompt, order, **settings, skip_reading_prefix_cache=True)
            n_missing = _n_missing(reply, prompt)
            if n_missing > start - 1:
                raise ValueError(f"the engine returned {len(prompt) - n_missing} of {len(prompt)} log-probabilities")
            for i in range(start, len(prompt)):
                row = reply.prompt_logprobs[i - n_missing]
                steps[path[: i - len(context) + 1]] = _finite(row[prompt[i]].logprob), _is_top(row, prompt[i])
        top, answers = reply.outputs[0].token_ids[0], reply.outputs[0].logprobs[0]
        best = answers[top].logprob if top in answers else math.inf
        for token in ids:
            steps[*path, token] = _finite(answers[token].logprob), token == top or answers[token].logprob >= best
        return steps

    async def _generate(self, prompt: Sequence[int], order: dict[str, int], **settings: Any) -> Any:
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, **settings)
        prompt_tokens = {"prompt_token_ids": list(prompt)}
        name = f"evalsuite-{uuid.uuid4().hex}"
        replies = [reply async for reply in self._client.generate(prompt_tokens, params, name, **order, **self._rank)]
        if not replies:
            raise ValueError("the engine returned no reply")
        final = replies[-1]
        self.usage["prompt_tokens"] += len(prompt)
        self.usage["completion_tokens"] += 1
        self.usage["prompt_tokens_details"]["cached_tokens"] += final.num_cached_tokens or 0
        return final


def questions(continuations: Iterable[Tokens]) -> Question:
    """Return the fewest questions that determine every continuation, as a tree; pure.

    One per branch of the continuations' trie, and one per unbranched end of more than a token. The first is about the
    context alone: with more in its prompt, vLLM would compute logits for every position of the context.
    """
    distinct = set(continuations)
    ids = _tokens_at(0, distinct)
    return Question((), 0, ids, _questions_after((), ids, distinct))


def _questions_after(path: Tokens, ids: Tokens, continuations: Iterable[Tokens]) -> tuple[Question, ...]:
    """Return the questions on what follows ``path`` and one of ``ids``, whose log-probabilities are known."""
    found = []
    for known in ((*path, token) for token in ids):
        start = end = len(known)
        longer = [tokens for tokens in continuations if tokens[:start] == known and len(tokens) > start]
        if not longer:
            continue
        longest = max(longer, key=len)
        following = _tokens_at(end, longer)
        while len(following) == 1 and len(longest) > end + 1:
            end += 1
            following = _tokens_at(end, longer)
        found.append(Question(longest[:end], start, following, _questions_after(longest[:end], following, longer)))
    return tuple(found)


def _tokens_at(position: int, continuations: Iterable[Tokens]) -> Tokens:
    return tuple(sorted({tokens[position] for tokens in continuations if len(tokens) > position}))


def _n_engines(config: Any) -> int:
    """Return the number of engines that this process sends requests to."""
    parallel = getattr(config, "parallel_config", None)
    if getattr(parallel, "data_parallel_external_lb", False) or getattr(parallel, "data_parallel_hybrid_lb", False):
        return 1
    return int(getattr(parallel, "data_parallel_size", 1) or 1)


def _is_top(row: Mapping[int, Any], token: int) -> bool:
    chosen = row[token]
    return bool(chosen.rank == 1 or (len(row) > 1 and chosen.logprob >= max(entry.logprob for entry in row.values())))


def _n_missing(reply: Any, prompt: Sequence[int]) -> int:
    """Return how many leading positions are missing from the list of log-probabilities."""
    return len(prompt) - len(reply.prompt_logprobs or ())


def _finite(value: float) -> float | None:
    """Return None for NaN and infinity, which JSON cannot represent; it makes the item unscored."""
    return float(value) if math.isfinite(value) else None


def _token_lists(request: dict[str, Any]) -> tuple[list[int], list[list[int]]]:
    context, continuations = request["context"], request["continuations"]
    for tokens in (context, *continuations):
        if not tokens or not all(type(token) is int for token in tokens):
            raise ValueError("context and continuations must be non-empty lists of token ids")
    if not continuations:
        raise ValueError("no continuations")
    return context, continuations


def _has_key(scope: Scope, key: bytes) -> bool:
    header = next((value for name, value in scope["headers"] if name.lower() == b"authorization"), b"")
    scheme, _, token = header.partition(b" ")
    return scheme.lower() == b"bearer" and secrets.compare_digest(hashlib.sha256(token).digest(), key)


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _error(message: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code}}
