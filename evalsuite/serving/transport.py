"""HTTP to a server: every request goes through ``Transport.request``, so that all of them follow the same rules.

No redirects, at most 64 MB per reply and 512 MB of all that are being read, and a deadline. A managed server is never
asked through a proxy; an external one is asked through the environment's, unless it is on this machine. Any failure of
the HTTP library, whatever the server sends, is a TransportError.
"""

from __future__ import annotations

import json
import ssl
import zlib
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec

from evalsuite.errors import UsageError, first_line
from evalsuite.redaction import without_secrets
from evalsuite.serving.event_stream import assembled, is_event_stream
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.transport_errors import MalformedReplyError, NoReplyError, StatusError, TransportError

if TYPE_CHECKING:
    from evalsuite.serving.sdk import SDK

CONNECT_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 3600.0
"""Longest silence of a server; a reply is complete at the latest after this and TOKEN_TIMEOUT_S per token."""
TOKEN_TIMEOUT_S = 0.25
MAX_REPLY_BYTES = 64_000_000
MAX_BUFFERED_BYTES = 512_000_000
"""Of all replies of one server that are being read."""
_MAX_ERROR_CHARACTERS = 4000
_BESIDE_V1 = frozenset({"/classify", "/pooling"})
_KEPT_ALIVE_S = 4.0
"""Below vLLM's 5 s, so that a connection that the server is about to close is not reused."""


class Transport:
    """Sends requests to one server; created and used on an event loop."""

    def __init__(self, base_url: str, api_key: str, *, is_managed: bool) -> None:
        self.on_headers: Callable[[Mapping[str, str]], None] = lambda _: None
        """Called with the headers of every reply that is not an error."""
        self._buffered = 0
        self._base_url = base_url.rstrip("/")
        self._proxy = None if is_managed else _environment_proxy(base_url)
        url = urlsplit(base_url)
        # A name and password in the URL are sent instead of a key.
        authorization = {"Authorization": f"Bearer {api_key}"} if api_key and url.username is None else {}
        self._session = aiohttp.ClientSession(
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity", **authorization},
            connector=_Connector(
                limit=0, keepalive_timeout=_KEPT_ALIVE_S, ssl=_tls_context() if url.scheme == "https" else True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        self._is_managed = is_managed

    @cached_property
    def _sdk(self) -> SDK:
        # Only external servers are asked through the SDK: it halves the requests per second (bench/client.py), and
        # half a second goes by until it is loaded.
        from evalsuite.serving.sdk import SDK

        return SDK(
            lambda path, content, timeout_s: self.request(url_of(self._base_url, path), content, timeout_s=timeout_s)
        )

    async def send(self, path: str, body: Mapping[str, Any]) -> object:
        """Post a question and return the parsed reply; raises TransportError.

        The deadline grows with the ``max_tokens`` of the body.
        """
        deadline_s = READ_TIMEOUT_S + TOKEN_TIMEOUT_S * body.get("max_tokens", 0)
        content = _encoded(body)
        if self._is_managed:
            raw = await self.request(url_of(self._base_url, path), content, timeout_s=deadline_s)
        else:
            raw = await self._sdk.post(path, content, deadline_s)
        try:
            document: object = assembled(raw) if body.get("stream") and is_event_stream(raw) else _decoded(raw)
        except (ValueError, RecursionError, TypeError, AttributeError) as error:
            raise MalformedReplyError(f"the reply is not JSON: {error}") from error
        return document

    async def request(self, url: str, body: Mapping[str, Any] | bytes | None = None, *, timeout_s: float) -> bytes:
        """Return the body of the reply to a POST of ``body``, or to a GET without one; raises TransportError."""
        data = _encoded(body) if isinstance(body, Mapping) else body
        timeout = aiohttp.ClientTimeout(timeout_s, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
        try:
            async with self._session.request(
                "GET" if data is None else "POST",
                url,
                data=data,
                timeout=timeout,
                proxy=self._proxy,
                allow_redirects=False,
            ) as reply:
                raw = await self._read_bounded(reply)
        except TransportError:
            raise
        except Exception as error:  # what a library raises on hostile bytes is not a closed set
            if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
                message = f"no complete reply after {timeout_s:.0f} s, or none for {READ_TIMEOUT_S:.0f} s"
                raise NoReplyError(message, late=True) from error
            # It may quote the server: no secret may be cut in half and so remain.
            text = without_secrets(str(error)) or type(error).__name__
            raise NoReplyError(first_line(TransportError(text))) from error
        if 300 <= reply.status < 400:
            target = reply.headers.get("Location", "no URL")
            raise StatusError(reply.status, f"redirects are not followed ({reply.status} to {target}); give that URL")
        if not 200 <= reply.status < 300:
            text = without_secrets(raw[: 2 * _MAX_ERROR_CHARACTERS].decode(errors="replace"))
            raise StatusError(
                reply.status, f"Error code: {reply.status} - {text[:_MAX_ERROR_CHARACTERS]}", reply.headers
            )
        self.on_headers(reply.headers)
        return raw

    async def _read_bounded(self, reply: aiohttp.ClientResponse) -> bytes:
        raw = bytearray()
        try:
            async for chunk in reply.content.iter_any():
                raw += chunk
                self._buffered += len(chunk)
                if len(raw) > MAX_REPLY_BYTES:
                    break
                if self._buffered > MAX_BUFFERED_BYTES:
                    held = f"{MAX_BUFFERED_BYTES / 1e6:.0f} MB"
                    raise MalformedReplyError(f"the replies in flight together exceed {held}; lower --in-flight")
        finally:
            self._buffered -= len(raw)
        if reply.headers.get("Content-Encoding", "identity").lower() in ("gzip", "x-gzip", "deflate"):
            # Not asked for, but some gateways send it. 32 + 15: the header tells which of the formats it is.
            raw = bytearray(zlib.decompressobj(wbits=32 + zlib.MAX_WBITS).decompress(raw, MAX_REPLY_BYTES + 1))
        if len(raw) > MAX_REPLY_BYTES:
            raise MalformedReplyError(f"the reply exceeds {MAX_REPLY_BYTES / 1e6:.0f} MB")
        return bytes(raw)

    async def close(self) -> None:
        await self._session.close()


class _Connector(aiohttp.TCPConnector):
    """Reuses no connection on which the server has sent more than it was asked for.

    A second reply to one question would be read as the reply to the next, and shift all answers by one.
    """

    async def connect(self, *given: Any, **named: Any) -> aiohttp.connector.Connection:
        while True:
            connection = await super().connect(*given, **named)
            if connection.protocol is None or not connection.protocol.should_close:
                return connection
            connection.close()


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON can escape and UTF-8 cannot encode.
        return json.dumps(body, separators=(",", ":")).encode()


def _decoded(raw: bytes) -> object:
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        # Python also reads what servers write beyond JSON: NaN, infinities and lone surrogates.
        return json.loads(raw)


def url_of(base_url: str, path: str) -> str:
    """Return the address of a path; vLLM's own ones are beside ``/v1``, not below it.

    >>> url_of("http://localhost:8000/v1", "/classify"), url_of("http://localhost:8000/v1", "/completions")
    ('http://localhost:8000/classify', 'http://localhost:8000/v1/completions')
    """
    return (base_url.removesuffix("/v1") if path in _BESIDE_V1 else base_url) + path


async def fetch(
    url: str, api_key: str, body: Mapping[str, Any] | None = None, *, is_managed: bool, timeout_s: float
) -> bytes:
    """Send one request over a separate connection; see ``Transport.request``."""
    transport = Transport(url, api_key, is_managed=is_managed)
    try:
        return await transport.request(url, body, timeout_s=timeout_s)
    finally:
        await transport.close()


def fetch_blocking(
    url: str, api_key: str, body: Mapping[str, Any] | None = None, *, is_managed: bool, timeout_s: float
) -> bytes:
    """``fetch`` for callers without an event loop."""
    with LoopThread() as loop:
        return loop.wait(fetch(url, api_key, body, is_managed=is_managed, timeout_s=timeout_s))


def _tls_context() -> ssl.SSLContext:
    # With certifi's authorities, which containers without system certificates need, or SSL_CERT_FILE's.
    import httpx

    return httpx.create_ssl_context()


def _environment_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for a URL; None for this machine, which no proxy can reach.

    Raises UsageError for a proxy that does not speak HTTP.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in ("localhost", "::1") or host.startswith("127.") or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is not None and "://" not in proxy:
        return f"http://{proxy}"
    if proxy is not None and not proxy.startswith(("http://", "https://")):
        shown = without_secrets(proxy)
        raise UsageError(f"{shown} in the environment is not an HTTP proxy; set another, or add {host} to NO_PROXY")
    return proxy
