"""The asynchronous client for everything that shares a server.

It limits the number of requests in flight, looks up answers in the store before sending a request, and
saves an answer before returning it. It distinguishes three kinds of failure: a busy server (wait and
retry), a dead one (``ServerError``: the run stops and can be resumed) and a bad request (``Unscored``: the
item is counted and the run continues).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalsuite.errors import UsageError
from evalsuite.serving.chat_format import ChatFormat
from evalsuite.serving.connection import Connection
from evalsuite.serving.continuations import NextToken
from evalsuite.serving.replies import (
    FEATURE_IDS,
    read_chat,
    read_completion,
    read_continuations,
    read_features,
    read_next_token,
    read_prompt_logprobs,
    read_safely,
    read_top_logprobs,
)
from evalsuite.serving.requests import Completion, Guide, Sampling
from evalsuite.serving.slots import Slots
from evalsuite.serving.wire import Endpoint, RetryableError
from evalsuite.store import AnswerStore, content_key
from judges.types import Message, Unscored

_POLL_S = (0.05, 1.0)
"""The initial and the maximum interval of polling for an answer that another process has requested."""
_TOP_LOGPROBS = 20
_PROBE_CONTEXT_TOKENS = 64
_PROBE_FIRST_TOKENS = 24
_SCORING = "/evalsuite/loglikelihoods"
Reader = Callable[[dict[str, Any]], dict[str, Any] | Unscored]
_HF_DEFAULT_TOP_K = 50
_NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sent with every request, to override defaults of the server and the checkpoint."""


@dataclass(frozen=True, slots=True)
class Target:
    """The model that a client queries, and its identity in the store.

    ``identity`` is part of every key of the store: fingerprints of weights, tokenizer and template, and the dtype.
    ``generation`` are the checkpoint's sampling settings, used where a ``Sampling`` leaves a field to the model.
    ``chat_format`` is None without a local tokenizer: conversations then go to the server's chat endpoint. ``server``
    is the software version or the URL, and ``is_managed`` says whether this process starts the server.
    """

    name: str
    identity: Mapping[str, Any]
    max_model_len: int | None = None
    chat_format: ChatFormat | None = None
    generation: Mapping[str, Any] | None = None
    server: str = ""
    is_managed: bool = False


class Client:
    """Implements ``Chat`` and the token-level requests of the harness for one model.

    ``connect`` is awaited at the first request that the store cannot answer, so a run with all answers
    in the store starts no server.
    """

    def __init__(
        self, target: Target, connect: Callable[[], Awaitable[Endpoint]], store: AnswerStore, *, in_flight: int = 128
    ) -> None:
        self.target = target
        self.model_name = target.name
        self._connection = Connection(connect)
        self.usage = self._connection.usage
        self._store = store
        self.max_in_flight = in_flight
        self._slots = Slots(in_flight)
        self._pending: dict[str, asyncio.Future[dict[str, Any] | Unscored]] = {}
        self._features: frozenset[str] | None = None

    @property
    def has_logprob_token_ids(self) -> bool:
        """Whether the server supports ``logprob_token_ids``; known after ``detect_features``."""
        return "logprob_token_ids" in (self._features or ())

    @property
    def scores_continuations(self) -> bool:
        """Whether the server has evalsuite's scoring endpoint; known after ``detect_features``."""
        return "continuations" in (self._features or ())

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer; raises UsageError without a local tokenizer."""
        if self.target.chat_format is None:
            raise UsageError(
                f"no local tokenizer for {self.target.name}; give its checkpoint folder as MODEL and the server as "
                "--base-url"
            )
        return self.target.chat_format.tokenizer

    @property
    def named_format(self) -> ChatFormat | None:
        """The chat template that the user named and the tokenizer does not have, or None."""
        chat_format = self.target.chat_format
        return chat_format if chat_format is not None and chat_format.named else None

    @property
    def max_model_len(self) -> int:
        if self.target.max_model_len is None:
            raise UsageError(f"context length of {self.target.name} unknown; pass --max-model-len")
        return self.target.max_model_len

    async def close(self) -> None:
        await self._connection.close()

    def reconnect(self) -> None:
        """Drop the connection; the next request connects again."""
        self._connection.reconnect()

    async def detect_features(self) -> None:
        """Detect the server's features by probing; the store caches them for managed servers."""
        if self._features is not None:
            return
        if self.target.chat_format is None:
            self._features = frozenset()
            return
        settings = {"max_tokens": 1, "temperature": 0, "logprobs": 1, "return_tokens_as_token_ids": True}
        # Long enough for the prefix cache, and with more first tokens than vLLM allows by default.
        context = [0] * min(_PROBE_CONTEXT_TOKENS, (self.target.max_model_len or _PROBE_CONTEXT_TOKENS) // 2)
        continuations = [(first,) for first in range(_PROBE_FIRST_TOKENS)] + [(0, 1)]
        probes: dict[str, tuple[str, dict[str, Any], Reader]] = {
            "logprob_token_ids": (
                "/completions",
                {"prompt": [0], "logprob_token_ids": list(FEATURE_IDS), **settings},
                read_features,
            ),
            "continuations": (
                _SCORING,
                {"context": context, "continuations": [list(tokens) for tokens in continuations]},
                lambda raw: {"has": not isinstance(read_continuations(raw, continuations), Unscored)},
            ),
        }
        self._features = frozenset([name for name, probe in probes.items() if await self._has(name, *probe)])

    async def _has(self, name: str, path: str, body: dict[str, Any], read: Reader) -> bool:
        """Return whether the server answers a probe; the result is stored for a managed server."""
        question = {"kind": f"feature {name}", "model": dict(self.target.identity), "server": self.target.server}
        # An external server may be replaced at the same URL; a managed one is determined by its version.
        key = content_key(question) if self.target.is_managed else None
        if key is not None and (stored := self._store.get(key)) is not None:
            return bool(stored["has"])
        async with self._slots.slot():
            try:
                raw = await self._connection.exchange(path, body)
            except RetryableError as error:
                await self._connection.require_answers(error)
                return False  # possibly temporary, so it is not stored
        answer = raw if isinstance(raw, Unscored) else read_safely(read, raw)
        has = not isinstance(answer, Unscored) and bool(answer["has"])
        if key is not None:
            self._store.put(key, {"has": has})
        return has

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None = None
    ) -> Completion | Unscored:
        """Answer a conversation; a final assistant turn is continued. Later turns have priority."""
        if self.target.chat_format is None:
            return await self._remote_chat(messages, sampling, guide)
        prompt = self.target.chat_format.prompt_tokens(messages)
        stop = self.target.chat_format.stop
        return await self.complete(prompt, sampling, guide=guide, stop=stop, depth=_depth(messages))

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> dict[str, float] | Unscored:
        """Return the raw log-probability of each label as the next token, as far as the server returns it."""
        await self.detect_features()
        if self.target.chat_format is None or not self.has_logprob_token_ids:
            return await self._remote_labels(messages, labels)
        prompt = self.target.chat_format.prompt_tokens(messages)
        ids = {label: _label_id(self.tokenizer, label) for label in labels}
        answer = await self.next_token_logprobs(prompt, list(ids.values()))
        if isinstance(answer, Unscored):
            return answer
        return {label: answer.logprobs[token] for label, token in ids.items()}

    async def complete(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        *,
        guide: Guide | None = None,
        stop: Sequence[str] = (),
        skip_special_tokens: bool = True,
        depth: int = 0,
    ) -> Completion | Unscored:
        """Continue ``prompt`` (token ids); shortens the answer, never the prompt, to fit the context.

        ``depth`` is the number of answers in the prompt; deeper requests have priority (``Slots``).
        """
        available = self.max_model_len - len(prompt)
        if available < 1:
            return self._too_long(len(prompt))
        body = {
            "prompt": list(prompt),
            "max_tokens": min(sampling.max_new_tokens, available),
            "stop": [*sampling.stop, *stop],
            "skip_special_tokens": skip_special_tokens,
            **self._sampling_fields(sampling),
            **_guide_fields(guide),
            # 0 alternatives: only the log-probability of the chosen token.
            **({"logprobs": 0} if sampling.logprobs else {}),
        }
        reply = await self._cached("complete", "/completions", body, read_completion, depth)
        return reply if isinstance(reply, Unscored) else Completion(**reply)

    async def next_token_logprobs(self, prompt: Sequence[int], ids: Sequence[int]) -> NextToken | Unscored:
        """Return the raw log-probabilities of ``ids`` (at most 128) as the next token, and the greedy token.

        Costs one prefill, with the prefix cache, and one decoded token.
        """
        if len(prompt) >= self.max_model_len:
            return self._too_long(len(prompt))
        body = {
            "prompt": list(prompt),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": sorted(set(ids)),
            "return_tokens_as_token_ids": True,
            **_NEUTRAL,
        }
        reply = await self._cached("next", "/completions", body, read_next_token)
        if isinstance(reply, Unscored):
            return reply
        logprobs = {int(token): float(value) for token, value in reply["logprobs"].items()}
        if missing := [token for token in ids if token not in logprobs]:
            return Unscored("malformed_reply", f"no log-probability for {len(missing)} of the requested tokens")
        top = int(reply["top_id"])
        return NextToken({token: logprobs[token] for token in ids}, top, logprobs.get(top))

    async def continuation_steps(
        self, context: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[list[tuple[float, bool]]] | Unscored:
        """Return (log-probability, is the most likely) of each token of each continuation of ``context``.

        One request to evalsuite's endpoint in the server (``scoring_endpoint``). No continuation is
        empty; they begin with at most 128 different tokens.
        """
        longest = len(context) + max(map(len, continuations))
        if longest >= self.max_model_len:
            return self._too_long(longest)
        body = {"context": list(context), "continuations": [list(tokens) for tokens in continuations]}
        reply = await self._cached("continuations", _SCORING, body, lambda raw: read_continuations(raw, continuations))
        if isinstance(reply, Unscored):
            return reply
        return [[(float(value), bool(greedy)) for value, greedy in steps] for steps in reply["steps"]]

    async def prompt_logprobs(self, tokens: Sequence[int], start: int) -> list[tuple[float, bool]] | Unscored:
        """Return (log-probability, is the most likely) of each token from position ``start`` on.

        The standard request, which computes every position and skips the prefix cache: for rolling
        likelihoods, and for servers without ``logprob_token_ids``. It also requests the most likely
        token, because an equally likely one has rank 2.
        """
        if len(tokens) >= self.max_model_len:
            return self._too_long(len(tokens))
        body = {"prompt": list(tokens), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1, **_NEUTRAL}
        reply = await self._cached("prompt", "/completions", body, lambda raw: read_prompt_logprobs(raw, tokens))
        if isinstance(reply, Unscored):
            return reply
        return [(float(value), bool(greedy)) for value, greedy in reply["tokens"][start:]]

    def _too_long(self, n_tokens: int) -> Unscored:
        return Unscored("context_length", f"{n_tokens} tokens exceed the context length {self.max_model_len}")

    def _sampling_fields(self, sampling: Sampling) -> dict[str, Any]:
        """Return all sampling settings, with the checkpoint's where ``sampling`` leaves one to it."""
        fields: dict[str, Any] = dict(_NEUTRAL)
        defaults = self.target.generation
        if sampling.temperature is not None:
            fields |= {"temperature": sampling.temperature, "top_p": sampling.top_p or 1.0}
            if sampling.top_k is not None:
                fields["top_k"] = sampling.top_k
        elif defaults is None:
            # An external server applies the model's settings itself.
            fields = {}
        else:
            fields |= {"temperature": 0, "repetition_penalty": defaults.get("repetition_penalty", 1.0)}
            if defaults.get("do_sample"):
                fields |= {"temperature": defaults.get("temperature", 1.0), "top_p": defaults.get("top_p", 1.0)}
                fields["top_k"] = defaults.get("top_k", _HF_DEFAULT_TOP_K)
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
        if sampling.logprobs:
            body["logprobs"] = True
        if messages and messages[-1].role == "assistant":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        reply = await self._cached("chat", "/chat/completions", body, read_chat, _depth(messages))
        return reply if isinstance(reply, Unscored) else Completion(**reply)

    async def _remote_labels(self, messages: Sequence[Message], labels: Sequence[str]) -> dict[str, float] | Unscored:
        """Read the labels from the top log-probabilities; a label that is not among them is absent."""
        body: dict[str, Any] = {
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": 1,
            "temperature": 1,
            "logprobs": True,
            "top_logprobs": _TOP_LOGPROBS,
        }
        reply = await self._cached("labels", "/chat/completions", body, read_top_logprobs)
        if isinstance(reply, Unscored):
            return reply
        return {label: float(value) for label, value in reply["top"].items() if label in labels}

    async def _cached(
        self, kind: str, path: str, body: dict[str, Any], read: Reader, depth: int = 0
    ) -> dict[str, Any] | Unscored:
        """Answer from the store, from an identical request in flight, or from the server."""
        key = content_key({"kind": kind, "model": dict(self.target.identity), "question": body})
        if (stored := self._store.get(key)) is not None:
            return stored
        while (pending := self._pending.get(key)) is not None:
            try:
                return await asyncio.shield(pending)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not pending.cancelled() or (task is not None and task.cancelling()):
                    raise
                # The other request was cancelled, but this one was not.
        future = asyncio.get_running_loop().create_future()
        self._pending[key] = future
        try:
            answer = await self._ask_once(key, path, body, read, depth)
            future.set_result(answer)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except BaseException as error:
            future.set_exception(error)
            # Retrieve the exception, as no other request may be waiting for the future.
            future.exception()
            raise
        finally:
            del self._pending[key]
        return answer

    async def _ask_once(
        self, key: str, path: str, body: dict[str, Any], read: Reader, depth: int
    ) -> dict[str, Any] | Unscored:
        """Send the request, unless another process that shares the store has: then wait for its answer."""
        pause_s, max_pause_s = _POLL_S
        while True:
            async with self._slots.slot(depth):
                if self._store.claim(key):
                    try:
                        # Another process may have answered it while this one waited for a slot.
                        if (stored := self._store.get(key)) is not None:
                            return stored
                        raw = await self._connection.ask(path, body, depth)
                        answer = raw if isinstance(raw, Unscored) else read_safely(read, raw)
                        if not isinstance(answer, Unscored):
                            self._store.put(key, answer)
                        return answer
                    finally:
                        self._store.release(key)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, max_pause_s)


def _depth(messages: Sequence[Message]) -> int:
    """Return the number of answers in a conversation."""
    return sum(message.role == "assistant" for message in messages)


def _label_id(tokenizer: Any, label: str) -> int:
    """Return the id of the single token of ``label`` at the start of an answer."""
    ids = tokenizer.encode(label, add_special_tokens=False)
    if len(ids) != 1:
        # Some tokenizers prepend a word boundary marker; look up the bare letter.
        bare = tokenizer.convert_tokens_to_ids(label)
        ids = [] if bare is None or bare == tokenizer.unk_token_id else [bare]
    if len(ids) != 1:
        raise UsageError(f"the judge's tokenizer has no single token for {label!r}; use another judge")
    return int(ids[0])


def _guide_fields(guide: Guide | None) -> dict[str, Any]:
    if guide is None:
        return {}
    return {"structured_outputs": {"choice": list(guide.choice)} if guide.choice else {"regex": guide.regex}}
