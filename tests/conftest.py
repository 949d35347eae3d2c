"""Fixtures for every test."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

# A background shell starts its programs with SIGINT ignored, and they hand that on to the programs they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the data mirror and the published figures, which stands beside the project on some machines."""
    if not (SHARED / "mirror").is_dir() or not (SHARED / "reference").is_dir():
        pytest.skip(f"needs the data mirror and the published figures in {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def cases(shared) -> Path:
    """The folder of inputs that once gave wrong results, beside the mirror."""
    if not (shared / "cases").is_dir():
        pytest.skip(f"needs the recorded cases in {shared / 'cases'}")
    return shared / "cases"


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that failed are tried again at once."""
    from evalsuite.serving import connection

    monkeypatch.setattr(connection, "_backoff_s", lambda _: 0.0)
