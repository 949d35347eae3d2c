"""Text from outside made fit for a page: hidden characters become visible, private paths become short."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_HIDDEN = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)


def visible(text: object) -> str:
    """Replace control and bidirectional characters by marks such as ⟦U+202E⟧, so that no text can look like another."""
    return _HIDDEN.sub(lambda match: f"⟦U+{ord(match[0]):04X}⟧", str(text))


def without_folders(value: Any) -> Any:
    """Return a JSON value in which every absolute path is cut to its last name: the page is sent around."""
    if isinstance(value, Mapping):
        return {key: without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(inner) for inner in value]
    if isinstance(value, str) and re.match(r"(/|~/|[A-Za-z]:\\)[^\s]", value):
        return "…/" + re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value
