"""Atomic writes, and readers that name the file and the fault."""

from __future__ import annotations

import errno
import hashlib
import json
import math
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
    """Write a text given in pieces, as :func:`write_text` does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.{_machine()}-{os.getpid()}-", dir=path.parent)
        try:
            # An answer may contain a lone surrogate; written as \\udXXX it is valid for every JSON reader.
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as out:
                out.writelines(pieces)
                out.flush()
                os.fsync(out.fileno())
            # mkstemp makes the file private; results should be readable by others.
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}; give a writable folder with --results"
        ) from error


def timestamp() -> str:
    """Return the time and process id as a unique folder name, for files that are moved aside."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}"


@lru_cache(maxsize=1)
def _machine() -> str:
    """Return a short hash of the host name, as several machines may share the folder."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _remove_stale(path: Path) -> None:
    """Remove temporary files of ``path`` whose writers were killed on this machine."""
    prefix = f".{path.name}.{_machine()}-"
    for other in [each for each in path.parent.iterdir() if each.name.startswith(prefix)]:
        pid = other.name.removeprefix(prefix).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            with suppress(OSError):
                other.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document, indented, without NaN (missing figures are null)."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line."""
    write_pieces(path, (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


@contextmanager
def reading_recorded(source: Path) -> Iterator[None]:
    """Convert an OSError on a user's file (permissions, a name too long) into a DataError."""
    try:
        yield
    except OSError as error:
        path = error.filename or source
        raise DataError(f"cannot read {path}: {error.strerror or error}; check its permissions") from error


def exists(path: Path) -> bool:
    """Return whether the path exists; False if it is too long to be one. Raises OSError without permission."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def read_json(path: Path) -> Any:
    """Read a JSON document; raises DataError with the file and the cause."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error}); give a file in the benchmark's own format") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; raises DataError with the file and the line."""
    return list(iter_jsonl(path))


def iter_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON lines file; raises DataError with the file and the line."""
    number = 0
    try:
        # As bytes: a text file decodes ahead, which would report a decoding error lines too early.
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                row = json.loads(line.decode("utf-8"))
                if not isinstance(row, dict):
                    raise DataError(f"{path} line {number} is not a JSON object; give one object per line")
                yield row
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} line {number} is not JSON ({error}); correct it, in UTF-8") from error


def without_nan(value: Any) -> Any:
    """Return a JSON document in which NaN and infinities, which JSON cannot hold, are None."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
