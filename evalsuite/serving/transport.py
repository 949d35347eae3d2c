"""Sending one request: with the OpenAI SDK to external servers, with aiohttp to managed ones.

The SDK handles the differences between external servers. But building a request with it takes several times as long as
sending it, and a managed server gets hundreds of thousands of small requests from a process that shares its cores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import aiohttp
import openai

CONNECT_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 3600.0
_KEPT_ALIVE_S = 4.0
"""Below vLLM's 5 s, so that a connection that the server is about to close is not reused."""


class NoReplyError(Exception):
    """The server sent no complete reply; ``late`` if it timed out after an hour."""

    def __init__(self, message: str, *, late: bool) -> None:
        super().__init__(message)
        self.late = late


class StatusError(Exception):
    """The server replied with a status of 400 or higher."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Transport(Protocol):
    """Sends JSON requests to one server."""

    async def send(self, path: str, body: Mapping[str, Any]) -> object:
        """Return the parsed reply; raises NoReplyError, StatusError, and ValueError if it is not JSON."""

    async def close(self) -> None: ...


class OpenAITransport:
    """Any OpenAI-compatible server, with the OpenAI SDK."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._sdk = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            timeout=openai.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            # httpx scans all its connections for each request: five times the CPU time at 256 in flight.
            http_client=openai.DefaultAioHttpClient(),
        )

    async def send(self, path: str, body: Mapping[str, Any]) -> object:
        # cast_to=object: plain JSON instead of a model instance for every token of the reply. Untyped,
        # because the SDK's overloads leave the stream type open.
        post: Any = self._sdk.post
        try:
            reply: object = await post(path, cast_to=object, body=body)
        except openai.APIConnectionError as error:
            # The SDK also raises a timeout error for a refused connection; only the cause distinguishes them.
            cause = error.__cause__ or error
            raise NoReplyError(str(cause), late=type(cause).__name__ == "ReadTimeout") from error
        except openai.APIStatusError as error:
            raise StatusError(error.status_code, str(error)) from error
        except openai.APIResponseValidationError as error:
            raise ValueError(str(error)) from error
        except UnicodeEncodeError as error:
            # The SDK encodes UTF-8, which has no lone surrogates.
            raise StatusError(400, f"the request cannot be sent: {error}") from error
        return reply

    async def close(self) -> None:
        await self._sdk.close()


class LoopbackTransport:
    """A managed vLLM server: no proxy, redirects or TLS, and unlimited connections."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._base_url = base_url.rstrip("/")
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def send(self, path: str, body: Mapping[str, Any]) -> object:
        data = json.dumps(body, separators=(",", ":")).encode()
        try:
            async with self._session.post(self._base_url + path, data=data, allow_redirects=False) as reply:
                status, raw = reply.status, await reply.read()
        except aiohttp.ClientError as error:
            # Some of aiohttp's errors have no message.
            raise NoReplyError(
                str(error) or type(error).__name__, late=isinstance(error, aiohttp.SocketTimeoutError)
            ) from error
        if status >= 400:
            raise StatusError(status, f"Error code: {status} - {raw.decode(errors='replace')}")
        document: object = json.loads(raw)
        return document

    async def close(self) -> None:
        await self._session.close()
