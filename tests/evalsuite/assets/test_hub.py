"""Asking the hub, with the hub's client replaced."""

from __future__ import annotations

import json
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest

from evalsuite import assets
from evalsuite.assets import hub_datasets
from evalsuite.assets.asset import Asset, OnHub
from evalsuite.assets.find import attempts
from evalsuite.assets.locations import Absent, download_hub_cache
from evalsuite.errors import DataError, first_line
from evalsuite.suites.openllm.assets import ASSETS
from tests.evalsuite.assets_env import empty_machine

REPO = "MixEval/MixEval"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    empty_machine(monkeypatch, tmp_path)
    for variable in ("EVALSUITE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable)
    return tmp_path


def fake_hub(monkeypatch: pytest.MonkeyPatch, snapshot: Path, asked: list[tuple[str, Path, str | None]]) -> None:
    def download(repo: str, *, repo_type: str, cache_dir: Path, allow_patterns: str | None) -> str:
        assert repo_type == "dataset"
        asked.append((repo, cache_dir, allow_patterns))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, repo, timeout: None)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def dataset_info(self: object, repo: str, timeout: float) -> object:
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)


def test_a_pattern_names_shards_in_order(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    shards = [machine / "snapshot" / "MixEval" / f"free_form-{number}.parquet" for number in (1, 2)]
    for path in [*reversed(shards), machine / "snapshot" / "MixEval_Hard" / "free_form.parquet"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    asked: list[tuple[str, Path, str | None]] = []
    fake_hub(monkeypatch, machine / "snapshot", asked)
    asset = Asset("a", "s", "MIT", "rows", (OnHub(REPO, "MixEval/free_form*.parquet"),))
    assert [attempt.paths for attempt in attempts(asset)] == [[], shards]
    assert asked == [(REPO, machine / "hub", "MixEval/free_form*.parquet")]
    with pytest.raises(DataError, match=r"the hub \(no nothing\*\)"):
        assets.find(replace(asset, locations=(OnHub(REPO, "nothing*"),)))


def test_the_hub_s_error_becomes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, OSError("\n401 Client Error\nsee the page\n"))
    with pytest.raises(Absent) as caught:
        hub_datasets.fetch_snapshot(REPO)
    assert str(caught.value) == "401 Client Error"
    with pytest.raises(DataError, match=r"the hub \(401 Client Error\).*hf auth login"):
        assets.find(ASSETS["openllm/gpqa"])


class GatedHub(BaseHTTPRequestHandler):
    """Answers as the hub does for a data set that anyone may look at, and whose files need a request for access."""

    def do_GET(self) -> None:
        if "/tree/" in self.path:
            files = [{"type": "file", "path": "rows.parquet", "size": 1, "oid": "0" * 40}]
            body, status = json.dumps(files).encode(), 200
        elif self.path.startswith("/api/"):
            found = {"id": "a/b", "sha": "0" * 40, "gated": "manual", "siblings": [{"rfilename": "rows.parquet"}]}
            body, status = json.dumps(found).encode(), 200
        else:
            body, status = b"Access to dataset a/b is restricted.", 403
        self.send_response(status)
        if status == 403:
            self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


def test_a_gated_data_set_says_how_to_get_access(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), GatedHub) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        with pytest.raises(Absent, match="on request: ask on its page, then run 'hf auth login'"):
            hub_datasets.fetch_snapshot("a/b")
        server.shutdown()


def test_an_endless_message_is_cut() -> None:
    assert len(first_line(ValueError("x" * 1000))) == 200
    assert first_line(ValueError()) == "ValueError"


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "EVALSUITE_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_means_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    fail_with(monkeypatch, AssertionError("the hub was asked"))
    with pytest.raises(Absent, match=f"{variable} is set"):
        hub_datasets.fetch_snapshot(REPO)


def test_a_read_only_hub_cache_is_not_written(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    assert download_hub_cache() == machine / "hub"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert download_hub_cache() == machine / "cache" / "hub"
