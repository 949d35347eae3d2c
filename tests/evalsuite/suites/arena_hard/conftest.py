"""Fixtures of Arena-Hard's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def recorded(shared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published files, with the mirror set so that the suite finds its data there."""
    folder = shared / "mirror/raw/arena_hard"
    if not folder.is_dir():
        pytest.skip("needs Arena-Hard's files in the mirror")
    monkeypatch.setenv("EVALSUITE_MIRROR", str(shared / "mirror"))
    monkeypatch.setenv("EVALSUITE_OFFLINE", "1")
    return folder
