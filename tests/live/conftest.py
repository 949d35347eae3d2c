"""One real vLLM for all live tests: the demo model in float32 on this machine, started once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import pytest

from evalsuite.checkpoint import Checkpoint, resolve
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.loop import LoopThread
from evalsuite.serving.requests import Completion, Sampling
from evalsuite.serving.session import Session
from evalsuite.store import Store
from judges.types import Message

START_TIMEOUT_S = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.live)
        item.add_marker(pytest.mark.timeout(1200))


@dataclass(frozen=True)
class Live:
    """The served demo model: its session, the loop its client runs on, and where to attach."""

    checkpoint: Checkpoint
    session: Session
    thread: LoopThread
    url: str
    api_key: str

    def wait(self, coroutine):
        return self.thread.wait(coroutine)


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    if util.find_spec("vllm") is None:
        pytest.skip("vLLM is not installed (make setup)")
    folder = tmp_path_factory.mktemp("live")
    checkpoint = resolve("demo")
    serve = ServeConfig(dtype="float32")
    with (
        Store(folder / "store.sqlite") as store,
        LoopThread() as thread,
        Session(checkpoint, store, serve, folder / "vllm.log") as session,
    ):
        first = thread.wait(session.client.chat([Message("user", "Say hi.")], Sampling(4)))
        assert isinstance(first, Completion), first
        server = session.server
        assert server is not None
        os.environ["EVALSUITE_API_KEY"] = server.api_key
        yield Live(checkpoint, session, thread, server.base_url, server.api_key)
        os.environ.pop("EVALSUITE_API_KEY", None)
        thread.wait(session.client.close())


@pytest.fixture
def demo_folder(live: Live) -> Path:
    assert live.checkpoint.path is not None
    return live.checkpoint.path
