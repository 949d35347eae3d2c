"""Reading the small original items that ship with each suite."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from evalsuite.errors import DataError
from evalsuite.files import read_json, read_jsonl


def mini_rows(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Read a suite's mini file (a ``.json`` list or ``.jsonl``).

    Returns the rows in file order and their pin {"sha256", "source": "mini", "pinned": True}: the file
    is part of the installed package. Raises DataError when it is missing or not a list.
    """
    rows = read_jsonl(path) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(rows, list):
        raise DataError(f"{path} is not a JSON list; reinstall evalsuite")
    return rows, {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "source": "mini", "pinned": True}
