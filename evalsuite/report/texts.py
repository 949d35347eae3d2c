"""Text from outside made fit for a page: hidden characters become visible, private paths become short."""

from __future__ import annotations

import re
from typing import Any

from evalsuite.text import mapped

_HIDDEN = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)


def visible(text: object) -> str:
    """Replace control and bidirectional characters by marks such as ⟦U+202E⟧, so that no text can look like another."""
    return _HIDDEN.sub(lambda match: f"⟦U+{ord(match[0]):04X}⟧", str(text))


def without_folders(value: Any) -> Any:
    """Return a JSON value in which every absolute path is cut to its last name: the page is sent around."""
    return mapped(value, _without_folder)


def _without_folder(text: str) -> str:
    is_path = re.match(r"(/|~/|[A-Za-z]:\\)[^\s]", text)
    return "…/" + re.split(r"[/\\]", text.rstrip("/\\"))[-1] if is_path else text
