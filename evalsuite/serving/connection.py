"""The connection of a client: lazy, with retries for a busy server and an error for a dead one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import tenacity

from evalsuite.errors import ServerError
from evalsuite.serving.replies import token_counts
from evalsuite.serving.transport import Transport
from evalsuite.serving.wire import Endpoint, RetryableError, StallDetector, is_reachable, post
from judges.types import Unscored

_ATTEMPTS = 6
_MAX_WAIT_S = 20.0
_UNANSWERED_LIMIT = 8
"""After this many requests in a row without a reply, the server is considered dead."""


@dataclass(slots=True)
class Usage:
    """Requests and tokens of a client so far, without answers from the store."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0


class Connection:
    """A connection to one server; ``connect`` is awaited at the first request."""

    def __init__(self, connect: Callable[[], Awaitable[Endpoint]]) -> None:
        self.usage = Usage()
        self._connect = connect
        self._connecting = asyncio.Lock()
        self._endpoint: Endpoint | None = None
        self._transport: Transport | None = None
        self._retired: list[Transport] = []
        self._stalls = StallDetector()
        self._unanswered_in_a_row = 0

    async def close(self) -> None:
        for transport in (*self._retired, self._transport):
            if transport is not None:
                await transport.close()
        self._retired.clear()

    def reconnect(self) -> None:
        """Drop the connection; the next request connects again."""
        if self._transport is not None:
            # Closed later with the client, because this is not called on the event loop.
            self._retired.append(self._transport)
        self._transport = None
        self._endpoint = None

    async def ask(self, path: str, body: dict[str, Any], depth: int = 0) -> dict[str, Any] | Unscored:
        """Send one request; a failure after all retries is Unscored, and a dead server raises ServerError.

        Deeper requests get a higher priority if the server supports it.
        """
        try:
            return await self.exchange(path, body, depth)
        except RetryableError as error:
            await self.require_answers(error)
            return Unscored(error.reason, str(error))

    async def exchange(self, path: str, body: dict[str, Any], depth: int = 0) -> dict[str, Any] | Unscored:
        """Send one request with retries; raises the last RetryableError, and ServerError for a server that hangs."""
        transport, endpoint = await self._server()
        if depth and endpoint.takes_priority:
            body = {**body, "priority": -depth}
        try:
            reply = await self._post_monitored(transport, endpoint, path, body)
        except RetryableError as error:
            reply = await self._retry(error, transport, endpoint, path, body)
        if not isinstance(reply, Unscored):
            self._unanswered_in_a_row = 0
            prompt_tokens, completion_tokens, cached_tokens = token_counts(reply)
            self.usage.requests += 1
            self.usage.prompt_tokens += prompt_tokens
            self.usage.completion_tokens += completion_tokens
            self.usage.cached_tokens += cached_tokens
        return reply

    async def _retry(
        self, first: RetryableError, transport: Transport, endpoint: Endpoint, path: str, body: dict[str, Any]
    ) -> dict[str, Any] | Unscored:
        """Retry after a failed first attempt; tenacity is too slow for every request."""
        failed = [first]

        async def attempt() -> dict[str, Any] | Unscored:
            if failed:
                raise failed.pop()
            return await self._post_monitored(transport, endpoint, path, body)

        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=_MAX_WAIT_S),
            # A timeout is an hour, so it is not retried.
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, RetryableError) and e.reason != "timeout"),
            before_sleep=self._count_retry,
            reraise=True,
        )
        reply: dict[str, Any] | Unscored = await retrying(attempt)
        return reply

    async def _post_monitored(
        self, transport: Transport, endpoint: Endpoint, path: str, body: dict[str, Any]
    ) -> dict[str, Any] | Unscored:
        """Send one request and check meanwhile that the server does not hang."""
        with self._stalls.pending():
            request = asyncio.ensure_future(post(transport, endpoint, path, body))
            try:
                while not (await asyncio.wait({request}, timeout=self._stalls.check_every_s))[0]:
                    await self._stalls.check(endpoint)
                reply = request.result()
                self._stalls.record_progress()
                return reply
            finally:
                request.cancel()

    async def require_answers(self, error: RetryableError) -> None:
        """Raise ServerError if ``error`` means that the server is dead rather than that one request failed."""
        _, endpoint = await self._server()
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

    async def _server(self) -> tuple[Transport, Endpoint]:
        """Return the transport and endpoint, connecting first if needed."""
        async with self._connecting:
            if self._transport is None or self._endpoint is None:
                self._endpoint = await self._connect()
                base_url, key = self._endpoint.base_url, self._endpoint.api_key
                self._transport = Transport(base_url, key, is_managed=self._endpoint.is_managed)
            return self._transport, self._endpoint

    def _count_retry(self, _: tenacity.RetryCallState) -> None:
        self.usage.retries += 1
