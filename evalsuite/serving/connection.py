"""The connection of a client: lazy, in the server's dialect, at its pace, with retries, and an error for a dead one."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evalsuite.errors import BusyError, DeniedError, EvalsuiteError, ServerError
from evalsuite.serving.dialect import Dialect, words_of
from evalsuite.serving.known_servers import QUESTIONS, Known, learned
from evalsuite.serving.pace import Pace, wait_of
from evalsuite.serving.replies import Reader, begun_text, read_safely, token_counts
from evalsuite.serving.told import Told
from evalsuite.serving.wire import (
    Endpoint,
    RefusedError,
    RetryableError,
    StallDetector,
    is_reachable,
    is_same_model,
    post,
)
from judges.types import Unscored

if TYPE_CHECKING:
    from evalsuite.serving.transport import Transport

_ATTEMPTS = 6
_MAX_WAIT_S = 20.0
_UNANSWERED_LIMIT = 8
"""After this many requests in a row without a reply, the server is considered dead."""
_FIRST_ALONE_S = 5.0
"""An external server's first question goes alone for this long: what it refuses is then refused once, not 64 times."""
_CHAT = "/chat/completions"


@dataclass(slots=True)
class Usage:
    """Requests and tokens of a client so far, without answers from the store."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0


class Connection:
    """A connection to one server; ``connect`` is its endpoint, or is awaited for it at the first request."""

    def __init__(self, connect: Callable[[], Awaitable[Endpoint]] | Endpoint) -> None:
        self.usage = Usage()
        self.dialect = Dialect()
        self.told: Told | None = None
        self._connect = connect
        self._connecting = asyncio.Lock()
        self._line: _Line | None = None
        self._retired: list[Transport] = []
        self._stalls = StallDetector()
        self._unanswered_in_a_row = 0
        self._first_sent_at: float | None = None
        self._first_is_settled = asyncio.Event()
        self._streams = False
        self.last_answer_at = 0.0
        """When the server last answered anything, on the monotonic clock."""
        self._known = Known()

    async def close(self) -> None:
        for transport in (*self._retired, *([self._line.transport] if self._line is not None else ())):
            await transport.close()
        self._retired.clear()

    def reconnect(self) -> None:
        """Drop the connection; the next request connects again."""
        if self._line is not None:
            # Closed later with the client, because this is not called on the event loop.
            self._retired.append(self._line.transport)
        self._line = None

    def document(self) -> dict[str, Any]:
        """Return what the manifest keeps of an external server; nothing for a managed one, or if nothing was asked."""
        if self.told is None:
            return {}
        asked = {"dialect": self.dialect.name, "left_out": dict(self.dialect.refused)}
        return {"server": {**self.told.document(), **asked}}

    async def ask(self, path: str, body: dict[str, Any], read: Reader, depth: int = 0) -> dict[str, Any] | Unscored:
        """Send one request and read the reply; a failure after all retries is Unscored.

        Deeper requests get a higher priority if the server supports it. Raises ServerError for a dead server, and for
        one whose first replies are all useless in the same way.
        """
        try:
            reply = await self.exchange(path, body, depth)
        except RetryableError as error:
            await self.require_answers(error)
            reply = Unscored(error.reason, str(error))
        answer = reply if isinstance(reply, Unscored) else read_safely(read, reply)
        if self.told is not None:
            if isinstance(answer, Unscored):
                self.told.failed(answer)
            else:
                self.told.answered += 1
        return answer

    async def exchange(self, path: str, body: dict[str, Any], depth: int = 0) -> dict[str, Any] | Unscored:
        """Send one request with retries; raises the last RetryableError, and ServerError for a server that hangs."""
        line = await self._server()
        if depth and line.endpoint.takes_priority:
            body = {**body, "priority": -depth}
        if path == _CHAT and not line.endpoint.is_managed:
            return await self._negotiated(line, body)
        try:
            return await self._sent(line, path, {**body, **line.endpoint.extra_body})
        except RefusedError as error:
            return error.unscored()

    async def _negotiated(self, line: _Line, body: dict[str, Any]) -> dict[str, Any] | Unscored:
        """Ask an external server in its dialect, and again where it refuses a field or ignores a guide."""
        is_first = await self._is_first()
        try:
            while True:
                put = self.dialect.put(body)
                if isinstance(put, Unscored):
                    return put
                sent = {**put, **line.endpoint.extra_body}
                try:
                    reply = await self._sent(line, _CHAT, sent)
                except RefusedError as error:
                    failure = error.unscored()
                    if failure.reason != "request_failed":
                        return failure
                    if names := self.dialect.learn(error.status, str(error), sent | self._stream_fields(sent)):
                        line.endpoint.note(f"{line.name} refuses {', '.join(names)}: {words_of(str(error))}")
                    # What it refuses may have been learned from another question meanwhile.
                    if self.dialect.put(body) == put and not names:
                        return failure
                else:
                    read = reply if isinstance(reply, Unscored) else self.dialect.read(body, put, reply)
                    if read is not None:
                        return read
                    line.endpoint.note(f"{line.name} ignores guided output; it is asked in another form")
                if is_first:
                    self._first_sent_at = time.monotonic()
        finally:
            if is_first:
                self._first_is_settled.set()

    async def _is_first(self) -> bool:
        """Return whether this is the server's first question; others wait for a while until it is answered."""
        if self._first_sent_at is None:
            self._first_sent_at = time.monotonic()
            return True
        while (
            not self._first_is_settled.is_set()
            and (left_s := self._first_sent_at + _FIRST_ALONE_S - time.monotonic()) > 0
        ):
            # Not wait_for, which loses a cancellation that comes with the event (Python 3.11).
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._first_is_settled.wait()
        return False

    def _stream_fields(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what asks for a streamed answer, where a gateway may cut a silent connection."""
        if not self._streams or "stream" in self.dialect.refused or "top_logprobs" in body:
            return {}
        return {"stream": True, "stream_options": {"include_usage": True}}

    async def _sent(self, line: _Line, path: str, body: dict[str, Any]) -> dict[str, Any] | Unscored:
        """Send one request, in six attempts at most; a rate limit is waited out.

        A rate limit ends the patience if the server has answered nothing at all for so long: BusyError.
        """
        patience_s, attempt, failed_at = line.endpoint.limits.patience_s, 0, 0.0
        while True:
            attempt += 1
            try:
                return await self._sent_once(line, path, body)
            except RetryableError as error:
                failed_at = failed_at or time.monotonic()
                # A timeout is an hour, so it is not retried.
                if error.reason == "timeout" or (attempt >= _ATTEMPTS and not error.is_rate_limit):
                    raise
                silent_s = time.monotonic() - max(failed_at, self.last_answer_at)
                if error.is_rate_limit and silent_s + (error.wait_s or 0.0) > patience_s:
                    options = "--patience; --judge-patience for a judge"
                    waited = f"did not answer within {patience_s:.0f} s of patience ({options})"
                    again = "run again later, finished answers are kept"
                    raise BusyError(f"{line.name} {waited}: {error}; {again}") from error
                self.usage.retries += 1
                if self.told is not None:
                    self.told.refused("tried again", str(error))
                # After a wait that the server asked for, which the pace keeps for all requests, no backoff is needed.
                pause_s = _backoff_s(attempt) if error.wait_s is None else 0.0
            await asyncio.sleep(pause_s)

    async def _sent_once(self, line: _Line, path: str, body: dict[str, Any]) -> dict[str, Any] | Unscored:
        if line.pace is None:
            return self._counted(line, await self._post_monitored(line, path, body))
        try:
            return await self._sent_in_turn(line, line.pace, path, body)
        except (BusyError, DeniedError) as error:
            await line.pace.refused(error)
            raise

    async def _sent_in_turn(
        self, line: _Line, pace: Pace, path: str, body: dict[str, Any]
    ) -> dict[str, Any] | Unscored:
        async with pace.spending(body) as spent:
            await pace.wait()
            streamed = body | self._stream_fields(body) if path == _CHAT else body
            try:
                reply = self._counted(line, await self._post_monitored(line, path, streamed))
            except RetryableError as error:
                pace.hold(error.wait_s)
                self._streams |= error.too_silent
                raise
            if not isinstance(reply, Unscored):
                spent(sum(token_counts(reply)[:2]))
                pace.answered()
            return reply

    def _counted(self, line: _Line, reply: dict[str, Any] | Unscored) -> dict[str, Any] | Unscored:
        """Count a reply; raises RetryableError for one of another model."""
        if isinstance(reply, Unscored):
            return reply
        self._check_model(line, reply)
        self._unanswered_in_a_row = 0
        self.last_answer_at = time.monotonic()
        prompt_tokens, completion_tokens, cached_tokens = token_counts(reply)
        self.usage.requests += 1
        self.usage.prompt_tokens += prompt_tokens
        self.usage.completion_tokens += completion_tokens
        self.usage.cached_tokens += cached_tokens
        line.endpoint.answered(completion_tokens)
        return reply

    def _check_model(self, line: _Line, reply: dict[str, Any]) -> None:
        """Accept the name under which an external server answers, as long as it stays the same."""
        asked, told, replied = line.endpoint.model_name, self.told, reply.get("model")
        named = str(replied)[:100] if replied else None
        if told is None:
            if not is_same_model(asked, replied):
                raise RetryableError(f"requested {asked}, but {named!r} replied", "wrong_model")
            return
        if named is not None and told.model is None:
            told.model = named
            if not is_same_model(asked, named):
                told.note(f"{line.name} answers as {named!r}; it is recorded in the manifest")
        if named not in (None, told.model):
            raise RetryableError(f"{told.model!r} replied to {asked} first, and now {named!r}", "wrong_model")
        if isinstance(fingerprint := reply.get("system_fingerprint"), str):
            told.fingerprints[fingerprint] = told.fingerprints.get(fingerprint, 0) + 1

    async def _post_monitored(self, line: _Line, path: str, body: dict[str, Any]) -> dict[str, Any] | Unscored:
        """Send one request and check meanwhile that the server does not hang."""
        with self._stalls.pending():
            request = asyncio.ensure_future(post(line.transport, line.endpoint, path, body))
            try:
                while not (await asyncio.wait({request}, timeout=self._stalls.check_every_s))[0]:
                    await self._stalls.check(line.endpoint)
                reply = request.result()
                self._stalls.record_progress()
                return reply
            finally:
                request.cancel()

    async def require_answers(self, error: RetryableError) -> None:
        """Raise ServerError if ``error`` means that the server is dead rather than that one request failed."""
        endpoint = (await self._server()).endpoint
        if not error.unanswered:
            return
        if not await is_reachable(endpoint):
            raise ServerError(
                f"no response from {endpoint.display_url} ({error}); check that the server is up"
            ) from error
        self._unanswered_in_a_row += 1
        if self._unanswered_in_a_row >= _UNANSWERED_LIMIT:
            raise ServerError(
                f"{endpoint.display_url} is up but did not reply to {_UNANSWERED_LIMIT} requests in a row ({error})"
            ) from error

    def _recall(self, known: Known) -> None:
        """Ask as an earlier run learned to."""
        self._known = known
        if self.told is not None and known.is_fresh and known.refused:
            self.dialect.refused |= known.refused
            self.dialect.caps |= known.caps
            self.told.note(
                f"{self.told.server} is known to refuse {', '.join(sorted(known.refused))} (since {known.learned_on}); "
                "evalsuite doctor probes it again"
            )

    def learned(self) -> dict[str, Known]:
        """Return what is known now of an external server, by its name; nothing if it has answered nothing."""
        if self.told is None or not self.told.answered:
            return {}
        known = learned(self._known, self.dialect.refused, self.dialect.caps, self.told.document())
        return {self.told.server: known}

    async def look_for_drift(self) -> None:
        """Ask an external server that answers a few fixed questions, once, and note in what it has changed."""
        told = self.told
        if told is None or not told.answered or told.greedy is not None:
            return
        # Where a temperature is refused no answer is greedy.
        asked = () if "temperature" in self.dialect.refused else QUESTIONS
        bodies = [
            {"messages": [{"role": "user", "content": text}], "max_tokens": 16, "temperature": 0, "seed": seed}
            for text in asked
            for seed in (0, 1)
        ]
        requests = [asyncio.ensure_future(self.exchange(_CHAT, body)) for body in bodies]
        try:
            replies = await asyncio.gather(*requests)
        except (EvalsuiteError, RetryableError):
            # What is measured is the run; a server that no longer answers says so there.
            return
        finally:
            # The others would go on asking, on a connection that is about to be closed.
            for request in requests:
                request.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
        is_greedy = "temperature" not in self.dialect.refused
        texts = [begun_text(reply) if is_greedy and not isinstance(reply, Unscored) else "" for reply in replies]
        told.greedy = [sorted({text for text in pair if text}) for pair in zip(texts[::2], texts[1::2], strict=True)]
        told.changed = self._known.drift(told.greedy, list(told.fingerprints))
        if told.changed is not None:
            told.note(
                f"warning: {told.server}: {told.changed}; it may have other weights or software; --ask-again asks "
                f"everything again, and evalsuite forget {told.server.partition('@')[0]} deletes its stored answers"
            )

    async def _server(self) -> _Line:
        """Return the line to the server, connecting first if needed."""
        async with self._connecting:
            if self._line is None:
                endpoint = self._connect if isinstance(self._connect, Endpoint) else await self._connect()
                from evalsuite.serving.transport import Transport

                transport = Transport(endpoint.base_url, endpoint.api_key, is_managed=endpoint.is_managed)
                pace = None if endpoint.is_managed else Pace(endpoint.limits, endpoint.note)
                self._line = _Line(transport, endpoint, pace)
                if pace is not None:
                    if self.told is None:
                        self.told = Told(self._line.name, endpoint.note)
                        self._recall(endpoint.known)
                    self._streams |= endpoint.base_url.startswith("https:")
                    transport.on_headers = lambda headers: pace.hold(wait_of(headers, refused=False))
            return self._line


@dataclass(frozen=True, slots=True)
class _Line:
    """A server with the transport to it and, if it is external, the pace of asking it."""

    transport: Transport
    endpoint: Endpoint
    pace: Pace | None

    @property
    def name(self) -> str:
        return f"{self.endpoint.model_name}@{self.endpoint.display_url}"


def _backoff_s(attempt: int) -> float:
    """Return a random pause that grows with the attempts, so that requests which failed together are spread."""
    return random.uniform(0.0, min(_MAX_WAIT_S, 0.5 * 2.0 ** min(attempt - 1, 9)))
