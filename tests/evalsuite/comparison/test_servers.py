"""Candidates and judges of a comparison are served with settings of their own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest

from evalsuite.checkpoint import Checkpoint
from evalsuite.comparison import servers as servers_module
from evalsuite.comparison.servers import Servers
from evalsuite.progress import NoProgress
from evalsuite.serving.config import ServeConfig
from evalsuite.serving.connection import Usage


class Recorder:
    """Stands in for a session; keeps how each was made."""

    made: ClassVar[list[tuple[str, ServeConfig]]] = []
    thought: ClassVar[list[str]] = []

    def __init__(self, checkpoint, store, serve, log_path, **_):
        Recorder.made.append((log_path.name, serve))
        self.serve_seconds = 0.0
        self.chat_format = None
        self.client = SimpleNamespace(
            close=self._close,
            usage=Usage(),
            server_told={},
            with_reasoning=self._thinking,
            look_for_drift=self._close,
        )

    def _thinking(self, reasoning):
        Recorder.thought.append(reasoning.mode)
        return self.client

    async def _close(self):
        pass

    def stop(self):
        pass


@pytest.fixture
def made(monkeypatch):
    Recorder.made, Recorder.thought = [], []
    monkeypatch.setattr(servers_module, "Session", Recorder)
    monkeypatch.setattr(servers_module, "with_restarts", lambda session, work, progress: work())
    return Recorder.made


@pytest.mark.parametrize(
    ("candidates", "judges", "n_servers"),
    [
        (ServeConfig(), ServeConfig(), 1),
        (ServeConfig(max_model_len=512), ServeConfig(max_model_len=1024), 2),
        # What cannot change an answer needs no other server, nor does another way to think.
        (ServeConfig(), ServeConfig(in_flight=4), 1),
        (ServeConfig(thinking="off"), ServeConfig(), 1),
    ],
)
def test_a_judge_that_is_the_last_candidate_shares_its_server_where_it_is_served_alike(
    made, tmp_path, candidates, judges, n_servers
):
    model = Checkpoint("m", None, "0" * 64, endpoint="http://127.0.0.1:1/v1")
    with Servers(None, tmp_path, NoProgress(), candidates=candidates, judges=judges) as servers:
        servers.ask_all(model, lambda _: [], candidate=True)
        servers.ask_all(model, lambda _: [], candidate=False)
        assert servers.is_same_server(model, model) is (n_servers == 1)
    assert len(made) == n_servers
    assert made[0][1] == candidates
    assert Recorder.thought == [candidates.thinking, judges.thinking]
    if n_servers == 2:
        assert made[1] == ("m-00000000-judge.log", judges)
