"""The connection of a client: started when first needed, patient with a busy server, done with a dead one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import openai
import tenacity

from evalsuite.errors import ServerError
from evalsuite.serving.replies import token_counts
from evalsuite.serving.wire import Endpoint, Pulse, TryAgainError, listens, post
from judges.types import Unscored

_ATTEMPTS = 6
_MAX_WAIT_S = 20.0
_READ_TIMEOUT_S = 3600.0
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
        self._openai: openai.AsyncOpenAI | None = None
        self._retired: list[openai.AsyncOpenAI] = []
        self._pulse = Pulse()
        self._unanswered_in_a_row = 0

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
        connection, endpoint = await self._server()
        if depth and endpoint.takes_priority:
            body = {**body, "priority": -depth}
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=0.5, max=_MAX_WAIT_S),
            # What was late once has waited long enough for this run.
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, TryAgainError) and e.reason != "timeout"),
            before_sleep=self._count_retry,
            reraise=True,
        )
        reply: dict[str, Any] | Unscored = await retrying(self._post_watched, connection, endpoint, path, body)
        if not isinstance(reply, Unscored):
            self._unanswered_in_a_row = 0
            self._count(reply)
        return reply

    async def _post_watched(
        self, connection: openai.AsyncOpenAI, endpoint: Endpoint, path: str, body: dict[str, Any]
    ) -> dict[str, Any] | Unscored:
        """Send one request and see meanwhile that the server works."""
        with self._pulse.waiting():
            asking = asyncio.ensure_future(post(connection, endpoint, path, body))
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

    async def _server(self) -> tuple[openai.AsyncOpenAI, Endpoint]:
        """Return the connection, starting the server if this is the first question to reach it."""
        async with self._connecting:
            if self._openai is None or self._endpoint is None:
                self._endpoint = await self._connect()
                self._openai = openai.AsyncOpenAI(
                    base_url=self._endpoint.base_url,
                    api_key=self._endpoint.api_key or "none",
                    max_retries=0,
                    timeout=openai.Timeout(_READ_TIMEOUT_S, connect=30.0),
                    # httpx walks over all its connections for each request: five times the CPU time at 256 in flight.
                    http_client=openai.DefaultAioHttpClient(),
                )
            return self._openai, self._endpoint

    def _count_retry(self, _: tenacity.RetryCallState) -> None:
        self.usage.retries += 1

    def _count(self, reply: Mapping[str, Any]) -> None:
        prompt_tokens, completion_tokens, cached_tokens = token_counts(reply)
        self.usage.requests += 1
        self.usage.prompt_tokens += prompt_tokens
        self.usage.completion_tokens += completion_tokens
        self.usage.cached_tokens += cached_tokens
