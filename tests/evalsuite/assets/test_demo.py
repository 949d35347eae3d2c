"""The demo checkpoint: made once, whole or not at all. The conversion itself is a stub here."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evalsuite import assets
from evalsuite.assets import demo
from evalsuite.assets.asset import Found
from evalsuite.errors import DataError
from tests.evalsuite.assets_env import empty_machine


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    empty_machine(monkeypatch, tmp_path)
    return tmp_path


def stub(monkeypatch: pytest.MonkeyPatch, convert: Callable[[Path, Path], None], *, pinned: bool = True) -> None:
    found = Found("demo/model", Path("model.gguf"), "wheel", "0" * 64, pinned, note="" if pinned else "other bytes")
    monkeypatch.setattr(demo, "find", lambda asset: found)
    monkeypatch.setattr(demo, "_convert", convert)


def test_it_is_converted_once_and_left_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []

    def convert(gguf: Path, folder: Path) -> None:
        calls.append(gguf)
        (folder / "model.safetensors").write_text("weights")
        (folder / "model.safetensors").chmod(0o600)

    stub(monkeypatch, convert)
    steps: list[str] = []
    folder = assets.demo_checkpoint(on_step=steps.append)
    assert assets.demo_checkpoint(on_step=steps.append) == folder
    assert (len(calls), len(steps)) == (1, 2)
    assert {f.name for f in folder.iterdir()} == {"model.safetensors", "evalsuite.json"}
    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644


def test_a_new_recipe_makes_a_new_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, lambda gguf, folder: None)
    first = assets.demo_checkpoint()
    monkeypatch.setattr(demo, "CONVERSION_VERSION", demo.CONVERSION_VERSION + 1)
    assert assets.demo_checkpoint() != first


def test_a_conversion_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, machine: Path) -> None:
    def convert(gguf: Path, folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError(28, "No space left on device")

    stub(monkeypatch, convert)
    with pytest.raises(DataError, match=r"No space left.*EVALSUITE_CACHE"):
        assets.demo_checkpoint()
    assert not list((machine / "cache/demo").iterdir())


def test_the_converter_s_last_line_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nValueError: unknown architecture\n")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: failed)
    with pytest.raises(DataError, match=r"\(ValueError: unknown architecture\)"):
        demo._convert(tmp_path / "x.gguf", tmp_path)


def test_a_damaged_model_is_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    stub(monkeypatch, lambda gguf, folder: pytest.fail("converted"), pinned=False)
    with pytest.raises(DataError, match="damaged"):
        assets.demo_checkpoint()


def test_importing_assets_is_light() -> None:
    heavy = {"torch", "transformers", "datasets", "nltk", "pyarrow", "pandas", "huggingface_hub", "lm_eval"}
    code = f"import sys, evalsuite.assets; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
