"""Replies that no server should send: each is one failed request, within bounds of time and memory."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import threading
import time
import tracemalloc
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import pytest

from evalsuite.errors import EvalsuiteError, ServerError, UsageError
from evalsuite.runs.runner import run
from evalsuite.serving import transport as transport_module
from evalsuite.serving.transport import Transport, fetch_blocking
from evalsuite.serving.transport_errors import MalformedReplyError, NoReplyError, StatusError, TransportError
from evalsuite.serving.wire import Endpoint, check_endpoint, check_tokenizer, processed_tokens
from tests.evalsuite.serving.test_server_faults import config, healthy, is_judges
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

DOCUMENT = json.dumps(text_reply("Rating: [[10]]")).encode()
MB = 1_000_000


class RawServer:
    """Sends the same chunks to every connection, whatever it asks, and counts the connections and bytes."""

    def __init__(self, chunks, pause_s=0.0):
        self._chunks, self._pause_s = chunks, pause_s
        self.heard = []
        self.sent = 0
        self.has_ended = False
        """Whether all chunks were sent to some connection."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self):
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        # Closing alone does not wake a thread that accepts.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection:
            try:
                self.heard.append(connection.recv(100_000))
                for chunk in self._chunks():
                    connection.sendall(chunk)
                    self.sent += len(chunk)
                    time.sleep(self._pause_s)
                self.has_ended = True
            except OSError:
                return


def with_head(body, *lines, status="200 OK"):
    return f"HTTP/1.1 {status}\r\n".encode() + b"".join(line.encode() + b"\r\n" for line in lines) + b"\r\n" + body


MALFORMED = {
    "shorter than its length": with_head(DOCUMENT, f"Content-Length: {len(DOCUMENT) + 10}"),
    "longer than its length": with_head(DOCUMENT, "Content-Length: 20"),
    "empty with a length of 0": with_head(DOCUMENT, "Content-Length: 0"),
    "negative length": with_head(DOCUMENT, "Content-Length: -1"),
    "length of words": with_head(DOCUMENT, "Content-Length: many"),
    "two lengths": with_head(DOCUMENT, f"Content-Length: {len(DOCUMENT)}", "Content-Length: 5"),
    "length and chunks": with_head(DOCUMENT, f"Content-Length: {len(DOCUMENT)}", "Transfer-Encoding: chunked"),
    "chunk of no size": with_head(b"zz\r\n" + DOCUMENT, "Transfer-Encoding: chunked"),
    "chunk cut off": with_head(b"ffff\r\n" + DOCUMENT, "Transfer-Encoding: chunked"),
    "HTTP/0.9": DOCUMENT,
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "1 MB header": with_head(DOCUMENT, "X-Long: " + "x" * MB, f"Content-Length: {len(DOCUMENT)}"),
    "100,000 headers": with_head(DOCUMENT, *repeat("X-Many: 1", 100_000), f"Content-Length: {len(DOCUMENT)}"),
    "header without colon": with_head(DOCUMENT, "no colon here", f"Content-Length: {len(DOCUMENT)}"),
    "status of no number": with_head(DOCUMENT, status="OK 200"),
    "status 0": with_head(DOCUMENT, f"Content-Length: {len(DOCUMENT)}", status="000 None"),
    "status 999": with_head(DOCUMENT, f"Content-Length: {len(DOCUMENT)}", status="999 What"),
    "only an interim reply": with_head(b"", status="100 Continue"),
    "protocol switch": with_head(DOCUMENT, "Upgrade: websocket", "Connection: upgrade", status="101 Switching"),
    "broken gzip": with_head(b"\x1f\x8bnothing", "Content-Encoding: gzip", "Content-Length: 9"),
    "unknown encoding": with_head(b"\x8b\x00", "Content-Encoding: br", "Content-Length: 2"),
    "nothing": b"",
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch, no_pauses):
    monkeypatch.setattr(transport_module, "READ_TIMEOUT_S", 5.0)


async def send(url, body=None, *, is_managed=False):
    transport = Transport(url, "key", is_managed=is_managed)
    try:
        return await transport.send("/chat/completions", body or {})
    finally:
        await transport.close()


@pytest.mark.parametrize("is_managed", [True, False], ids=["managed", "external"])
@pytest.mark.parametrize("kind", MALFORMED)
async def test_a_malformed_reply_is_a_transport_error(kind, is_managed):
    with RawServer(lambda: [MALFORMED[kind]]) as server, pytest.raises(TransportError) as caught:
        await send(server.url, is_managed=is_managed)
    assert str(caught.value)


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_list_of_models_is_one_sentence(kind):
    with RawServer(lambda: [MALFORMED[kind]]) as server:
        with pytest.raises((ServerError, UsageError), match=r"/v1"):
            check_endpoint(server.url, None)
        check_tokenizer(Endpoint(server.url, "", "m"), None, "m")


@pytest.mark.parametrize(
    "kind", ["shorter than its length", "longer than its length", "negative length", "two lengths", "HTTP/0.9"]
)
def test_a_malformed_reply_is_tried_six_times_and_the_run_goes_on(tmp_path, kind):
    malformed = []

    def handler(path, body):
        if is_judges(body):
            malformed.append(path)
            return MALFORMED[kind]
        return healthy(path, body)

    with StubEndpoint(handler) as stub:
        scores = run(config(stub, tmp_path)).models[0].suites["mt_bench"]
    assert len(malformed) == 6 * 2, "both turns of one question"
    assert scores["unscored"] == {"request_failed": 2}
    assert scores["n_scored"] == scores["n"] - 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_its_body_is_no_answer(status):
    with RawServer(lambda: [with_head(DOCUMENT, f"Content-Length: {len(DOCUMENT)}")]) as other:
        lines = (f"Location: {other.url}/chat/completions", f"Content-Length: {len(DOCUMENT)}")
        reply = with_head(DOCUMENT, *lines, status=f"{status} Moved")
        for is_managed in (True, False):
            with RawServer(lambda: [reply]) as server, pytest.raises(StatusError, match="give that URL"):
                await send(server.url, is_managed=is_managed)
        with RawServer(lambda: [reply]) as server, pytest.raises(UsageError, match="redirects are not followed"):
            check_endpoint(server.url, None)
    assert other.heard == []


def endless(*lines):
    yield with_head(b"", *lines)
    while True:
        yield b"[" + b" " * MB


def endless_chunks():
    yield with_head(b"", "Transfer-Encoding: chunked")
    while True:
        yield b"100000\r\n" + b" " * 0x100000 + b"\r\n"


def endless_headers():
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"X-Header: 12345678\r\n" * 10_000


BOMB = gzip.compress(bytes(200 * MB), 1)
ENDLESS = {
    "no length": lambda: endless(),
    "a length": lambda: endless("Content-Length: 99999999999999"),
    "an error": lambda: iter([with_head(b"", status="500 No"), *repeat(b"x" * MB, 200)]),
    "chunks": endless_chunks,
    "headers": endless_headers,
    "gzip bomb": lambda: [with_head(BOMB, "Content-Encoding: gzip", f"Content-Length: {len(BOMB)}")],
    "deflate bomb": lambda: [with_head(BOMB, "Content-Encoding: deflate")],
}


def most_sent():
    """Return how many bytes of an endless reply can be sent until the client has read one more than its bound.

    The kernel holds what the client has not read; its buffers grow while the client is slow.
    """
    buffers = (Path(f"/proc/sys/net/ipv4/tcp_{name}").read_text().split() for name in ("rmem", "wmem"))
    return transport_module.MAX_REPLY_BYTES + sum(int(largest) for _, _, largest in buffers) + 4 * MB


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_reply_has_a_bound(kind):
    """The bound is 64 MB; at most twice that is held while a compressed body is decompressed and copied."""
    tracemalloc.start()
    with RawServer(ENDLESS[kind]) as server, pytest.raises(TransportError):
        await send(server.url)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * transport_module.MAX_REPLY_BYTES
    assert server.sent < most_sent()


@pytest.mark.parametrize("kind", ["no length", "gzip bomb", "headers"])
async def test_what_is_asked_beside_the_questions_has_the_same_bound(kind):
    with RawServer(ENDLESS[kind]) as server:
        with pytest.raises(EvalsuiteError):
            check_endpoint(server.url, None)
        assert not await processed_tokens(Endpoint(server.url, "", "m"))
        with pytest.raises(TransportError):
            fetch_blocking(server.url, "", is_managed=True, timeout_s=20)
    assert server.sent < 3 * most_sent(), "asked three times"


@pytest.mark.parametrize("size", [transport_module.MAX_REPLY_BYTES, transport_module.MAX_REPLY_BYTES + 1])
async def test_the_bound_is_64_mb(size):
    body = b'"' + b"x" * (size - 2) + b'"'
    with RawServer(lambda: [with_head(body, f"Content-Length: {size}")]) as server:
        if size <= 64 * MB:
            assert len(await send(server.url)) == size - 2
        else:
            with pytest.raises(MalformedReplyError, match="exceeds 64 MB"):
                await send(server.url)


async def test_an_unrequested_compressed_reply_is_read():
    data = gzip.compress(DOCUMENT)
    with RawServer(lambda: [with_head(data, "Content-Encoding: gzip", f"Content-Length: {len(data)}")]) as server:
        assert await send(server.url) == json.loads(DOCUMENT)
    assert b"Accept-Encoding: identity" in server.heard[0]


SLOW = {
    "body": lambda: iter([with_head(b"", "Content-Length: 99999"), *repeat(b" ", 1000)]),
    "headers": lambda: iter([b"HTTP/1.1 200 OK\r\nX-Slow: ", *repeat(b"x", 1000)]),
    "chunk extension": lambda: iter([with_head(b"8;", "Transfer-Encoding: chunked"), *repeat(b"x", 1000)]),
    "interim replies": lambda: repeat(with_head(b"", status="100 Continue"), 1000),
}


@pytest.mark.parametrize("kind", SLOW)
async def test_a_reply_that_never_ends_is_late_after_a_time_that_grows_with_the_tokens(monkeypatch, kind):
    monkeypatch.setattr(transport_module, "READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr(transport_module, "TOKEN_TIMEOUT_S", 0.1)
    for tokens, deadline_s in ((0, 0.5), (10, 1.5)):
        began = time.monotonic()
        with RawServer(SLOW[kind], pause_s=0.02) as server, pytest.raises(NoReplyError) as caught:
            await send(server.url, {"max_tokens": tokens})
        assert caught.value.late
        assert deadline_s <= time.monotonic() - began < deadline_s + 0.9
        assert not server.has_ended


def test_probes_have_a_deadline_too():
    began = time.monotonic()
    with RawServer(SLOW["body"], pause_s=0.02) as server, pytest.raises(NoReplyError):
        fetch_blocking(server.url, "", is_managed=True, timeout_s=0.5)
    assert time.monotonic() - began < 2
    assert not server.has_ended


class TwiceServer(RawServer):
    """Replies twice to every question, at once, on connections that it keeps."""

    def _serve(self, connection):
        with connection:
            try:
                while asked := connection.recv(100_000):
                    self.heard.append(asked)
                    number = len(self.heard)
                    bodies = [json.dumps(text_reply(f"{word} {number}")).encode() for word in ("answer", "stray")]
                    connection.sendall(b"".join(with_head(body, f"Content-Length: {len(body)}") for body in bodies))
            except OSError:
                return


@pytest.mark.parametrize("is_managed", [True, False])
async def test_a_second_reply_to_one_question_is_not_the_next_questions(is_managed):
    with TwiceServer(None) as server:
        transport = Transport(server.url, "", is_managed=is_managed)
        texts = []
        for _ in range(5):
            reply = await transport.send("/chat/completions", {})
            texts.append(reply["choices"][0]["text"])
        await transport.close()
    assert texts == [f"answer {number}" for number in range(1, 6)]


async def _alone(transport: Transport, url: str) -> bytes:
    """Ask once more; a kept connection that the server has reset meanwhile is tried again, as the client does."""
    for _ in range(6):
        with suppress(TransportError):
            return await transport.request(url, {}, timeout_s=9)
    raise AssertionError("no reply in six attempts")


async def test_replies_in_flight_have_a_bound_together(monkeypatch):
    monkeypatch.setattr(transport_module, "MAX_BUFFERED_BYTES", 3 * MB)
    half = b"x" * MB

    def chunks():
        yield with_head(half, f"Content-Length: {2 * MB}")
        time.sleep(0.5)
        yield half

    with RawServer(chunks) as server:
        transport = Transport(server.url, "", is_managed=True)
        asked = [transport.request(server.url, {}, timeout_s=9) for _ in range(5)]
        replies = await asyncio.gather(*asked, return_exceptions=True)
        alone = await _alone(transport, server.url)
        await transport.close()
    assert len(alone) == 2 * MB, "what was in flight is forgotten"
    assert transport_module.MAX_BUFFERED_BYTES >= max(len(one) for one in replies if isinstance(one, bytes)) == 2 * MB
    failed = [each for each in replies if isinstance(each, MalformedReplyError)]
    assert failed
    assert "together" in str(failed[0])
