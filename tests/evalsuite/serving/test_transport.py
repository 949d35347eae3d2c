"""Both ways to a server say the same of what goes wrong on the way."""

from __future__ import annotations

import socket
import time

import pytest

from evalsuite.serving import transport as transport_module
from evalsuite.serving.transport import LoopbackTransport, NoReplyError, OpenAITransport, RefusedError
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply

LATE_S = 0.3


@pytest.fixture(params=[LoopbackTransport, OpenAITransport], ids=["ours", "another's"])
async def connect(request, monkeypatch):
    """Opens a transport to a URL, and closes it after the test."""
    monkeypatch.setattr(transport_module, "READ_TIMEOUT_S", LATE_S)
    opened = []

    def to(url):
        opened.append(request.param(url, "key"))
        return opened[-1]

    yield to
    for transport in opened:
        await transport.close()


async def test_json_goes_out_with_the_key_and_json_comes_back(connect):
    body = {"prompt": [1, 2], "text": "\u2028é"}
    with StubEndpoint(lambda path, body: (200, text_reply("é"))) as stub:
        assert await connect(stub.url).send("/completions", body) == text_reply("é")
        assert stub.requests == [("/v1/completions", body)]


async def test_half_a_surrogate_pair_arrives_or_is_refused_at_once():
    with StubEndpoint(lambda path, body: (200, {})) as stub:
        ours, others = LoopbackTransport(stub.url, "key"), OpenAITransport(stub.url, "key")
        await ours.send("/completions", {"text": "\ud800"})
        with pytest.raises(RefusedError, match="cannot be sent"):
            await others.send("/completions", {"text": "\ud800"})
        await ours.close()
        await others.close()
    assert stub.requests == [("/v1/completions", {"text": "\ud800"})]


async def test_the_key_is_sent_as_a_bearers():
    told = []
    with StubEndpoint(lambda path, body: (200, {})) as stub:
        handler = stub._server.RequestHandlerClass
        original = handler.do_POST

        def noting(self):
            told.append(self.headers["authorization"])
            original(self)

        handler.do_POST = noting
        for kind in (LoopbackTransport, OpenAITransport):
            transport = kind(stub.url, "a-key")
            await transport.send("/completions", {})
            await transport.close()
    assert told == ["Bearer a-key"] * 2


async def test_a_late_reply_is_told_from_none(connect):
    def late(path, body):
        time.sleep(LATE_S + 0.5)
        return 200, {}

    with StubEndpoint(late) as stub, pytest.raises(NoReplyError) as caught:
        await connect(stub.url).send("/completions", {})
    assert caught.value.late
    with StubEndpoint(lambda path, body: None) as stub, pytest.raises(NoReplyError) as caught:
        await connect(stub.url).send("/completions", {})
    assert not caught.value.late
    assert str(caught.value)


async def test_nobody_there_is_no_reply(connect):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(NoReplyError) as caught:
        await connect(f"http://127.0.0.1:{port}/v1").send("/completions", {})
    assert not caught.value.late


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_refusal_keeps_its_status_and_words(connect, status):
    refusal = {"error": {"message": "no more than 9"}}
    with (
        StubEndpoint(lambda path, body: (status, refusal)) as stub,
        pytest.raises(RefusedError, match="no more than 9") as caught,
    ):
        await connect(stub.url).send("/completions", {})
    assert caught.value.status == status


@pytest.mark.parametrize("reply", [b'{"choices": [', b"\xff\xfe", b"[" * 100_000], ids=["cut", "bytes", "deep"])
async def test_what_is_no_json_is_said_to_be_none(connect, reply):
    with StubEndpoint(lambda path, body: (200, reply)) as stub, pytest.raises((ValueError, RecursionError)):
        await connect(stub.url).send("/completions", {})


async def test_a_server_of_ours_is_never_asked_through_a_proxy(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with StubEndpoint(lambda path, body: (200, {"said": "hi"})) as stub:
        transport = LoopbackTransport(stub.url, "key")
        assert await transport.send("/completions", {}) == {"said": "hi"}
        await transport.close()
