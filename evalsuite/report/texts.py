"""Text from outside made fit for a page: hidden characters become visible, private paths become short."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from evalsuite.text import mapped

_HIDDEN = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)
_PATH = re.compile(
    r"""(?:file://(?=/)|(?<![\w.~/\\<…])(?!//))(?:~?/(?:[^\s/"'`,;:()\[\]{}<>|]+/+)+|[A-Za-z]:\\(?:[^\\\s"'`,;:<>|]+\\)*)"""
    r"""(?P<last>[^\s/\\"'`,;:()\[\]{}<>|]*)"""
)
"""An absolute path with at least one folder, anywhere in a sentence; not the path of a URL, nor "and/or"."""
_PUNCTUATION = re.compile(r"""[:;,"'()\n]|\.\s""")


def visible(text: object) -> str:
    """Replace control and bidirectional characters by marks such as ⟦U+202E⟧, so that no text can look like another."""
    return _HIDDEN.sub(lambda match: f"⟦U+{ord(match[0]):04X}⟧", str(text))


def shorten(text: str, length: int) -> str:
    """Cut a text to a length in its middle: the end is what tells names apart.

    >>> shorten("llama-3.1-8b-instruct-rewild-250k", 16)
    'llama-3…ild-250k'
    """
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def without_folders(value: object, folders: Sequence[Path] = ()) -> Any:
    """Return a JSON value in which every absolute path is cut to its last name: the page is sent around.

    Paths inside one of ``folders`` become relative to it. A folder whose name holds spaces is only known whole as one
    of these, or where the text is nothing but a path.
    """
    return mapped(value, partial(without_paths, folders=folders))


def without_paths(text: str, folders: Sequence[Path] = ()) -> str:
    """Cut the absolute paths of a text to their last names; see :func:`without_folders`.

    >>> without_paths("not found in /home/ada/hub/models, or https://host/a/b")
    'not found in …/models, or https://host/a/b'
    """
    if "/" not in text and "\\" not in text:
        return text
    is_path = re.match(r"(/|~/|[A-Za-z]:\\)[^\s]", text) and not _PUNCTUATION.search(text)
    if is_path and not any(text.startswith(f"{folder}/") for folder in folders):
        return "…/" + re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    for folder in folders:
        text = text.replace(f"{folder}/", "").replace(f"{folder.absolute()}/", "")
    for private in _private_folders():
        text = re.sub(rf"{re.escape(private)}(?![\w-])", f"/…/{private.rpartition('/')[2].replace(' ', '_')}", text)
    return _PATH.sub(_last_name, text)


@lru_cache(maxsize=1)
def _private_folders() -> tuple[str, ...]:
    """Return the folders of this machine whose names tell whose it is and may hold spaces."""
    known = {str(Path.home()), str(Path.cwd())} - {"/"}
    return tuple(sorted(known, key=len, reverse=True))


def _last_name(match: re.Match[str]) -> str:
    return "…/" + (match["last"] or re.split(r"[/\\]", match[0].rstrip("/\\"))[-1])
