"""Requests to managed and external servers fail in the same ways."""

from __future__ import annotations

import socket
import threading

import pytest

from evalsuite.serving import transport as transport_module
from evalsuite.serving.transport import Transport
from evalsuite.serving.transport_errors import MalformedReplyError, NoReplyError, StatusError
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

LATE_S = 0.3


@pytest.fixture(params=[True, False], ids=["managed", "external"])
async def connect(request):
    """Open transports, which are closed after the test."""
    opened = []

    def to(url):
        opened.append(Transport(url, "key", is_managed=request.param))
        return opened[-1]

    yield to
    for transport in opened:
        await transport.close()


async def test_json_is_sent_and_received(connect):
    body = {"prompt": [1, 2], "text": "\u2028é"}
    with StubEndpoint(lambda path, body: (200, text_reply("é"))) as stub:
        assert await connect(stub.url).send("/completions", body) == text_reply("é")
        assert stub.requests == [("/v1/completions", body)]


async def test_a_lone_surrogate_is_sent_as_an_escape(connect):
    with StubEndpoint(lambda path, body: (200, {})) as stub:
        await connect(stub.url).send("/completions", {"text": "\ud800"})
    assert stub.requests == [("/v1/completions", {"text": "\ud800"})]


async def test_the_key_is_sent_as_a_bearer_token():
    sent = []
    with StubEndpoint(lambda path, body: (200, {})) as stub:
        handler = stub._server.RequestHandlerClass
        original = handler.do_POST

        def recording(self):
            sent.append(self.headers["authorization"])
            original(self)

        handler.do_POST = recording
        for url, key in ((stub.url, "a-key"), (stub.url, ""), (stub.url.replace("//", "//me:pass@"), "a-key")):
            transport = Transport(url, key, is_managed=False)
            await transport.send("/completions", {})
            await transport.close()
    assert sent == ["Bearer a-key", None, "Basic bWU6cGFzcw=="], "a password in the URL is sent instead"


async def test_a_late_reply_is_distinguished_from_none(connect, monkeypatch):
    given_up = threading.Event()

    def late(path, body):
        given_up.wait(60)
        return 200, {}

    with monkeypatch.context() as patch:
        # For this reply alone: a busy machine is that late with any.
        patch.setattr(transport_module, "READ_TIMEOUT_S", LATE_S)
        with StubEndpoint(late) as stub, pytest.raises(NoReplyError) as caught:
            await connect(stub.url).send("/completions", {})
    given_up.set()
    assert caught.value.late
    with StubEndpoint(lambda path, body: None) as stub, pytest.raises(NoReplyError) as caught:
        await connect(stub.url).send("/completions", {})
    assert not caught.value.late
    assert str(caught.value)


async def test_a_refused_connection_is_no_reply(connect):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(NoReplyError) as caught:
        await connect(f"http://127.0.0.1:{port}/v1").send("/completions", {})
    assert not caught.value.late


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_an_error_status_is_kept_with_its_message(connect, status):
    error = {"error": {"message": "no more than 9"}}
    with (
        StubEndpoint(lambda path, body: (status, error)) as stub,
        pytest.raises(StatusError, match="no more than 9") as caught,
    ):
        await connect(stub.url).send("/completions", {})
    assert caught.value.status == status


@pytest.mark.parametrize("reply", [b'{"choices": [', b"\xff\xfe", b"[" * 100_000], ids=["cut", "bytes", "deep"])
async def test_invalid_json_raises(connect, reply):
    with StubEndpoint(lambda path, body: (200, reply)) as stub, pytest.raises(MalformedReplyError):
        await connect(stub.url).send("/completions", {})
