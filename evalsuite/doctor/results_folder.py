"""The results folder: whether it is writable, its store is intact, and its file system suits SQLite."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from evalsuite.doctor.finding import Finding, fault, ok, warning
from evalsuite.files import NETWORK_FILE_SYSTEMS, file_system
from evalsuite.text import plural

_QUICK_BYTES = 256 << 20
"""A store up to this size is checked in well under a second."""


def check_results(results: Path, *, thorough: bool, store: Path | None = None) -> list[Finding]:
    """Check the folder and its store, in ``store`` if it is not in the folder.

    ``thorough`` also reads a large store from end to end.
    """
    folder = results if store is None else store
    stored = _check_store(folder / "store.sqlite", thorough=thorough)
    return [_check_writable(results), *stored, *_check_file_system(folder)]


def _check_writable(results: Path) -> Finding:
    about, remedy, existing = str(results), "give a writable folder with --results", existing_folder(results)
    if not existing.is_dir():
        return fault("results", about, f"{existing} is a file", remedy)
    probe = existing / f".evalsuite-{os.getpid()}"
    try:
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        return fault("results", about, f"{existing} is not writable ({error.strerror or error})", remedy)
    return ok("results", about, "writable")


def existing_folder(path: Path) -> Path:
    """Return a path, or the nearest of its parents that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _check_store(path: Path, *, thorough: bool) -> list[Finding]:
    if not path.is_file() or (not thorough and path.stat().st_size > _QUICK_BYTES):
        return []
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as db:
            state = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
            # Another process may be creating the store right now.
            exists = db.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'completions'").fetchone()[0]
            count = db.execute("SELECT COUNT(*) FROM completions").fetchone()[0] if exists else 0
    except sqlite3.OperationalError as error:
        return [warning("store", str(path), f"cannot be read now ({error})")]
    except sqlite3.Error as error:
        state, count = str(error), 0
    if state != "ok":
        return [fault("store", str(path), f"damaged ({state})", "move it away and run again")]
    return [ok("store", str(path), f"intact, {plural(count, 'answer')}")]


def _check_file_system(folder: Path) -> list[Finding]:
    kind = file_system(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        message = f"on a network file system ({kind}), where the store does not work"
        return [fault("store", str(folder), message, "give a folder on this machine's disk with --store")]
    return []
