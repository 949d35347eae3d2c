"""The connection of a client: started when first needed, patient with a busy server, done with a dead one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tenacity

from evalsuite.errors import ServerError
from evalsuite.serving.replies import token_counts
from evalsuite.serving.transport import LoopbackTransport, OpenAITransport, Transport
from evalsuite.serving.wire import Endpoint, Pulse, TryAgainError, listens, post
from judges.types import Unscored

_ATTEMPTS = 6
_MAX_WAIT_S = 20.0
_UNANSWERED_LIMIT = 8
"""So many questions in a row without any answer, and the server is given up, not the questions."""


@dataclass(slots=True)
class Usage:
    """What a client has asked for so far; answers from the store are not in it."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0


class Connection:
    """One server, by way of ``connect``, which is awaited at the first question: no question, no server."""

    def __init__(self, connect: Callable[[], Awaitable[Endpoint]]) -> None:
        self.usage = Usage()
        self._connect = connect
        self._connecting = asyncio.Lock()
        self._endpoint: Endpoint | None = None
        self._transport: Transport | None = None
        self._retired: list[Transport] = []
        self._pulse = Pulse()
        self._unanswered_in_a_row = 0

    async def close(self) -> None:
        for transport in (*self._retired, self._transport):
            if transport is not None:
                await transport.close()
        self._retired.clear()

    def reconnect(self) -> None:
        """Forget the connection: the next question starts the server anew."""
        if self._transport is not None:
            # Closed with the client: whoever notices a dead server does not stand on the event loop.
            self._retired.append(self._transport)
        self._transport = None
        self._endpoint = None

    async def ask(self, path: str, body: dict[str, Any], depth: int = 0) -> dict[str, Any] | Unscored:
        """Send one request; what did not pass with patience is Unscored, and a server that is gone a ServerError.

        A server that takes priorities is told to take the deepest question first.
        """
        try:
            return await self.exchange(path, body, depth)
        except TryAgainError as error:
            await self.require_answers(error)
            return Unscored(error.reason, str(error))

    async def exchange(self, path: str, body: dict[str, Any], depth: int = 0) -> dict[str, Any] | Unscored:
        """Send one request, with patience; raises the last TryAgainError, and ServerError for a server that hangs."""
        transport, endpoint = await self._server()
        if depth and endpoint.takes_priority:
            body = {**body, "priority": -depth}
        try:
            reply = await self._post_watched(transport, endpoint, path, body)
        except TryAgainError as error:
            reply = await self._post_again(error, transport, endpoint, path, body)
        if not isinstance(reply, Unscored):
            self._unanswered_in_a_row = 0
            self._count(reply)
        return reply

    async def _post_again(
        self, first: TryAgainError, transport: Transport, endpoint: Endpoint, path: str, body: dict[str, Any]
    ) -> dict[str, Any] | Unscored:
        """Go on after a first try that failed. Patience costs a tenth of a request, so only these pay for it."""
        failed = [first]

        async def attempt() -> dict[str, Any] | Unscored:
            if failed:
                raise failed.pop()
            return await self._post_watched(transport, endpoint, path, body)

        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=_MAX_WAIT_S),
            # What was late once has waited long enough for this run.
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, TryAgainError) and e.reason != "timeout"),
            before_sleep=self._count_retry,
            reraise=True,
        )
        reply: dict[str, Any] | Unscored = await retrying(attempt)
        return reply

    async def _post_watched(
        self, transport: Transport, endpoint: Endpoint, path: str, body: dict[str, Any]
    ) -> dict[str, Any] | Unscored:
        """Send one request and see meanwhile that the server works."""
        with self._pulse.waiting():
            asking = asyncio.ensure_future(post(transport, endpoint, path, body))
            try:
                while not (await asyncio.wait({asking}, timeout=self._pulse.look_every_s))[0]:
                    await self._pulse.check(endpoint)
                reply = asking.result()
                self._pulse.sign()
                return reply
            finally:
                asking.cancel()

    async def require_answers(self, error: TryAgainError) -> None:
        """Tell a question that its server cannot take from a server that is gone; raises ServerError for the latter."""
        _, endpoint = await self._server()
        if not error.unanswered:
            return
        if not await listens(endpoint):
            raise ServerError(f"{endpoint.shown} does not answer ({error}); is the server up?") from error
        self._unanswered_in_a_row += 1
        if self._unanswered_in_a_row >= _UNANSWERED_LIMIT:
            raise ServerError(
                f"{endpoint.shown} is up but does not answer: {self._unanswered_in_a_row} questions in a row were "
                f"left without a reply ({error})"
            ) from error

    async def _server(self) -> tuple[Transport, Endpoint]:
        """Return the connection, starting the server if this is the first question to reach it."""
        async with self._connecting:
            if self._transport is None or self._endpoint is None:
                self._endpoint = await self._connect()
                kind = LoopbackTransport if self._endpoint.is_ours else OpenAITransport
                self._transport = kind(self._endpoint.base_url, self._endpoint.api_key)
            return self._transport, self._endpoint

    def _count_retry(self, _: tenacity.RetryCallState) -> None:
        self.usage.retries += 1

    def _count(self, reply: Mapping[str, Any]) -> None:
        prompt_tokens, completion_tokens, cached_tokens = token_counts(reply)
        self.usage.requests += 1
        self.usage.prompt_tokens += prompt_tokens
        self.usage.completion_tokens += completion_tokens
        self.usage.cached_tokens += cached_tokens
