"""Fixtures for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the data mirror and the published figures, which stands beside the project on some machines."""
    if not (SHARED / "mirror").is_dir() or not (SHARED / "reference").is_dir():
        pytest.skip(f"needs the data mirror and the published figures in {SHARED}")
    return SHARED
