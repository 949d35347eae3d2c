"""results/store.sqlite: the one place that remembers what a server answered.

A row is one completion (or one next-token question), keyed by the content of the question:
the model's fingerprint, the prompt and the sampling. It is committed before anybody sees the
answer, so that killing the process loses at most the requests in flight. SQLite's write-ahead
log makes it safe for several processes; nothing is ever updated, so two of them that answer
the same question keep the first answer.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from evalsuite.errors import StoreError

SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) WITHOUT ROWID
"""


def content_key(question: Mapping[str, Any]) -> str:
    """Return the key of a question: SHA-256 of its canonical JSON, as 64 hex digits."""
    text = json.dumps(question, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Store:
    """Answers by content key; safe for threads and for several processes."""

    def __init__(self, path: Path) -> None:
        """Open or create the store; raises StoreError where the folder cannot be written."""
        self.path = path
        self._lock = threading.Lock()
        self.hits = 0
        self.writes = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Turning the write-ahead log on does not wait for other processes; starting one by one does.
            with filelock.FileLock(path.with_name(f".{path.name}.opening"), timeout=_BUSY_TIMEOUT_S):
                self._db = _opened(path)
        except (OSError, sqlite3.Error, filelock.Timeout) as error:
            raise StoreError(_cannot("open", path, error)) from error

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the remembered answer, or None."""
        with self._lock:
            try:
                row = self._db.execute("SELECT value FROM completions WHERE key = ?", (key,)).fetchone()
            except sqlite3.Error as error:
                raise StoreError(_cannot("read", self.path, error)) from error
        if row is None:
            return None
        self.hits += 1
        value: dict[str, Any] = json.loads(row[0])
        return value

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Remember an answer; returns once it is committed. The first answer to a question stays."""
        # ASCII, because an answer may hold half of a surrogate pair, which UTF-8 cannot.
        text = json.dumps(value, separators=(",", ":"))
        with self._lock:
            try:
                self._db.execute("INSERT OR IGNORE INTO completions (key, value) VALUES (?, ?)", (key, text))
            except sqlite3.Error as error:
                raise StoreError(_cannot("write", self.path, error)) from error
        self.writes += 1

    def check(self) -> None:
        """Raise StoreError unless SQLite finds the file intact."""
        with self._lock:
            verdict = self._db.execute("PRAGMA integrity_check").fetchone()[0]
        if verdict != "ok":
            raise StoreError(f"{self.path} is damaged ({verdict}); move it away and run again")

    def __len__(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT COUNT(*) FROM completions").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _opened(path: Path) -> sqlite3.Connection:
    """Open the file, make it a store if it is new, and check that it is one of ours."""
    db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, check_same_thread=False, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    # A process that dies loses nothing; a power cut may lose the last answers but never the file.
    db.execute("PRAGMA synchronous=NORMAL")
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version not in (0, SCHEMA_VERSION):
        db.close()
        raise StoreError(
            f"{path} was written by another evalsuite (schema {version}, this one reads {SCHEMA_VERSION}); "
            "give another folder with --results"
        )
    if version == 0:
        db.execute(_SCHEMA)
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    return db


def _cannot(verb: str, path: Path, error: Exception) -> str:
    remedy = "free some space and run again" if "full" in str(error) else "give a writable folder with --results"
    return f"cannot {verb} {path}: {error}; nothing that was finished is lost, {remedy}"
