"""The log of a managed server: one file per start, read through the handle that the server writes to."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from evalsuite.files import writing

_TAIL_LINES = 30


class ServerLog:
    """The log of one start; the previous log is kept as ``NAME.1.log``."""

    def __init__(self, path: Path) -> None:
        """Create the file at ``path`` after renaming the previous one; raises StoreError if that fails."""
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file: IO[bytes] = os.fdopen(_new_file(path), "w+b")
            self._content: str | None = None

    def text(self) -> str:
        """Return the log so far, even if the file was renamed meanwhile."""
        if self._content is not None:
            return self._content
        # pread, because the server writes through the same handle and shares its position.
        handle = self.file.fileno()
        return os.pread(handle, os.fstat(handle).st_size, 0).decode("utf-8", "replace")

    def close(self) -> None:
        """Close the file; its content is kept."""
        if self._content is None:
            self._content = self.text()
            self.file.close()

    def tail(self) -> str:
        return "\n".join(self.text().splitlines()[-_TAIL_LINES:])

    def stage(self) -> str:
        """Return a short description of the current stage of the start."""
        log = self.text()
        for needle, stage in (
            ("Application startup complete", "almost ready"),
            ("KV cache size", "KV cache ready"),
            ("Loading weights took", "weights loaded"),
            ("Initializing a V1 LLM engine", "engine starting"),
            ("non-default args", "reading the config"),
        ):
            if needle in log:
                return stage
        return "importing"


def _new_file(path: Path) -> int:
    """Create the file and return its descriptor; a file of that name, also one just made by another, is renamed."""
    while True:
        try:
            return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o666)
        except FileExistsError:
            with suppress(FileNotFoundError):
                path.replace(path.with_suffix(".1.log"))
