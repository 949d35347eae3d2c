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

from evalsuite.errors import UsageError
from evalsuite.serving.chat_format import ChatFormat
from evalsuite.serving.connection import Connection, Usage
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
from evalsuite.serving.wire import Endpoint, TryAgainError
from evalsuite.store import Memory, content_key
from judges.types import Message, Unscored

_ASKED_ELSEWHERE_S = (0.05, 1.0)
"""The shortest and the longest pause before looking again for an answer that another process waits for."""
_TOP_LOGPROBS = 20
_PROBE_CONTEXT_TOKENS = 64
_PROBE_FIRST_TOKENS = 24
_SCORING = "/evalsuite/loglikelihoods"
Reader = Callable[[dict[str, Any]], dict[str, Any] | Unscored]
_HF_DEFAULT_TOP_K = 50
_NEUTRAL = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sent with every request, so that no default of the server's or the checkpoint's slips in."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which model a client asks, and by which words its answers are remembered.

    ``identity`` goes into every key of the store: fingerprints of weights, tokenizer and
    template, and the dtype. ``generation`` are the checkpoint's own sampling settings, used
    where a ``Sampling`` leaves a field to the model. ``chat_format`` is None for a server whose
    tokenizer is out of sight: conversations then go to its chat endpoint. ``server`` says which
    software or URL answers, and ``is_ours`` whether this process starts it.
    """

    name: str
    identity: Mapping[str, Any]
    max_model_len: int | None = None
    chat_format: ChatFormat | None = None
    generation: Mapping[str, Any] | None = None
    server: str = ""
    is_ours: bool = False


class Client:
    """Implements ``Chat`` and the token-level questions of the harness for one model.

    The server is reached through ``connect``, which is awaited at the first question that the
    store cannot answer: a run whose answers are all remembered starts no server.
    """

    def __init__(
        self,
        target: Target,
        connect: Callable[[], Awaitable[Endpoint]],
        store: Memory,
        *,
        in_flight: int = 128,
    ) -> None:
        self.target = target
        self._connection = Connection(connect)
        self._store = store
        self._max_in_flight = in_flight
        self._slots = Slots(in_flight)
        self._pending: dict[str, asyncio.Future[dict[str, Any] | Unscored]] = {}
        self._features: frozenset[str] | None = None

    @property
    def model_name(self) -> str:
        return self.target.name

    @property
    def usage(self) -> Usage:
        """What was asked of the server so far; answers from the store are not in it."""
        return self._connection.usage

    @property
    def has_logprob_token_ids(self) -> bool:
        """Whether the server answers next-token questions by token id; known after ``detect_features``."""
        return "logprob_token_ids" in (self._features or ())

    @property
    def scores_continuations(self) -> bool:
        """Whether the server has evalsuite's own scoring endpoint; known after ``detect_features``."""
        return "continuations" in (self._features or ())

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer; raises UsageError for a server whose tokenizer is out of sight."""
        return self._format().tokenizer

    @property
    def max_in_flight(self) -> int:
        """The most requests that are with the server at once."""
        return self._max_in_flight

    @property
    def named_format(self) -> ChatFormat | None:
        """The conversation format that the user named and the tokenizer does not know of, None without one."""
        chat_format = self.target.chat_format
        return chat_format if chat_format is not None and chat_format.named else None

    @property
    def max_model_len(self) -> int:
        if self.target.max_model_len is None:
            raise UsageError(f"{self.target.name} does not tell its context length; pass --max-model-len")
        return self.target.max_model_len

    async def close(self) -> None:
        await self._connection.close()

    def reconnect(self) -> None:
        """Forget the connection: the next question starts the server anew."""
        self._connection.reconnect()

    async def detect_features(self) -> None:
        """Find out what the server can do by asking, not by its version; the store remembers it of our own."""
        if self._features is not None:
            return
        if self.target.chat_format is None:
            self._features = frozenset()
            return
        question = {"max_tokens": 1, "temperature": 0, "logprobs": 1, "return_tokens_as_token_ids": True}
        # Long enough for the prefix cache, and more first tokens than vLLM allows unless it is told to.
        context = [0] * min(_PROBE_CONTEXT_TOKENS, (self.target.max_model_len or _PROBE_CONTEXT_TOKENS) // 2)
        continuations = [(first,) for first in range(_PROBE_FIRST_TOKENS)] + [(0, 1)]
        probes: dict[str, tuple[str, dict[str, Any], Reader]] = {
            "logprob_token_ids": (
                "/completions",
                {"prompt": [0], "logprob_token_ids": list(FEATURE_IDS), **question},
                read_features,
            ),
            "continuations": (
                _SCORING,
                {"context": context, "continuations": [list(tokens) for tokens in continuations]},
                lambda raw: {"has": not isinstance(read_continuations(raw, continuations), Unscored)},
            ),
        }
        found = {name: await self._has(name, *probe) for name, probe in probes.items()}
        self._features = frozenset(name for name, has in found.items() if has)

    async def _has(self, name: str, path: str, body: dict[str, Any], read: Reader) -> bool:
        """Whether the server answers a probe; a refusal by a server of ours is an answer too and is remembered."""
        asked = {"kind": f"feature {name}", "model": dict(self.target.identity), "server": self.target.server}
        # Another server may stand at the same address tomorrow; one of ours can do what its version can.
        key = content_key(asked) if self.target.is_ours else None
        if key is not None and (known := self._store.get(key)) is not None:
            return bool(known["has"])
        async with self._slots.held():
            try:
                raw = await self._connection.exchange(path, body)
            except TryAgainError as error:
                await self._connection.require_answers(error)
                return False  # what may have been a bad moment is not remembered
        answer = raw if isinstance(raw, Unscored) else read_safely(read, raw)
        has = not isinstance(answer, Unscored) and bool(answer["has"])
        if key is not None:
            self._store.put(key, {"has": has})
        return has

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None = None
    ) -> Completion | Unscored:
        """Answer a conversation; an open assistant turn at the end is continued. Later turns go first."""
        if self.target.chat_format is None:
            return await self._remote_chat(messages, sampling, guide)
        prompt = self.target.chat_format.prompt_tokens(messages)
        return await self.complete(
            prompt, sampling, guide=guide, stop=self.target.chat_format.stop, depth=_depth(messages)
        )

    async def label_logprobs(self, messages: Sequence[Message], labels: Sequence[str]) -> dict[str, float] | Unscored:
        """Return the raw log-probability of each label as the next token; absent where the server hides it."""
        await self.detect_features()
        if self.target.chat_format is None or not self.has_logprob_token_ids:
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
        depth: int = 0,
    ) -> Completion | Unscored:
        """Continue ``prompt`` (token ids); shortens the answer, never the prompt, to fit the context.

        ``depth`` is how many answers the prompt goes on from: the deepest questions go first (``Slots``).
        """
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
            # No alternatives: the chosen token's own.
            **({"logprobs": 0} if sampling.logprobs else {}),
        }
        reply = await self._remembered("complete", "/completions", body, read_completion, depth)
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
        top = int(reply["top_id"])
        return NextToken({token: logprobs[token] for token in ids}, top, logprobs.get(top))

    async def continuation_steps(
        self, context: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[list[tuple[float, bool]]] | Unscored:
        """Return (log-probability, is it the likeliest) of each token of each continuation of ``context``.

        One request to evalsuite's own endpoint in the server (``scoring_endpoint``). No
        continuation is empty; they begin with at most 128 different tokens.
        """
        longest = len(context) + max(map(len, continuations))
        if longest >= self.max_model_len:
            return Unscored("context_length", f"{longest} tokens, the context holds {self.max_model_len}")
        body = {"context": list(context), "continuations": [list(tokens) for tokens in continuations]}
        reply = await self._remembered(
            "continuations", _SCORING, body, lambda raw: read_continuations(raw, continuations)
        )
        if isinstance(reply, Unscored):
            return reply
        return [[(float(value), bool(greedy)) for value, greedy in steps] for steps in reply["steps"]]

    async def prompt_logprobs(self, tokens: Sequence[int], start: int) -> list[tuple[float, bool]] | Unscored:
        """Return (log-probability, is it the likeliest) of each token from position ``start`` on.

        The ordinary way, which computes every position again and skips the prefix cache: for
        rolling likelihoods, and for servers without next-token questions. The likeliest token is
        asked for too, since one that is as likely has rank 2.
        """
        if len(tokens) >= self.max_model_len:
            return Unscored("context_length", f"{len(tokens)} tokens, the context holds {self.max_model_len}")
        body = {"prompt": list(tokens), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1, **_NEUTRAL}
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
        if sampling.logprobs:
            body["logprobs"] = True
        if messages and messages[-1].role == "assistant":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        reply = await self._remembered("chat", "/chat/completions", body, read_chat, _depth(messages))
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
        self, kind: str, path: str, body: dict[str, Any], read: Reader, depth: int = 0
    ) -> dict[str, Any] | Unscored:
        """Answer from the store, from the same question already under way, or from the server."""
        key = content_key({"kind": kind, "model": dict(self.target.identity), "question": body})
        if (known := self._store.get(key)) is not None:
            return known
        while (pending := self._pending.get(key)) is not None:
            try:
                return await asyncio.shield(pending)
            except asyncio.CancelledError:
                if not pending.cancelled() or _is_cancelled():
                    raise
                # Who asked was cancelled; this one still wants to know.
        future = asyncio.get_running_loop().create_future()
        self._pending[key] = future
        try:
            answer = await self._asked_once(key, path, body, read, depth)
            future.set_result(answer)
        except asyncio.CancelledError:
            future.cancel()
            raise
        except BaseException as error:
            future.set_exception(error)
            # Nobody may be waiting for the twin; then its exception is this one's alone.
            future.exception()
            raise
        finally:
            del self._pending[key]
        return answer

    async def _asked_once(
        self, key: str, path: str, body: dict[str, Any], read: Reader, depth: int
    ) -> dict[str, Any] | Unscored:
        """Ask the server, unless another process that shares the store does: then wait for its answer."""
        pause_s, longest_s = _ASKED_ELSEWHERE_S
        while True:
            async with self._slots.held(depth):
                if self._store.claim(key):
                    try:
                        # Waiting for a slot took its time: another process may have been here.
                        if (known := self._store.get(key)) is not None:
                            return known
                        raw = await self._connection.ask(path, body, depth)
                        answer = raw if isinstance(raw, Unscored) else read_safely(read, raw)
                        if not isinstance(answer, Unscored):
                            self._store.put(key, answer)
                        return answer
                    finally:
                        self._store.release(key)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _depth(messages: Sequence[Message]) -> int:
    """Count the answers that a conversation goes on from."""
    return sum(message.role == "assistant" for message in messages)


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
