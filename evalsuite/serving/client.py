"""The asynchronous client for everything that shares a server.

It limits the number of requests in flight, looks up answers in the store before sending a request, and
saves an answer before returning it. It distinguishes three kinds of failure: a busy server (wait and
retry), a dead one (``ServerError``: the run stops and can be resumed) and a bad request (``Unscored``: the
item is counted and the run continues).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

from evalsuite.errors import UsageError
from evalsuite.serving.bodies import NEUTRAL, depth_of, guide_fields, sampling_fields
from evalsuite.serving.chat_format import ChatFormat
from evalsuite.serving.connection import Connection
from evalsuite.serving.continuations import NextToken, next_token_of
from evalsuite.serving.label_tokens import by_text, label_tokens
from evalsuite.serving.reasoning import NO_REASONING, Reasoning
from evalsuite.serving.remote import RemoteChat
from evalsuite.serving.replies import (
    FEATURE_IDS,
    Reader,
    read_completion,
    read_continuations,
    read_features,
    read_generated,
    read_next_token,
    read_prompt_logprobs,
    read_safely,
)
from evalsuite.serving.requests import Completion, Guide, LabelLogprobs, Sampling
from evalsuite.serving.rewards import CLASSIFY, POOLING, read_reward, reward_body
from evalsuite.serving.slots import Slots
from evalsuite.serving.spread import Spread
from evalsuite.serving.thinking import Generated, answer, think
from evalsuite.serving.wire import Endpoint, RetryableError
from evalsuite.store import ANSWERED_BY, AnswerStore, content_key, model_mark
from judges.types import Message, Unscored

_POLL_S = (0.05, 1.0)
"""The initial and the maximum interval of polling for an answer that another process has requested."""
_PROBE_CONTEXT_TOKENS = 64
_PROBE_FIRST_TOKENS = 24
_SCORING = "/evalsuite/loglikelihoods"


@dataclass(frozen=True, slots=True)
class Target:
    """The model that a client queries, and its identity in the store.

    ``identity`` is part of every key of the store: fingerprints of weights, tokenizer and template, and the dtype.
    ``generation`` are the checkpoint's sampling settings, used where a ``Sampling`` leaves a field to the model.
    ``chat_format`` is None without a local tokenizer: conversations then go to the server's chat endpoint. ``server``
    is the software version or the URL, and ``is_managed`` says whether this process starts the server. ``reasoning`` is
    how the model thinks. ``reward_path`` is where a reward model is asked, None where the server has to be tried.
    """

    name: str
    identity: Mapping[str, Any]
    max_model_len: int | None = None
    chat_format: ChatFormat | None = None
    generation: Mapping[str, Any] | None = None
    server: str = ""
    is_managed: bool = False
    reasoning: Reasoning = NO_REASONING
    reward_path: str | None = None


class Client:
    """Implements ``Chat`` and the token-level requests of the harness for one model.

    ``connect`` is awaited at the first request that the store cannot answer, so a run with all answers
    in the store starts no server; instead of it, several running servers of the model.
    """

    def __init__(
        self,
        target: Target,
        connect: Callable[[], Awaitable[Endpoint]] | Sequence[Endpoint],
        store: AnswerStore,
        *,
        in_flight: int = 128,
    ) -> None:
        self.target = target
        self.model_name = target.name
        self.generation, self.reasoning = target.generation, target.reasoning
        self._connection = Connection(connect) if callable(connect) else Spread(connect)
        self.usage = self._connection.usage
        self.learned, self.look_for_drift = self._connection.learned, self._connection.look_for_drift
        self.close, self.reconnect = self._connection.close, self._connection.reconnect
        self._store = store
        self._mark = {ANSWERED_BY: model_mark(target.identity.get("weights"))}
        self.max_in_flight = in_flight
        self._slots = Slots(in_flight)
        self._pending: dict[str, asyncio.Future[dict[str, Any] | Unscored]] = {}
        self._features: frozenset[str] | None = None
        self._reward_path, self._trying = target.reward_path, asyncio.Lock()
        self._remote = RemoteChat(self._cached, self.reasoning, self.generation)

    def with_reasoning(self, reasoning: Reasoning) -> Client:
        """Return a client of the same server whose requests use other thinking settings."""
        other = copy(self)
        other.reasoning = reasoning
        other._remote = RemoteChat(other._cached, reasoning, self.generation)
        return other

    @property
    def has_logprob_token_ids(self) -> bool:
        """Whether the server returns log-probabilities of chosen tokens; known after ``detect_features``."""
        return bool({"logprob_token_ids", "continuations"} & (self._features or frozenset()))

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

    @property
    def server_told(self) -> Mapping[str, Any]:
        """What an external server reported about itself, under "server", for the manifest; empty for a managed one."""
        return self._connection.document()

    def refusals(self) -> list[str]:
        """Return a line per kind of refusal that an external server gave more than once."""
        return [] if self._connection.told is None else self._connection.told.counted()

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
                lambda raw: read_continuations(raw, continuations),
            ),
        }
        self._features = frozenset([name for name, probe in probes.items() if await self._has(name, *probe)])

    async def _has(self, name: str, path: str, body: dict[str, Any], read: Reader) -> bool:
        """Return whether the server answers a probe as ``read`` expects; the result is stored for a managed server."""
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
        has = not isinstance(answer, Unscored) and bool(answer.get("has", True))
        if key is not None:
            self._store.put(key, {"has": has})
        return has

    async def chat(
        self, messages: Sequence[Message], sampling: Sampling, guide: Guide | None = None
    ) -> Completion | Unscored:
        """Answer a conversation; a final assistant turn is continued. Later turns have priority."""
        if self.target.chat_format is None:
            return await self._remote.chat(messages, sampling, guide)
        stop, depth = self.target.chat_format.stop, depth_of(messages)
        if messages and messages[-1].role == "assistant":
            return await self.complete(self._open_prompt(messages), sampling, guide=guide, stop=stop, depth=depth)
        return await answer(self, self._prompt(messages), sampling, guide=guide, stop=stop, depth=depth)

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt that the model thinks behind, or answers, as it has it."""
        chat_format = (self.reasoning.on if self.reasoning.thinks else self.reasoning.off) or self.target.chat_format
        if chat_format is None:
            raise UsageError(f"no local tokenizer for {self.target.name}")
        return chat_format.prompt_tokens(messages)

    def _open_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt for an answer that is to be continued, after the thought that it has."""
        reasoning, thought = self.reasoning, messages[-1].thought
        if reasoning.thinks and reasoning.on is not None and (thought is not None or not reasoning.is_opened):
            around = (reasoning.opening * (not reasoning.is_opened), reasoning.closing)
            return reasoning.on.open_turn_tokens(messages, around)
        chat_format = reasoning.off or self.target.chat_format
        return [] if chat_format is None else chat_format.prompt_tokens(messages)

    async def label_logprobs(
        self, messages: Sequence[Message], labels: Sequence[str], spellings: Sequence[str] = ()
    ) -> dict[str, float] | Unscored:
        """Return the raw log-probability of each label as the answer's first token, as far as the server returns it.

        A model that thinks is asked after its thought.
        """
        await self.detect_features()
        if self.target.chat_format is None or not self.has_logprob_token_ids:
            return await self._remote.label_logprobs(messages, labels, spellings)
        prompt: Sequence[int] = self._prompt(messages)
        thought = await think(self, prompt, Sampling(1), depth_of(messages)) if self.reasoning.thinks else None
        if isinstance(thought, Unscored):
            return thought
        if thought is not None:
            prompt = thought.context + thought.separator
        ids = label_tokens(self.tokenizer, labels, spellings)
        logprobs = await self.next_token_logprobs(prompt, list(ids))
        if isinstance(logprobs, Unscored):
            return logprobs
        found = LabelLogprobs(by_text(ids, logprobs.logprobs))
        found.thought = None if thought is None else thought.text
        return found

    async def reward(self, messages: Sequence[Message]) -> float | Unscored:
        """Return a reward model's score of a conversation, written in its own chat template; any finite number.

        Raises UsageError for a server without a reward model.
        """
        if (path := self._reward_path or await self._found_reward_path()) is None:
            raise UsageError(
                f"{self.target.server} returns no score of a conversation at {CLASSIFY} or {POOLING}; serve a reward "
                "model there (vllm serve MODEL --runner pooling), or leave out --judge-kind reward"
            )
        chat_format = self.target.chat_format
        tokens = None if chat_format is None else chat_format.conversation_tokens(messages)
        if tokens is not None and len(tokens) > self.max_model_len:
            return self._too_long(len(tokens))
        reply = await self._cached("reward", path, reward_body(messages, tokens), read_reward)
        return reply if isinstance(reply, Unscored) else float(reply["score"])

    async def _found_reward_path(self) -> str | None:
        """Try where the server scores conversations, once for all that wait for it."""
        probe = reward_body([Message("user", "Hello"), Message("assistant", "Hello.")], None)
        async with self._trying:
            for path in () if self._reward_path else (CLASSIFY, POOLING):
                if await self._has(path, path, probe, read_reward):
                    self._reward_path = path
                    break
        return self._reward_path

    async def answer_prompt(
        self, prompt: Sequence[int], sampling: Sampling, *, skip_special_tokens: bool = True
    ) -> Completion | Unscored:
        """Answer a prompt in token ids that ends in the assistant's header, after a thought if the model has one."""
        return await answer(self, prompt, sampling, skip_special_tokens=skip_special_tokens)

    async def generate(
        self, prompt: Sequence[int], max_tokens: int, sampling: Sampling, stop: str, depth: int
    ) -> Generated | Unscored:
        """Generate tokens up to and including ``stop``; special tokens are part of the text."""
        body = {
            "prompt": list(prompt),
            "max_tokens": max_tokens,
            "stop": [stop],
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
            "return_token_ids": True,
            **sampling_fields(sampling, self.generation),
        }
        reply = await self._cached("thought", "/completions", body, read_generated, depth)
        if isinstance(reply, Unscored):
            return reply
        text, ids = reply["text"], reply["token_ids"]
        if ids is None:
            ids = self.tokenizer.encode(text, add_special_tokens=False)
        is_cut = reply["finish_reason"] == "length"
        return Generated(text, tuple(ids), is_cut, text.endswith(stop), reply["cached_tokens"])

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
            **sampling_fields(sampling, self.generation),
            **guide_fields(guide),
            # 0 alternatives: only the log-probability of the chosen token.
            **({"logprobs": 0} if sampling.logprobs else {}),
        }
        reply = await self._cached("complete", "/completions", body, read_completion, depth)
        return reply if isinstance(reply, Unscored) else Completion(**reply)

    async def next_token_logprobs(self, prompt: Sequence[int], ids: Sequence[int]) -> NextToken | Unscored:
        """Return the raw log-probabilities of ``ids`` (at most 128) as the next token, and the greedy token."""
        if len(prompt) >= self.max_model_len:
            return self._too_long(len(prompt))
        if self.scores_continuations and "logprob_token_ids" not in (self._features or ()):
            # vLLM 0.24 and 0.25 know the setting but not its field of a request.
            steps = await self.continuation_steps(prompt, [(token,) for token in ids])
            return steps if isinstance(steps, Unscored) else next_token_of(ids, steps)
        body = {
            "prompt": list(prompt),
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": sorted(set(ids)),
            "return_tokens_as_token_ids": True,
            **NEUTRAL,
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
        body = {"prompt": list(tokens), "max_tokens": 1, "temperature": 0, "prompt_logprobs": 1, **NEUTRAL}
        reply = await self._cached("prompt", "/completions", body, lambda raw: read_prompt_logprobs(raw, tokens))
        if isinstance(reply, Unscored):
            return reply
        return [(float(value), bool(greedy)) for value, greedy in reply["tokens"][start:]]

    def _too_long(self, n_tokens: int) -> Unscored:
        return Unscored("context_length", f"{n_tokens} tokens exceed the context length {self.max_model_len}")

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
                        answer = await self._connection.ask(path, body, read, depth)
                        if not isinstance(answer, Unscored):
                            self._store.put(key, answer | self._mark)
                        return answer
                    finally:
                        self._store.release(key)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, max_pause_s)
