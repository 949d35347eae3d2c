"""An empty machine for the tests of assets: no mirror, no hub, no PyPI, nothing cached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FORGET = (
    "EVALSUITE_MIRROR",
    "EVALSUITE_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "NLTK_DATA",
    "TRANSFORMERS_OFFLINE",
)


def empty_machine(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Point every variable into ``folder`` and switch the network off; returns the mirror's folder (not yet there)."""
    for name in FORGET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("EVALSUITE_CACHE", str(folder / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("EVALSUITE_OFFLINE", "1")
    return folder / "mirror"


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_snapshot(cache: Path, repo: str, files: dict[str, bytes], revision: str = "a" * 40) -> Path:
    """Write a data set into a hub cache as the hub client does: blobs, and links to them in the snapshot."""
    folder = cache / f"datasets--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(revision)
    (folder / "blobs").mkdir(exist_ok=True)
    snapshot = folder / "snapshots" / revision
    for number, (name, data) in enumerate(files.items()):
        blob = folder / "blobs" / f"{number:040d}"
        blob.write_bytes(data)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    return snapshot
