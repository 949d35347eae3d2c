"""Log-likelihoods of continuations, computed inside vLLM's process.

Loaded by vLLM (``--middleware``) into managed servers. vLLM's HTTP API needs one request per token of a continuation,
or one ``prompt_logprobs`` request, which skips the prefix cache and computes logits for the whole context. Here a
request uses the cache and gets the log-probabilities of its uncached tail. One POST to ``PATH`` answers all
continuations of one context:

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
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

PATH = "/v1/evalsuite/loglikelihoods"
MAX_FIRST_TOKENS = 128
"""vLLM's limit of ``logprob_token_ids`` per request; its ``--max-logprobs`` must be as large."""

_WITHOUT_KEY = frozenset({"/classify", "/pooling", "/score", "/rerank"})
"""Paths that vLLM answers without its key."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Steps = list[tuple[float | None, bool]]


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
        self.usage: dict[str, Any] = {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    async def score(self, context: list[int], continuations: list[list[int]]) -> list[Steps]:
        # vLLM sends each request to the least busy engine, which may not have the context in its cache.
        rank = (
            {"data_parallel_rank": zlib.crc32(repr(context).encode()) % self._n_engines} if self._n_engines > 1 else {}
        )
        self._order |= rank
        firsts = sorted({tokens[0] for tokens in continuations})
        if len(firsts) > MAX_FIRST_TOKENS:
            raise ValueError(f"{len(firsts)} different first tokens, at most {MAX_FIRST_TOKENS} are supported")
        root = await self._generate(context, rank, logprobs=len(firsts), logprob_token_ids=firsts)
        top, answers = root.outputs[0].token_ids[0], root.outputs[0].logprobs[0]
        best = answers[top].logprob if top in answers else math.inf
        first_steps = {
            token: (_finite(answers[token].logprob), token == top or answers[token].logprob >= best) for token in firsts
        }
        rests = await asyncio.gather(*(self._rest(context, tokens) for tokens in continuations))
        return [[first_steps[tokens[0]], *rest] for tokens, rest in zip(continuations, rests, strict=True)]

    async def _rest(self, context: list[int], continuation: list[int]) -> Steps:
        """Return the steps after the first token."""
        if len(continuation) == 1:
            return []
        prompt, start = context + continuation, len(context) + 1
        # The most likely token is requested too: an equally likely one has rank 2, and both count as greedy.
        reply = await self._generate(prompt, self._order, prompt_logprobs=1, skip_reading_prefix_cache=False)
        # The log-probability of token i is at position i - 1, which must have been computed.
        if max(reply.num_cached_tokens or 0, _n_missing(reply, prompt)) > start - 1:
            reply = await self._generate(prompt, self._order, prompt_logprobs=1, skip_reading_prefix_cache=True)
        n_missing = _n_missing(reply, prompt)
        if n_missing > start - 1:
            raise ValueError(f"the engine returned {len(prompt) - n_missing} of {len(prompt)} log-probabilities")
        rows = [(reply.prompt_logprobs[i - n_missing], prompt[i]) for i in range(start, len(prompt))]
        return [(_finite(row[token].logprob), _is_top(row, token)) for row, token in rows]

    async def _generate(self, prompt: Sequence[int], order: dict[str, int], **settings: Any) -> Any:
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, **settings)
        prompt_tokens = {"prompt_token_ids": list(prompt)}
        name = f"evalsuite-{uuid.uuid4().hex}"
        replies = [reply async for reply in self._client.generate(prompt_tokens, params, name, **order)]
        if not replies:
            raise ValueError("the engine returned no reply")
        final = replies[-1]
        self.usage["prompt_tokens"] += len(prompt)
        self.usage["completion_tokens"] += 1
        self.usage["prompt_tokens_details"]["cached_tokens"] += final.num_cached_tokens or 0
        return final


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
