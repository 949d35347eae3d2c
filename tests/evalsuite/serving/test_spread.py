"""Several servers of one model: a conversation stays on one, a dead one is left out and looked at again."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from evalsuite.config import read_config
from evalsuite.errors import ServerError, UsageError
from evalsuite.runs.runner import run
from evalsuite.serving import spread
from evalsuite.serving.client import Client, Target
from evalsuite.serving.requests import Sampling
from evalsuite.serving.wire import Endpoint, check_endpoint
from evalsuite.store import Store
from judges.types import Message, Unscored
from tests.evalsuite.runs.test_runner import figures, obliging, without_times
from tests.evalsuite.stub_endpoint import StubEndpoint, text_reply


def saying(text):
    return lambda path, body: (200, text_reply(text))


@pytest.fixture
def servers():
    with ExitStack() as stack:
        yield [stack.enter_context(StubEndpoint(saying(f"from {number}"))) for number in range(3)]


def client_of(servers, store, **more):
    return Client(Target("stub", {"weights": "w"}), [Endpoint(each.url, "", "stub", **more) for each in servers], store)


async def converse(client, number):
    """Ask three turns; return which servers answered."""
    messages, servers = [], []
    for turn in range(3):
        messages.append(Message("user", f"conversation {number}, turn {turn}"))
        reply = await client.chat(messages, Sampling(8))
        assert not isinstance(reply, Unscored), reply
        servers.append(reply.text)
        messages.append(Message("assistant", reply.text))
    return servers


async def test_a_conversation_stays_on_one_server_and_all_are_used(servers, tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        client = client_of(servers, store)
        answered = await asyncio.gather(*(converse(client, number) for number in range(60)))
        await client.close()
    assert all(len(set(servers)) == 1 for servers in answered)
    counts = Counter(servers[0] for servers in answered)
    assert len(counts) == 3
    assert max(counts.values()) <= 2 * min(counts.values()), counts
    assert client.usage.requests == 180
    assert sum(client.server_told["server"]["endpoints"].values()) == 180


async def test_a_dead_server_is_left_out_and_looked_at_again(servers, tmp_path, monkeypatch):
    monkeypatch.setattr("evalsuite.serving.connection._ATTEMPTS", 1)
    now = [1000.0]
    monkeypatch.setattr(spread, "time", SimpleNamespace(monotonic=lambda: now[0]))
    notes = []
    with Store(tmp_path / "store.sqlite") as store:
        client = client_of(servers, store, note=notes.append)
        await asyncio.gather(*(converse(client, number) for number in range(20)))
        servers[0].alive = False
        answered = await asyncio.gather(*(converse(client, number) for number in range(100, 140)))
        assert {text for servers in answered for text in servers} == {"from 1", "from 2"}
        assert sum("left out" in note for note in notes) >= 1
        servers[0].alive = True
        now[0] += spread._LOOK_AGAIN_S
        answered = await asyncio.gather(*(converse(client, number) for number in range(200, 260)))
        assert "from 0" in {text for servers in answered for text in servers}
        assert any("answers again" in note for note in notes)
        await client.close()


async def test_with_all_servers_dead_the_run_ends(servers, tmp_path, monkeypatch):
    monkeypatch.setattr("evalsuite.serving.connection._ATTEMPTS", 1)
    with Store(tmp_path / "store.sqlite") as store:
        client = client_of(servers, store)
        for server in servers:
            server.alive = False
        with pytest.raises(ServerError):
            await client.chat([Message("user", "hello")], Sampling(8))
        await client.close()


def test_servers_of_other_models_are_refused(servers):
    with StubEndpoint(saying("x"), model="other") as other, StubEndpoint(saying("x"), max_model_len=99) as short:
        with pytest.raises(UsageError, match=r"serves stub, and .* other"):
            check_endpoint(f"{servers[0].url},{other.url}", None)
        with pytest.raises(UsageError, match=r"another max_model_len .*99.*4096"):
            check_endpoint(f"{servers[0].url},{short.url}", "stub")
    assert check_endpoint(f"{servers[0].url},http://127.0.0.1:9/v1,{servers[1].url}", "stub") == ("stub", 4096)


def test_a_run_on_several_servers_gives_the_figures_of_one(tmp_path):
    with StubEndpoint(obliging) as one, StubEndpoint(obliging) as two:
        values = {"suites": ["mt_bench"], "data": "mini"}
        several = f"stub@{one.url},{two.url}"
        first = run(read_config({**values, "models": [several], "judge": several, "results": tmp_path / "several"}))
        asked = [len(each.requests) for each in (one, two)]
        assert all(asked), asked
        single = f"stub@{one.url}"
        second = run(read_config({**values, "models": [single], "judge": single, "results": tmp_path / "one"}))
        assert without_times(figures(first)["suites"]) == without_times(figures(second)["suites"])
        given = read_config({"models": ["stub"], "base_url": [one.url, two.url], "results": tmp_path / "one"})
        assert given.base_url == f"{one.url},{two.url}"
    with pytest.raises(UsageError, match="servers of one model"):
        read_config({"models": ["a", "b"], "base_url": "http://x/v1,http://y/v1"})
    with pytest.raises(UsageError, match="not a URL"):
        read_config({"models": ["a"], "base_url": ["http://x/v1", "y"]})
