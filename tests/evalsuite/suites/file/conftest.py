"""A benchmark's file in a temporary folder, and a registry that forgets it afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalsuite.suites import registry

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    registry._IN_FILES.clear()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a benchmark and its rows; keywords are keys of the YAML."""

    def write_file(score: Any, rows: Sequence[Mapping[str, Any]], **keys: Any) -> Path:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        path = tmp_path / "mine.yaml"
        document = {"name": "mine", "prompts": "rows.jsonl", "score": score, **keys}
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    return write_file
