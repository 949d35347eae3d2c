"""Writing result files so that a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from evalsuite.errors import DataError, StoreError


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to a temporary name, sync it, and rename it into place."""
    write_pieces(path, (text,))


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """Write a text that is too large to hold as one, in the same way."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(path)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.{_machine()}-{os.getpid()}-", dir=path.parent)
        try:
            # An answer may hold half of a surrogate pair; written as \\udXXX it is valid in every JSON reader.
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as out:
                out.writelines(pieces)
                out.flush()
                os.fsync(out.fileno())
            # mkstemp makes the file private; results are for the group that reads the folder.
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; give a writable folder with --results"
        ) from error


def name_of_now() -> str:
    """Return a folder's name that tells the time and occurs once, for what is set aside."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}"


@lru_cache(maxsize=1)
def _machine() -> str:
    """Return what tells this machine's processes from those of others that share the folder."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _remove_left_behind(path: Path) -> None:
    """Remove half-written versions of ``path`` whose writers were killed on this machine."""
    begin = f".{path.name}.{_machine()}-"
    for other in [found for found in path.parent.iterdir() if found.name.startswith(begin)]:
        writer = other.name.removeprefix(begin).partition("-")[0]
        if writer.isdecimal() and not psutil.pid_exists(int(writer)):
            with suppress(OSError):
                other.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document, indented, without NaN (a missing figure is null)."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line."""
    write_pieces(path, (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


@contextmanager
def reading_recorded(source: Path) -> Iterator[None]:
    """Turn whatever keeps a file of the user's from being looked at (rights, a name too long) into a DataError."""
    try:
        yield
    except OSError as error:
        at_fault = error.filename or source
        raise DataError(f"cannot read {at_fault}: {error.strerror or error}; give what you may read") from error


def exists(path: Path) -> bool:
    """Whether there is such a path; what is too long to be one is none. Raises OSError where rights are missing."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def read_json(path: Path) -> Any:
    """Read a JSON document; raises DataError that names the file and the fault."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); give a file in the benchmark's own format") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; raises DataError that names the file and the line."""
    rows: list[dict[str, Any]] = []
    number = 0
    try:
        # Line by line from bytes: a text file decodes ahead, so that a fault would be found lines before its own.
        with path.open("rb") as lines:
            for line in lines:
                number += 1
                if not line.strip():
                    continue
                row = json.loads(line.decode("utf-8"))
                if not isinstance(row, dict):
                    raise DataError(f"{path} line {number} is not a JSON object")
                rows.append(row)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} line {number} is not JSON ({error})") from error
    return rows
