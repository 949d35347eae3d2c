"""How one request travels: by the OpenAI SDK to anybody's server, straight over loopback to one of ours.

The SDK knows what strangers' servers want. Building a request with it takes several times as long as sending it,
though, and a server of ours is asked hundreds of thousands of small questions by a process that shares its cores.
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
"""Below vLLM's own 5 s: a connection that the server is about to close is not used again."""


class NoReplyError(Exception):
    """The server sent no whole reply; ``late`` where it took longer than an hour over it."""

    def __init__(self, words: str, *, late: bool) -> None:
        super().__init__(words)
        self.late = late


class RefusedError(Exception):
    """The server answered with a status of 400 or more."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Transport(Protocol):
    """One server, sent JSON and answering with JSON."""

    async def send(self, path: str, body: Mapping[str, Any]) -> object:
        """Return the parsed reply; raises NoReplyError, RefusedError, and ValueError for what is not JSON."""
        ...

    async def close(self) -> None: ...


class OpenAITransport:
    """Any OpenAI-compatible server, by the SDK."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self._sdk = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            max_retries=0,
            timeout=openai.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            # httpx walks over all its connections for each request: five times the CPU time at 256 in flight.
            http_client=openai.DefaultAioHttpClient(),
        )

    async def send(self, path: str, body: Mapping[str, Any]) -> object:
        # cast_to=object: the plain JSON, without a model class for every token of the reply. Untyped,
        # because the SDK's overloads leave the stream type open.
        post: Any = self._sdk.post
        try:
            reply: object = await post(path, cast_to=object, body=body)
        except openai.APIConnectionError as error:
            # The SDK calls a refused connection a timeout too; only its cause tells the two apart.
            cause = error.__cause__ or error
            raise NoReplyError(str(cause), late=type(cause).__name__ == "ReadTimeout") from error
        except openai.APIStatusError as error:
            raise RefusedError(error.status_code, str(error)) from error
        except openai.APIResponseValidationError as error:
            raise ValueError(str(error)) from error
        except UnicodeEncodeError as error:
            # The SDK writes UTF-8, which has no half of a surrogate pair: no server will ever see this question.
            raise RefusedError(400, f"the question cannot be sent: {error}") from error
        return reply

    async def close(self) -> None:
        await self._sdk.close()


class LoopbackTransport:
    """A vLLM that this process started: no proxy, no redirect, no TLS, and as many connections as questions."""

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
            # Some of aiohttp's errors have no words.
            words = str(error) or type(error).__name__
            raise NoReplyError(words, late=isinstance(error, aiohttp.SocketTimeoutError)) from error
        if status >= 400:
            raise RefusedError(status, f"Error code: {status} - {raw.decode(errors='replace')}")
        document: object = json.loads(raw)
        return document

    async def close(self) -> None:
        await self._session.close()
