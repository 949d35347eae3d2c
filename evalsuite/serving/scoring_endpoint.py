"""Log-likelihoods of continuations, inside vLLM's own process.

Loaded by vLLM itself (``--middleware``) into the servers that evalsuite starts. Over plain HTTP a
continuation of several tokens costs one question a token, or one ``prompt_logprobs`` request,
which skips the prefix cache and projects the whole context onto the vocabulary. In here a request
may have both, the cache and the log-probabilities of its uncached tail, so a continuation costs
the prefill of its own few tokens.

One POST to ``PATH`` answers all continuations of one context:

    {"model": name, "context": [ids], "continuations": [[ids], ...]}
    -> {"results": [[[logprob, is_greedy], ...], ...], "usage": {...}}

First the context alone is asked for the log-probabilities of all first tokens; that also leaves it
in the cache. Then each longer continuation is prefilled behind it. vLLM has log-probabilities only
for positions that it computed: those before them hold garbage (its first model runner, on a CPU) or
are left out of the list (its second, on a GPU). Where the cache reached into the continuation itself
(a sibling shares its first tokens, or the same was asked before), that continuation is asked once more
past the cache.
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
"""vLLM's bound on ``logprob_token_ids`` in one request; its ``--max-logprobs`` must be as large."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Steps = list[tuple[float | None, bool]]


class ScoringEndpoint:
    """An ASGI middleware that answers ``PATH`` and hands everything else on."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app
        key = os.environ.get("VLLM_API_KEY", "")
        self._key = hashlib.sha256(key.encode()).digest() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        status, reply = await self._answer(scope, receive)
        body = json.dumps(reply).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, dict[str, Any]]:
        # vLLM puts this in front of its own authentication.
        if self._key is not None and not _bears(scope, self._key):
            return 401, _error("Unauthorized", 401)
        try:
            asked = json.loads(await _body(receive))
            context, continuations = _token_lists(asked)
        except (ValueError, KeyError, TypeError) as error:
            return 400, _error(f"not a question for {PATH}: {error}", 400)
        state = scope["app"].state
        served = {model.name for model in state.openai_serving_models.base_model_paths}
        if asked.get("model") not in served:
            return 404, _error(f"the model {asked.get('model')!r} is not served without an adapter here", 404)
        engine = _Engine(state.engine_client)
        try:
            results = await engine.score(context, continuations)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            # TypeError: an older vLLM that does not know one of the settings. The rest: one whose replies look
            # otherwise. A refusal sends the client the longer way; what the engine itself dies of is not caught.
            return 400, _error(f"{type(error).__name__}: {error}", 400)
        return 200, {"results": results, "usage": engine.usage}


class _Engine:
    """vLLM's engine, asked for one context's continuations."""

    def __init__(self, client: Any) -> None:
        self._client = client
        # What continues a context goes before other contexts, which would push it out of the cache.
        scheduler = getattr(getattr(client, "vllm_config", None), "scheduler_config", None)
        self._soon = {"priority": -1} if getattr(scheduler, "policy", None) == "priority" else {}
        self._n_engines = _engines_to_choose_from(getattr(client, "vllm_config", None))
        self.usage: dict[str, Any] = {
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    async def score(self, context: list[int], continuations: list[list[int]]) -> list[Steps]:
        # vLLM hands each request to the engine with the least to do, which need not have the context in its cache.
        home = (
            {"data_parallel_rank": zlib.crc32(repr(context).encode()) % self._n_engines} if self._n_engines > 1 else {}
        )
        self._soon |= home
        firsts = sorted({tokens[0] for tokens in continuations})
        if len(firsts) > MAX_FIRST_TOKENS:
            raise ValueError(f"{len(firsts)} different first tokens, {MAX_FIRST_TOKENS} are possible")
        root = await self._generate(context, home, logprobs=len(firsts), logprob_token_ids=firsts)
        top, answers = root.outputs[0].token_ids[0], root.outputs[0].logprobs[0]
        best = answers[top].logprob if top in answers else math.inf
        beginnings = {
            token: (_finite(answers[token].logprob), token == top or answers[token].logprob >= best) for token in firsts
        }
        rests = await asyncio.gather(*(self._rest(context, tokens) for tokens in continuations))
        return [[beginnings[tokens[0]], *rest] for tokens, rest in zip(continuations, rests, strict=True)]

    async def _rest(self, context: list[int], continuation: list[int]) -> Steps:
        """Return the steps after the first token."""
        if len(continuation) == 1:
            return []
        prompt, start = context + continuation, len(context) + 1
        # The likeliest token is asked for too: one that is as likely has rank 2, and lm-eval counts both as greedy.
        reply = await self._generate(prompt, self._soon, prompt_logprobs=1, skip_reading_prefix_cache=False)
        # The log-probability of token i stands on position i - 1, which must have been computed.
        if max(reply.num_cached_tokens or 0, _left_out(reply, prompt)) > start - 1:
            reply = await self._generate(prompt, self._soon, prompt_logprobs=1, skip_reading_prefix_cache=True)
        left_out = _left_out(reply, prompt)
        if left_out > start - 1:
            raise ValueError(f"the engine gave {len(prompt) - left_out} of {len(prompt)} log-probabilities")
        rows = [(reply.prompt_logprobs[i - left_out], prompt[i]) for i in range(start, len(prompt))]
        return [(_finite(row[token].logprob), _is_top(row, token)) for row, token in rows]

    async def _generate(self, prompt: Sequence[int], order: dict[str, int], **settings: Any) -> Any:
        from vllm import SamplingParams

        params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, **settings)
        prompt_tokens = {"prompt_token_ids": list(prompt)}
        name = f"evalsuite-{uuid.uuid4().hex}"
        replies = [reply async for reply in self._client.generate(prompt_tokens, params, name, **order)]
        if not replies:
            raise ValueError("the engine gave no answer")
        final = replies[-1]
        self.usage["prompt_tokens"] += len(prompt)
        self.usage["completion_tokens"] += 1
        self.usage["prompt_tokens_details"]["cached_tokens"] += final.num_cached_tokens or 0
        return final


def _engines_to_choose_from(config: Any) -> int:
    """Return how many engines this process hands its requests to."""
    parallel = getattr(config, "parallel_config", None)
    if getattr(parallel, "data_parallel_external_lb", False) or getattr(parallel, "data_parallel_hybrid_lb", False):
        return 1
    return int(getattr(parallel, "data_parallel_size", 1) or 1)


def _is_top(row: Mapping[int, Any], token: int) -> bool:
    own = row[token]
    return bool(own.rank == 1 or (len(row) > 1 and own.logprob >= max(entry.logprob for entry in row.values())))


def _left_out(reply: Any, prompt: Sequence[int]) -> int:
    """Return how many positions at the beginning are missing from the list of log-probabilities."""
    return len(prompt) - len(reply.prompt_logprobs or ())


def _finite(value: float) -> float | None:
    """JSON has no word for NaN and infinity; None makes the item unscored."""
    return float(value) if math.isfinite(value) else None


def _token_lists(asked: dict[str, Any]) -> tuple[list[int], list[list[int]]]:
    context, continuations = asked["context"], asked["continuations"]
    for tokens in (context, *continuations):
        if not tokens or not all(type(token) is int for token in tokens):
            raise ValueError("context and continuations are lists of at least one token id")
    if not continuations:
        raise ValueError("no continuations")
    return context, continuations


def _bears(scope: Scope, key: bytes) -> bool:
    given = next((value for name, value in scope["headers"] if name.lower() == b"authorization"), b"")
    scheme, _, token = given.partition(b" ")
    return scheme.lower() == b"bearer" and secrets.compare_digest(hashlib.sha256(token).digest(), key)


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _error(words: str, code: int) -> dict[str, Any]:
    return {"error": {"message": words, "type": "invalid_request_error", "code": code}}
