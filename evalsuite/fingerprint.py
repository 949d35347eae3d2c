"""Content fingerprints of checkpoint files, cached so that a large file is read once.

A fingerprint is the SHA-256 of the bytes. It is cached by the file's path, size, inode and modification
time in nanoseconds; a file that changes in any of these is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from evalsuite.text import well_formed


def cache_folder() -> Path:
    """Return evalsuite's cache folder: EVALSUITE_CACHE, else the platform's user cache."""
    chosen = os.environ.get("EVALSUITE_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("evalsuite")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, from the cache if the file has not changed."""
    real = path.resolve()
    stat = real.stat()
    identity = well_formed(f"{real}\x1f{stat.st_size}\x1f{stat.st_mtime_ns}\x1f{stat.st_ino}")
    with _cache() as cache:
        row = cache.execute("SELECT sha256 FROM files WHERE identity = ?", (identity,)).fetchone()
        if row:
            return str(row[0])
        with real.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        cache.execute("INSERT OR REPLACE INTO files (identity, sha256) VALUES (?, ?)", (identity, digest))
        cache.commit()
    return digest


def files_sha256(paths: Iterable[Path]) -> str:
    """Return one fingerprint for several files: of their names and contents, regardless of order and folder."""
    rows = sorted((path.name, file_sha256(path)) for path in paths)
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _cache() -> sqlite3.Connection:
    """Open the fingerprint cache, or an empty in-memory one if the cache folder is not writable."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        cache = sqlite3.connect(folder / "fingerprints.sqlite", timeout=30)
        cache.execute("CREATE TABLE IF NOT EXISTS files (identity TEXT PRIMARY KEY, sha256 TEXT NOT NULL)")
    except (OSError, sqlite3.Error):
        # Without a cache the file is read every time: slower, but correct.
        cache = sqlite3.connect(":memory:")
        cache.execute("CREATE TABLE files (identity TEXT PRIMARY KEY, sha256 TEXT NOT NULL)")
    return cache
