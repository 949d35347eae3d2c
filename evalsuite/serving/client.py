"""One asynchronous client for everything that shares a server.

It alone decides how many requests are in flight; it asks the store before it asks the server,
and the store has an answer before anybody sees it. It knows three kinds of failure apart: a
busy server (wait and try again), a dead one (``ServerError``: the run stops and resumes later)
and a bad request (``Unscored``: the item is counted and the run goes on).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import tenacity

from evalsuite.errors import ServerError, UsageError, unknown
from evalsuite.serving.chat_format import ChatFormat
from evalsuite.serving.continuations import NextToken
from evalsuite.serving.replies import (
    read_chat,
    read_completion,
    read_features,
    read_next_token,
    read_prompt_logprobs,
    read_safely,
    read_top_logprobs,
)
from evalsuite.serving.requests import Completion, Guide, Sampling
from evalsuite.store import Store, content_key
from judges.types import Message, Unscored

_ATTEMPTS = 6
_MAX_WAIT_S = 20.0
_READ_TIMEOUT_S = 3600.0
_BUSY = frozenset({408, 409, 425, 429, 503, 504})
_DENIED = frozenset({401, 403})
_CONTEXT_WORDS = ("maximum context length", "max_model_len", "context length", "maximum model length")
_TOP_LOGPROBS = 20
_HF_DEFAULT_TOP_K = 50
_NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sent with every request, so that no default of the server's or the checkpoint's slips in."""


class _TryAgainError(Exception):
    """A failure that may pass."""


@dataclass(slots=True)
class Usage:
    """What a client has asked for so far; answers from the store are not in it."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server that is up: where, under which key and name; and what is wrong when it is not.

    ``diagnose`` returns why the server is dead, or None while it lives.
    """

    base_url: str
    api_key: str
    model_name: str
    diagnose: Callable[[], str | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Target:
    """Which model a client asks, and by which words its answers are remembered.

    ``identity`` goes into every key of the store: fingerprints of weights, tokenizer and
    template, and the dtype. ``generation`` are the checkpoint's own sampling settings, used
    where a ``Sampling`` leaves a field to the model. ``chat_format`` is None for a server whose
    tokenizer is out of sight: conversations then go to its chat endpoint.
    """

    name: str
    identity: Mapping[str, Any]
    max_model_len: int | None = None
    chat_format: ChatFormat | None = None
    generation: Mapping[str, Any] | None = None


class Client:
    """Implements ``Chat`` and the token-level questions of the harness for one model.

    The server is reached through ``connect``, which is awaited at the first question that the
    store cannot answer: a run whose answers are all remembered starts no server.
    """

    def __init__(
        self,
        target: Target,
        connect: Callable[[], Awaitable[Endpoint]],
        store: Store,
        *,
        in_flight: int = 128,
    ) -> None:
        self.target = target
        self.usage = Usage()
        self._connect = connect
        self._store = store
        self._slots = asyncio.Semaphore(in_flight)
        self._pending: dict[str, asyncio.Future[dict[str, Any] | Unscored]] = {}
        self._connecting = asyncio.Lock()
        self._endpoint: Endpoint | None = None
        self._openai: openai.AsyncOpenAI | None = None
        self._retired: list[openai.AsyncOpenAI] = []
        self._logprob_token_ids: bool | None = None

    @property
    def model_name(self) -> str:
        return self.target.name

    @property
    def has_logprob_token_ids(self) -> bool:
        """Whether the server answers next-token questions by token id; known after ``detect_features``."""
        return bool(self._logprob_token_ids)

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer; raises UsageError for a server whose tokenizer is out of sight."""
        return self._format().tokenizer

    @property
    def max_model_len(self) -> int:
        if self.target.max_model_len is None:
            raise UsageError(f"{self.target.name} does not tell its context length; pass --max-model-len")
        return self.target.max_model_len

    async def close(self) -> None:
        for connection in (*self._retired, self._openai):
            if connection is not None:
                await connection.close()
        self._retired.clear()

    def reconnect(self) -> None:
        """Forget the connection: the next question starts the server anew."""
        if self._openai is not None:
            # Closed with the client: whoever notices a dead server does not stand on the event loop.
            self._retired.append(self._openai)
        self._openai = None
        self._endpoint = None

    async def detect_features(self) -> None:
        """Find out what the server can do by asking, not by its version; the store remembers it."""
        if self._logprob_token_ids is not None:
            return
        if self.target.chat_format is None:
            self._logprob_token_ids = False
            return
        body = {
            "prompt": [0],
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": [0],
            "return_tokens_as_token_ids": True,
        }
        answer = await self._remembered("features", "/completions", body, read_features)
        self._logprob_token_ids = not isinstance(answer, Unscored) and bool(answer["logprob_token_ids"])

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None = None
    ) -> Completion | Unscored:
        """Answer a conversation; an open assistant turn at the end is continued."""
        if self.target.chat_format is None:
            return await self._remote_chat(messages, sampling, guide)
        prompt = self.target.chat_format.prompt_tokens(messages)
        return await self.complete(prompt, sampling, guide=guide, stop=self.target.chat_format.stop)

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> dict[str, float] | Unscored:
        """Return the raw log-probability of each label as the next token; absent where the server hides it."""
        await self.detect_features()
        if self.target.chat_format is None or not self._logprob_token_ids:
            return await self._remote_labels(messages, labels)
        prompt = self.target.chat_format.prompt_tokens(messages)
        ids = {label: _label_id(self.tokenizer, label) for label in labels}
        asked = await self.next_token_logprobs(prompt, list(ids.values()))
        if isinstance(asked, Unscored):
            return asked
        return {label: asked.logprobs[token] for label, token in ids.items()}

    async def complete(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        guide: Guide | None = None,
        stop: Sequence[str] = (),
        skip_special_tokens: bool = True,
    ) -> Completion | Unscored:
        """Continue ``prompt`` (token ids); shortens the answer, never the prompt, to fit the context."""
        room = self.max_model_len - len(prompt)
        if room < 1:
            return Unscored("context_length", f"{len(prompt)} tokens, the context holds {self.max_model_len}")
        body = {
            "prompt": list(prompt),
            "max_tokens": min(sampling.max_new_tokens, room),
            "stop": [*sampling.stop, *stop],
            "skip_special_tokens": skip_special_tokens,
            **self._sampling_fields(sampling),
            **_guide_fields(guide),
        }
        reply = await self._remembered("complete", "/completions", body, read_completion)
        return reply if isinstance(reply, Unscored) else Completion(**reply)

    async def next_token_logprobs(self, prompt: Sequence[int], ids: Sequence[int]) -> NextToken | Unscored:
        """Return the raw log-probabilities of ``ids`` (at most 128) as the next token, and the greedy token.

        One prefill, one decoded token; the prefix cache serves what other questions share.
        """
        if len(prompt) >= self.max_model_len:
            return Unscored("context_length", f"{len(prompt)} tokens, the context holds {self.max_model_len}")
        body = {
            "prompt": list(prompt),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": sorted(set(ids)),
            "return_tokens_as_token_ids": True,
            **_NEUTRAL,
        }
        reply = await self._remembered("next", "/completions", body, read_next_token)
        if isinstance(reply, Unscored):
            return reply
        logprobs = {int(token): float(value) for token, value in reply["logprobs"].items()}
        if missing := [token for token in ids if token not in logprobs]:
            return Unscored("malformed_reply", f"no log-probability for {len(missing)} of the tokens asked for")
        return NextToken(logprobs={token: logprobs[token] for token in ids}, top_id=int(reply["top_id"]))

    async def prompt_logprobs(self, tokens: Sequence[int], start: int) -> list[tuple[float, bool]] | Unscored:
        """Return (log-probability, is it the likeliest) of each token from position ``start`` on.

        The ordinary way, which computes every position again and skips the prefix cache: for
        rolling likelihoods, and for servers without next-token questions.
        """
        if len(tokens) >= self.max_model_len:
            return Unscored("context_length", f"{len(tokens)} tokens, the context holds {self.max_model_len}")
        body = {"prompt": list(tokens), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0, **_NEUTRAL}
        reply = await self._remembered("prompt", "/completions", body, lambda raw: read_prompt_logprobs(raw, tokens))
        if isinstance(reply, Unscored):
            return reply
        return [(float(value), bool(greedy)) for value, greedy in reply["tokens"][start:]]

    def _format(self) -> ChatFormat:
        if self.target.chat_format is None:
            raise UsageError(
                f"{self.target.name} is a server whose tokenizer is out of sight; "
                "give its checkpoint folder as MODEL and the server as --base-url"
            )
        return self.target.chat_format

    def _sampling_fields(self, sampling: Sampling) -> dict[str, Any]:
        """Spell out every sampling setting; the checkpoint's own stand in where one is left to it."""
        fields: dict[str, Any] = dict(_NEUTRAL)
        own = self.target.generation
        if sampling.temperature is not None:
            fields |= {"temperature": sampling.temperature, "top_p": sampling.top_p or 1.0}
            if sampling.top_k is not None:
                fields["top_k"] = sampling.top_k
        elif own is None:
            # A server out of sight: only it knows the model's own settings.
            fields = {}
        elif own.get("do_sample"):
            fields |= {"temperature": own.get("temperature", 1.0), "top_p": own.get("top_p", 1.0)}
            fields |= {"top_k": own.get("top_k", _HF_DEFAULT_TOP_K)}
            fields["repetition_penalty"] = own.get("repetition_penalty", 1.0)
        else:
            fields |= {"temperature": 0, "top_p": 1.0, "repetition_penalty": own.get("repetition_penalty", 1.0)}
        if fields.get("temperature") == 0:
            return fields | {"top_p": 1.0, "top_k": -1}
        return fields | {"seed": sampling.seed}

    async def _remote_chat(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None
    ) -> Completion | Unscored:
        body: dict[str, Any] = {
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": sampling.max_new_tokens,
            **self._sampling_fields(sampling),
            **_guide_fields(guide),
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if messages and messages[-1].role == "assistant":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        reply = await self._remembered("chat", "/chat/completions", body, read_chat)
        return reply if isinstance(reply, Unscored) else Completion(**reply)

    async def _remote_labels(self, messages: Sequence[Message], labels: Sequence[str]) -> dict[str, float] | Unscored:
        """Read the labels off the top log-probabilities; a label that is not among them stays absent."""
        body: dict[str, Any] = {
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": 1,
            "temperature": 1,
            "logprobs": True,
            "top_logprobs": _TOP_LOGPROBS,
        }
        reply = await self._remembered("labels", "/chat/completions", body, read_top_logprobs)
        if isinstance(reply, Unscored):
            return reply
        return {label: float(value) for label, value in reply["top"].items() if label in labels}

    async def _remembered(
        self, kind: str, path: str, body: dict[str, Any], read: Callable[[dict[str, Any]], dict[str, Any] | Unscored]
    ) -> dict[str, Any] | Unscored:
        """Answer from the store, from the same question already under way, or from the server."""
        key = content_key({"kind": kind, "model": dict(self.target.identity), "question": body})
        if (known := self._store.get(key)) is not None:
            return known
        if (pending := self._pending.get(key)) is not None:
            return await asyncio.shield(pending)
        future = asyncio.get_running_loop().create_future()
        self._pending[key] = future
        try:
            async with self._slots:
                raw = await self._ask(path, body)
            answer = raw if isinstance(raw, Unscored) else read_safely(read, raw)
            if not isinstance(answer, Unscored):
                self._store.put(key, answer)
            future.set_result(answer)
        except BaseException as error:
            future.set_exception(error)
            # Nobody may be waiting for the twin; then its exception is this one's alone.
            future.exception()
            raise
        finally:
            del self._pending[key]
        return answer

    async def _server(self) -> tuple[openai.AsyncOpenAI, Endpoint]:
        """Return the connection, starting the server if this is the first question to reach it."""
        async with self._connecting:
            if self._openai is None or self._endpoint is None:
                self._endpoint = await self._connect()
                self._openai = openai.AsyncOpenAI(
                    base_url=self._endpoint.base_url,
                    api_key=self._endpoint.api_key or "none",
                    max_retries=0,
                    timeout=openai.Timeout(_READ_TIMEOUT_S, connect=10.0),
                    # httpx walks over all its connections for each request: five times the CPU time at 256 in flight.
                    http_client=openai.DefaultAioHttpClient(),
                )
            return self._openai, self._endpoint

    async def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any] | Unscored:
        """Send one request, with patience; raises ServerError when the server is gone."""
        connection, endpoint = await self._server()
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=_MAX_WAIT_S),
            retry=tenacity.retry_if_exception_type(_TryAgainError),
            before_sleep=self._count_retry,
            reraise=True,
        )
        try:
            reply: dict[str, Any] | Unscored = await retrying(_post, connection, endpoint, path, body)
        except _TryAgainError as error:
            if isinstance(error.__cause__, openai.APIConnectionError):
                raise ServerError(f"{endpoint.base_url} does not answer ({error}); is the server up?") from error
            return Unscored("request_failed", str(error))
        if not isinstance(reply, Unscored):
            self._count(reply)
        return reply

    def _count_retry(self, _: tenacity.RetryCallState) -> None:
        self.usage.retries += 1

    def _count(self, reply: Mapping[str, Any]) -> None:
        usage = reply.get("usage") or {}
        self.usage.requests += 1
        self.usage.prompt_tokens += usage.get("prompt_tokens") or 0
        self.usage.completion_tokens += usage.get("completion_tokens") or 0
        self.usage.cached_tokens += (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


async def _post(
    connection: openai.AsyncOpenAI, endpoint: Endpoint, path: str, body: Mapping[str, Any]
) -> dict[str, Any] | Unscored:
    """Send one request once; raises _TryAgainError for what may pass and ServerError for what will not."""
    # cast_to=object: the plain JSON, without a model class for every token of the reply. Untyped,
    # because the SDK's overloads leave the stream type open.
    post: Any = connection.post
    try:
        reply: object = await post(path, cast_to=object, body={"model": endpoint.model_name, **body})
    except openai.APIConnectionError as error:
        if (cause := endpoint.diagnose()) is not None:
            raise ServerError(cause) from error
        raise _TryAgainError(str(error)) from error
    except openai.APIStatusError as error:
        return _refused(error, endpoint)
    except (openai.APIResponseValidationError, ValueError) as error:
        raise _TryAgainError(f"the reply is not JSON: {error}") from error
    return reply if isinstance(reply, dict) else Unscored("malformed_reply", "the reply is not a JSON object")


def _refused(error: openai.APIStatusError, endpoint: Endpoint) -> Unscored:
    """Tell a busy server, a denied one and a bad request apart."""
    words = str(error)
    if error.status_code in _DENIED:
        raise ServerError(
            f"{endpoint.base_url} answers {error.status_code}; set EVALSUITE_API_KEY to its key"
        ) from error
    if error.status_code in _BUSY or error.status_code >= 500:
        raise _TryAgainError(words) from error
    if any(phrase in words for phrase in _CONTEXT_WORDS):
        return Unscored("context_length", words)
    return Unscored("request_failed", words)


def check_endpoint(base_url: str, api_key: str, model_name: str | None) -> tuple[str, int | None]:
    """Ask a server that somebody else runs what it serves: (served name, context length or None).

    Raises ServerError when it does not answer; UsageError when it denies access or serves
    other names than ``model_name`` (None takes the only one it serves).
    """
    try:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        reply = httpx.get(f"{base_url.rstrip('/')}/models", headers=headers, timeout=20)
    except httpx.HTTPError as error:
        raise ServerError(
            f"{base_url} does not answer ({error}); is the server up, and does the URL end in /v1?"
        ) from error
    if reply.status_code in _DENIED:
        raise UsageError(f"{base_url} answers {reply.status_code}; set EVALSUITE_API_KEY to its key")
    try:
        served = {str(model["id"]): model for model in reply.json()["data"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{base_url}/models answers {reply.status_code} and no list of models; does the URL end in /v1?"
        ) from error
    if model_name is None and len(served) == 1:
        model_name = next(iter(served))
    if model_name not in served:
        raise UsageError(f"{unknown('model', str(model_name), served)} at {base_url}")
    length = served[model_name].get("max_model_len")
    return model_name, length if isinstance(length, int) else None


def _label_id(tokenizer: Any, label: str) -> int:
    """Return the single token that writes ``label`` at the start of the answer."""
    ids = tokenizer.encode(label, add_special_tokens=False)
    if len(ids) != 1:
        # Some tokenizers put a word mark before a first letter; the bare letter is a token of its own.
        bare = tokenizer.convert_tokens_to_ids(label)
        ids = [] if bare is None or bare == tokenizer.unk_token_id else [bare]
    if len(ids) != 1:
        raise UsageError(f"the judge's tokenizer has no single token for {label!r}; use another judge")
    return int(ids[0])


def _guide_fields(guide: Guide | None) -> dict[str, Any]:
    if guide is None:
        return {}
    return {"structured_outputs": {"choice": list(guide.choice)} if guide.choice else {"regex": guide.regex}}
