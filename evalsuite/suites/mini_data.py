"""Reading the small original items that ship with the package."""

from __future__ import annotations

import hashlib
from typing import Any

from evalsuite import assets
from evalsuite.errors import DataError
from evalsuite.files import read_json, read_jsonl


def mini_rows(filename: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Read a mini file (``.json`` list or ``.jsonl``) and say what it is.

    Returns the rows in file order and the pin {"sha256", "source": "mini", "pinned": True}: the file
    is part of the installed package. Raises DataError when it is missing or not a list.
    """
    path = assets.mini_path(filename)
    rows = read_jsonl(path) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(rows, list):
        raise DataError(f"{path} is not a JSON list; install evalsuite again")
    return rows, {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "source": "mini", "pinned": True}
