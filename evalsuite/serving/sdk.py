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
        client: Any = _Below(send)
        self._client = openai.AsyncOpenAI(api_key="-", base_url=_BASE_URL, max_retries=0, http_client=client)

    async def post(self, path: str, content: bytes, timeout_s: float) -> bytes:
        """Return the body of the reply; raises what ``send`` raises."""
        try:
            reply = await self._client.post(
                _BASE_URL + path, cast_to=httpx.Response, content=content, options={"timeout": timeout_s}
            )
        except openai.APIConnectionError as error:
            raise error.__cause__ or error from None
        return reply.content


class _Below(httpx.AsyncClient):
    """Sends the SDK's requests with our headers instead of the SDK's.

    httpx's own work for a request (cookies, redirects, authentication, merged headers and URLs) is left out, since
    ``send`` does or refuses all of it; it took a third of the client's time per request.
    """

    def __init__(self, send: Send) -> None:
        super().__init__(transport=httpx.AsyncBaseTransport(), trust_env=False)
        self._send_below = send

    def build_request(self, method: str, url: httpx.URL | str, **named: Any) -> httpx.Request:
        timeout = httpx.Timeout(named["timeout"]).as_dict()
        return httpx.Request(method, url, content=named["content"], extensions={"timeout": timeout})

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        raw = await self._send_below(request.url.path, request.content, request.extensions["timeout"]["read"])
        return httpx.Response(200, content=raw, request=request)
