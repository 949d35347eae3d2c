"""results/store.sqlite: a cache of server answers, keyed by the content of the request.

A row is one completion (or next-token scores), committed before the answer is returned, so that killing the process
loses at most the requests in flight. Rows are never updated: the first answer to a request is kept.

Processes that share a store do not send the same request at once: the sender holds a claim on it until it is
answered. A claim is valid while its owner holds a file lock, which the kernel drops when the owner exits.

Locks do not hold on network file systems, where two machines would damage the file: there the results folder gets a
copy (``LocalStore``) of a store on this machine's disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import filelock

from evalsuite.errors import BusyError, DataError, EvalsuiteError, StoreError
from evalsuite.files import NETWORK_FILE_SYSTEMS, file_system, temporary_for
from evalsuite.fingerprint import text_sha256
from evalsuite.lease import Lease

SCHEMA_VERSION = 1
ANSWERED_BY = "_of"
"""The last field of a saved answer: the model that gave it, as the key has it. Not part of the answer."""
_BUSY_TIMEOUT_S, _EXCLUSIVE_TIMEOUT_S = 60.0, 5.0
_COPY_EVERY_S = 300.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    created_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) WITHOUT ROWID
"""
_CLAIMS_SCHEMA = """
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, taken_at REAL NOT NULL) WITHOUT ROWID
"""
_CLAIM_S = 3600.0
"""A claim this old is taken over even from a live owner, which may be stopped for good."""

_INSERT = "INSERT OR IGNORE INTO completions (key, value) VALUES (?, ?)"
_REPLACE = "INSERT OR REPLACE INTO completions (key, value) VALUES (?, ?)"
_MARKED = "FROM completions WHERE substr(value, ?) = ?"
_INSERT_CLAIM = "INSERT OR IGNORE INTO claims (key, owner, taken_at) VALUES (?, ?, ?)"
_DELETE_CLAIM = "DELETE FROM claims WHERE key = ? AND owner = ?"


def content_key(question: Mapping[str, Any]) -> str:
    """Return the key of a request: SHA-256 of its canonical JSON, as 64 hex digits."""
    text = json.dumps(question, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text_sha256(text)


def model_mark(fingerprint: str | None) -> str:
    """Return what marks the answers of a model (``ANSWERED_BY``)."""
    return (fingerprint or "")[:16]


class AnswerStore(Protocol):
    """Where a client looks up and saves answers: a ``Store``, or several behind one interface."""

    def get(self, key: str) -> dict[str, Any] | None: ...

    def put(self, key: str, value: Mapping[str, Any]) -> None: ...

    def claim(self, key: str) -> bool: ...

    def release(self, key: str) -> None: ...


class Store:
    """Answers by content key; safe for threads and for several processes."""

    def __init__(self, path: Path, *, exclusive: bool = False) -> None:
        """Open or create the store; ``exclusive`` keeps every other process out until it is closed.

        Raises StoreError if the folder is not writable or on a network file system, BusyError if another process has
        the store to itself.
        """
        self.path = path
        self._lock = threading.Lock()
        self._claimed: set[str] = set()
        if (kind := file_system(path)) in NETWORK_FILE_SYSTEMS:
            raise StoreError(
                f"{path.parent} is on a network file system ({kind}), where a store breaks; give a folder on this "
                "machine's disk with --store, and the results folder gets a copy of it"
            )
        timeout_s = _EXCLUSIVE_TIMEOUT_S if exclusive else _BUSY_TIMEOUT_S
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Switching to the write-ahead log does not wait for other processes, so stores are opened one at a time.
            with filelock.FileLock(path.with_name(f".{path.name}.opening"), timeout=timeout_s):
                self._db = _open_database(path, timeout_s, exclusive=exclusive)
            self._owner = secrets.token_hex(8)
            self._alive = filelock.FileLock(self._lock_path(self._owner), timeout=0)
            self._alive.acquire()
            self._delete_dead_claims()
            self._inode = path.stat().st_ino
        except (OSError, sqlite3.Error, filelock.Timeout) as error:
            raise _failure("open", path, error) from error

    @contextlib.contextmanager
    def _database(self, verb: str) -> Iterator[sqlite3.Connection]:
        """Hold the lock over the database.

        Raises StoreError for what SQLite or the file system report, BusyError while another process writes.
        """
        with self._lock:
            try:
                self.require_file()
                yield self._db
            except (sqlite3.Error, OSError) as error:
                raise _failure(verb, self.path, error) from error

    def require_file(self) -> None:
        """Raise StoreError unless the open database is still at its path: what is written elsewhere is lost."""
        try:
            is_there = self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            is_there = False
        if not is_there:
            raise StoreError(f"{self.path} was deleted or replaced while in use; its answers are lost, run again")

    def get(self, key: str) -> dict[str, Any] | None:
        with self._database("read") as db:
            row = db.execute("SELECT value FROM completions WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            value = json.loads(row[0])
        except (ValueError, TypeError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise StoreError(f"{self.path} contains an unreadable answer; move it away and run again")
        value.pop(ANSWERED_BY, None)
        return value

    def forget(self, model: str, *, dry: bool) -> int:
        """Delete the answers marked as those of ``model`` (ANSWERED_BY), or with ``dry`` none; return how many."""
        mark = f'"{ANSWERED_BY}":{json.dumps(model)}}}'
        with self._database("write") as db:
            if dry:
                return int(db.execute(f"SELECT COUNT(*) {_MARKED}", (-len(mark), mark)).fetchone()[0])
            return db.execute(f"DELETE {_MARKED}", (-len(mark), mark)).rowcount

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Save an answer; returns once it is committed. The first answer to a request is kept."""
        # ASCII, because an answer may contain a lone surrogate, which UTF-8 cannot encode.
        text = json.dumps(value, separators=(",", ":"))
        with self._database("write") as db:
            if key not in self._claimed:
                db.execute(_INSERT, (key, text))
                return
            with _transaction(db):
                db.execute(_INSERT, (key, text))
                db.execute(_DELETE_CLAIM, (key, self._owner))
            self._claimed.discard(key)

    def replace(self, key: str, value: Mapping[str, Any]) -> None:
        """Save an answer instead of an earlier one."""
        with self._database("write") as db:
            db.execute(_REPLACE, (key, json.dumps(value, separators=(",", ":"))))

    def merge(self, others: Iterable[Path], *, keep_first: bool = False) -> int:
        """Add the answers of other stores in one transaction; return how many are new.

        Raises DataError, and adds nothing, where one has another answer to the same request; with ``keep_first`` the
        earlier one stays.
        """
        n_new = 0
        with self._database("write") as db, _transaction(db):
            for other, key, text in ((path, *answer) for path in others for answer in _answers_in(path)):
                if db.execute(_INSERT, (key, text)).rowcount:
                    n_new += 1
                elif not keep_first and _differs(db, key, text):
                    raise DataError(
                        f"{other} has a different answer from {self.path} to the same request ({key[:12]}); "
                        "nothing was merged; pass --keep-first to keep the earlier one"
                    )
        return n_new

    def claim(self, key: str) -> bool:
        """Claim a request for this process until it is answered or released; False while another process has it."""
        now = time.time()
        with self._database("write") as db:
            if db.execute(_INSERT_CLAIM, (key, self._owner, now)).rowcount:
                self._claimed.add(key)
                return True
            row = db.execute("SELECT owner, taken_at FROM claims WHERE key = ?", (key,)).fetchone()
            if row is None:
                return False
            owner, taken_at = row
            if owner == self._owner:
                return True
            if self._is_alive(owner) and now - taken_at < _CLAIM_S:
                return False
            take = "UPDATE claims SET owner = ?, taken_at = ? WHERE key = ? AND owner = ?"
            if db.execute(take, (self._owner, now, key, owner)).rowcount:
                self._claimed.add(key)
                return True
            return False

    def release(self, key: str) -> None:
        """Release a claim without an answer; does nothing without a claim."""
        with self._lock:
            if key in self._claimed:
                self._claimed.discard(key)
                # A claim that cannot be deleted expires with its owner.
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute(_DELETE_CLAIM, (key, self._owner))

    def _lock_path(self, owner: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{owner}")

    def _delete_dead_claims(self) -> None:
        """Delete the claims of processes that were killed."""
        for (owner,) in self._db.execute("SELECT DISTINCT owner FROM claims").fetchall():
            if owner != self._owner and not self._is_alive(owner):
                self._db.execute("DELETE FROM claims WHERE owner = ?", (owner,))

    def _is_alive(self, owner: str) -> bool:
        """Return whether the owner of a claim is running; the lock file of a dead one is deleted."""
        path = self._lock_path(owner)
        if not path.exists():
            return False
        probe = filelock.FileLock(path, timeout=0)
        try:
            with probe:
                path.unlink(missing_ok=True)
        except filelock.Timeout:
            return True
        return False

    def check(self) -> None:
        """Raise StoreError unless the file passes SQLite's integrity check."""
        with self._database("read") as db:
            verdict = str(db.execute("PRAGMA integrity_check").fetchone()[0]).splitlines()[0]
        if verdict != "ok":
            raise StoreError(f"{self.path} is damaged ({verdict}); move it away and run again")

    def __len__(self) -> int:
        with self._database("read") as db:
            return int(db.execute("SELECT COUNT(*) FROM completions").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            with contextlib.suppress(sqlite3.Error):
                if self._claimed:
                    self._db.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))
            self._db.close()
            self._lock_path(self._owner).unlink(missing_ok=True)
            self._alive.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class LocalStore(Store):
    """A store on this machine's disk for one process, which keeps a copy of it elsewhere, such as on a shared disk.

    The copy is read when the store is opened, and written every five minutes and when it is closed.
    """

    def __init__(self, path: Path, copy: Path, *, every_s: float = _COPY_EVERY_S) -> None:
        """Open the store; raises BusyError while another process works on the same copy."""
        try:
            lease = Lease.take(copy.with_name(f".{copy.name}.lease"))
        except OSError as error:
            raise _failure("write", copy, error) from error
        if lease is None:
            raise BusyError(f"another process is writing {copy}; run again when it has ended")
        self._copy, self._lease, self._n_copied = copy, lease, -1
        self._closing = threading.Event()
        try:
            super().__init__(path, exclusive=True)
            if copy.exists():
                self.merge([copy], keep_first=True)
        except BaseException:
            lease.release()
            raise
        self._copier = threading.Thread(target=self._keep_copying, args=(every_s,), daemon=True, name="store copy")
        self._copier.start()

    def copy(self) -> None:
        """Bring the copy up to date; raises StoreError where it cannot be written."""
        if (n := self._db.total_changes) == self._n_copied:
            return
        snapshot = self.path.with_name(f".{self.path.name}.copy")
        try:
            with self._database("read") as db, contextlib.closing(sqlite3.connect(snapshot)) as taken:
                db.backup(taken)
                # Without a write-ahead log one file is the whole store.
                taken.execute("PRAGMA journal_mode=DELETE")
            temporary = temporary_for(self._copy)
            shutil.copyfile(snapshot, temporary)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(self._copy)
            self._n_copied = n
        except (OSError, sqlite3.Error) as error:
            raise _failure("copy to", self._copy, error) from error
        finally:
            snapshot.unlink(missing_ok=True)

    def _keep_copying(self, every_s: float) -> None:
        while not self._closing.wait(every_s):
            # The copy at the end says what is wrong, if it still is.
            with contextlib.suppress(EvalsuiteError):
                self.copy()

    def close(self) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self._copier.join()
        try:
            self.copy()
        finally:
            super().close()
            self._lease.release()


def open_store(results: Path, folder: Path | None) -> Store:
    """Open a results folder's store; in ``folder``, on this machine's disk, where it cannot be among the results."""
    name = "store.sqlite"
    return Store(results / name) if folder is None else LocalStore(folder / name, results / name)


class AskAgain:
    """A store whose earlier answers are not used, but replaced as new ones come."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._new: set[str] = set()

    def get(self, key: str) -> dict[str, Any] | None:
        return self._store.get(key) if key in self._new else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        self._store.replace(key, value)
        self._new.add(key)

    def claim(self, key: str) -> bool:
        return self._store.claim(key)

    def release(self, key: str) -> None:
        self._store.release(key)


@contextlib.contextmanager
def opened_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a store without writing to it; raises DataError."""
    with contextlib.ExitStack() as stack:
        try:
            if not (read := path).is_file():
                raise DataError(f"{path} does not exist; give a results folder with a store")
            if file_system(path) in NETWORK_FILE_SYSTEMS:
                # Its log may have to be read in, which needs locks.
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evalsuite-")))
                for part in filter(Path.exists, (path, path.with_name(f"{path.name}-wal"))):
                    shutil.copyfile(part, folder / part.name)
                read = folder / path.name
            # Without a log nothing is written to it, and a folder that may only be read can be.
            has_log = read.with_name(f"{read.name}-wal").exists()
            mode = "immutable=1" if not has_log else "mode=ro" if read is path else "mode=rw"
            db = sqlite3.connect(f"{read.absolute().as_uri()}?{mode}", uri=True, timeout=_BUSY_TIMEOUT_S)
            yield stack.enter_context(contextlib.closing(db))
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"cannot read {path} ({error}); restore it, or leave its folder out") from error


def _answers_in(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (key, value) of every answer in a store; raises DataError where it cannot be read."""
    with opened_to_read(path) as db:
        yield from db.execute("SELECT key, value FROM completions")


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what is written within, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # SQLite has already rolled back on a full disk.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _differs(db: sqlite3.Connection, key: str, text: str) -> bool:
    (known,) = db.execute("SELECT value FROM completions WHERE key = ?", (key,)).fetchone()
    # What a version before the marks has saved is the same answer.
    unmarked = [{**json.loads(each), ANSWERED_BY: None} for each in (known, text)] if known != text else [None, None]
    return bool(unmarked[0] != unmarked[1])


def _open_database(path: Path, timeout_s: float, *, exclusive: bool) -> sqlite3.Connection:
    """Open the database, create its tables if it is new, and check its schema version."""
    db = sqlite3.connect(path, timeout=timeout_s, check_same_thread=False, isolation_level=None)
    if exclusive:
        # Before the log is opened, so that it needs no memory shared with others.
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
    db.execute("PRAGMA journal_mode=WAL")
    # A process that dies loses nothing; a power cut may lose the last answers but does not damage the file.
    db.execute("PRAGMA synchronous=NORMAL")
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version not in (0, SCHEMA_VERSION):
        db.close()
        raise StoreError(
            f"{path} was written by another version of evalsuite (schema {version}, expected {SCHEMA_VERSION}); "
            "give another folder with --results"
        )
    if version == 0:
        db.execute(_SCHEMA)
        db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    db.execute(_CLAIMS_SCHEMA)
    return db


def _failure(verb: str, path: Path, error: Exception) -> EvalsuiteError:
    message = str(error)
    if isinstance(error, filelock.Timeout) or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
        return BusyError(f"cannot {verb} {path}: another process has locked it; run again when that process has ended")
    remedy = "give a writable folder with --results"
    if "full" in message or "No space" in message or "I/O" in message:
        remedy = "check the disk, free some space and run again"
    return StoreError(f"cannot {verb} {path}: {message}; finished answers are kept, {remedy}")
