"""Content fingerprints of checkpoint files, cached so that a large file is read once.

A fingerprint is the SHA-256 of the bytes. It is cached by the file's path, size, inode and modification
time in nanoseconds; a file that changes in any of these is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from evalsuite.text import well_formed


def cache_folder() -> Path:
    """Return evalsuite's cache folder: EVALSUITE_CACHE, else the platform's user cache."""
    if chosen := os.environ.get("EVALSUITE_CACHE"):
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("evalsuite")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, from the cache if the file has not changed."""
    real = path.resolve()
    stat = real.stat()
    identity = well_formed(f"{real}\x1f{stat.st_size}\x1f{stat.st_mtime_ns}\x1f{stat.st_ino}")
    # A small file each, which also works in a home folder that machines share; a database there would not.
    known = cache_folder() / "fingerprints" / text_sha256(identity)
    with suppress(OSError, UnicodeDecodeError):
        if re.fullmatch(r"[0-9a-f]{64}", digest := known.read_text("ascii")):
            return digest
    digest = read_sha256(real)
    # Without a cache the file is read every time: slower, but correct.
    with suppress(OSError):
        known.parent.mkdir(parents=True, exist_ok=True)
        partial = known.with_name(f".{known.name}.{secrets.token_hex(4)}")
        partial.write_text(digest, "ascii")
        partial.replace(known)
    return digest


def read_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, read each time, even if its size and time are known."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """Return one fingerprint for several files: of their names and contents, regardless of order and folder."""
    rows = sorted((path.name, file_sha256(path)) for path in paths)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def key_of(text: str) -> int:
    """Return a 64-bit key of a text, the same on every machine and in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
