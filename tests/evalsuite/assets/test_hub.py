"""Asking the hub, with the hub's client replaced."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest

from evalsuite import assets
from evalsuite.assets import hub
from evalsuite.assets.locations import Absent, download_hub_cache
from tests.evalsuite.assets_env import empty_machine

REPO = "MixEval/MixEval"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    empty_machine(monkeypatch, tmp_path)
    for variable in ("EVALSUITE_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable)
    return tmp_path


def fake_hub(monkeypatch: pytest.MonkeyPatch, names: list[str], fetched: list[tuple[str, str, Path]]) -> None:
    def download(repo: str, name: str, *, repo_type: str, cache_dir: Path) -> str:
        assert repo_type == "dataset"
        fetched.append((repo, name, cache_dir))
        return f"/snapshot/{name}"

    info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in names])
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, repo, timeout: info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def dataset_info(self: object, repo: str, timeout: float) -> object:
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)


def test_a_pattern_names_shards_in_order(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    fetched: list[tuple[str, str, Path]] = []
    names = [
        "README.md",
        "MixEval/free_form-2.parquet",
        "MixEval/free_form-1.parquet",
        "MixEval_Hard/free_form.parquet",
    ]
    fake_hub(monkeypatch, names, fetched)
    paths = hub.fetch_files(REPO, "MixEval/free_form*.parquet")
    assert [str(path) for path in paths] == [f"/snapshot/{names[2]}", f"/snapshot/{names[1]}"]
    assert {cache for _, _, cache in fetched} == {machine / "hub"}
    with pytest.raises(Absent, match="no file"):
        hub.fetch_files(REPO, "nothing*")


def test_the_hub_s_error_becomes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, OSError("\n401 Client Error\nsee the page\n"))
    with pytest.raises(Absent) as caught:
        hub.fetch_snapshot(REPO)
    assert str(caught.value) == "401 Client Error"
    reason = assets.datasets_available("Idavidrein/gpqa")
    assert reason is not None
    assert "(401 Client Error)" in reason
    assert "hf auth login" in reason


def test_an_endless_message_is_cut() -> None:
    assert len(hub.one_line(ValueError("x" * 1000))) == 200
    assert hub.one_line(ValueError()) == "ValueError"


def test_a_gated_set_is_told_from_an_open_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, ["README.md"], [])

    def auth_check(repo: str, *, repo_type: str) -> None:
        if repo == "Idavidrein/gpqa":
            raise PermissionError("Access to this data set is restricted")

    monkeypatch.setattr(huggingface_hub, "auth_check", auth_check)
    assert hub.why_not_on_hub("TAUR-Lab/MuSR") is None
    assert hub.why_not_on_hub("Idavidrein/gpqa") == "Access to this data set is restricted"


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "EVALSUITE_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_means_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    fail_with(monkeypatch, AssertionError("the hub was asked"))
    with pytest.raises(Absent, match=f"{variable} is set"):
        hub.files_on_hub(REPO)


def test_a_read_only_hub_cache_is_not_written(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    assert download_hub_cache() == machine / "hub"
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert download_hub_cache() == machine / "cache" / "hub"
