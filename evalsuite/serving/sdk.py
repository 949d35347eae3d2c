"""The openai package's client above our own transport: external servers see its bodies, sent by our rules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import openai

Send = Callable[[str, bytes, float], Awaitable[bytes]]
"""Posts a body to a path with a deadline in seconds, and returns the reply's body."""
_BASE_URL = "http://sdk"
"""Stands for the server's URL inside the SDK, which would rewrite an unusual one."""


class SDK:
    """Posts through the SDK, which hands each request to ``send``."""

    def __init__(self, send: Send) -> None:
        # Any: the SDK takes a client of httpx, but its types name httpx2 only.
        client: Any = httpx.AsyncClient(transport=_Below(send), trust_env=False)
        self._client = openai.AsyncOpenAI(api_key="-", base_url=_BASE_URL, max_retries=0, http_client=client)

    async def post(self, path: str, content: bytes, timeout_s: float) -> bytes:
        """Return the body of the reply; raises what ``send`` raises."""
        try:
            reply = await self._client.post(
                path, cast_to=httpx.Response, content=content, options={"timeout": timeout_s}
            )
        except openai.APIConnectionError as error:
            raise error.__cause__ or error from None
        return reply.content


class _Below(httpx.AsyncBaseTransport):
    """Sends the SDK's requests with our headers instead of the SDK's."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raw = await self._send(request.url.path, request.content, request.extensions["timeout"]["read"])
        return httpx.Response(200, content=raw, request=request)
