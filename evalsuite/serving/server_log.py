"""What a server of ours says: a file of its own for each start, read through the handle that it writes to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from evalsuite.errors import StoreError

_TAIL_LINES = 30


class ServerLog:
    """The log of one start. The log before it, of a server that died or of another run's, stays beside it."""

    def __init__(self, path: Path) -> None:
        """Begin a new file at ``path``, the former one becoming ``NAME.1.log``; raises StoreError when that fails."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                path.replace(path.with_suffix(".1.log"))
            self.file: IO[bytes] = path.open("w+b")
            self._said: str | None = None
        except OSError as error:
            raise StoreError(
                f"cannot write {path}: {error.strerror or error}; give a writable folder with --results"
            ) from error

    def text(self) -> str:
        """Return all that was said so far, wherever the file has been moved meanwhile."""
        if self._said is not None:
            return self._said
        # The position belongs to the server too, which writes through the same handle: it is not moved.
        handle = self.file.fileno()
        return os.pread(handle, os.fstat(handle).st_size, 0).decode("utf-8", "replace")

    def close(self) -> None:
        """Let go of the file; what was said can still be read here."""
        if self._said is None:
            self._said = self.text()
            self.file.close()

    def tail(self) -> str:
        """Return the last lines."""
        return "\n".join(self.text().splitlines()[-_TAIL_LINES:])

    def stage(self) -> str:
        """Put the last news of a start in a few words."""
        said = self.text()
        for needle, words in (
            ("Application startup complete", "nearly there"),
            ("KV cache size", "KV cache ready"),
            ("Loading weights took", "weights loaded"),
            ("Initializing a V1 LLM engine", "engine starting"),
            ("non-default args", "reading the config"),
        ):
            if needle in said:
                return words
        return "importing"
