"""Atomic writes, and readers that name the file and the fault."""

from __future__ import annotations

import codecs
import errno
import gzip
import hashlib
import io
import json
import math
import os
import platform
import re
import secrets
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, cast

from evalsuite.errors import BusyError, DataError, cannot_write
from evalsuite.text import mapped, without_surrogates

MAX_BYTES = 1 << 30
"""The largest file that is read at once: larger than any that a benchmark or a tool of the field writes."""
MAX_LINE_BYTES = 1 << 26
COMPRESSIONS = (".gz", ".zst")
"""The suffixes of the compressions that are read."""
_GZIP, _ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_PACKED = {b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"7z\xbc\xaf": "7z"}
_LONGEST_MAGIC = 6
_PEEKED = 4096
_MAX_DEPTH = 200
_REMEDY = "give a file in the benchmark's own format"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Convert an OSError into a StoreError on ``path``."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def rename(source: Path, target: Path) -> None:
    """Rename ``source`` to ``target``, replacing it; raises OSError.

    On a network file system a rename whose reply is lost is sent again, and fails because the source is gone: it has
    worked where the target is the same file.
    """
    number = source.stat().st_ino
    try:
        source.replace(target)
    except OSError:
        with suppress(OSError):
            if target.stat().st_ino == number and not source.exists():
                return
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as a file that is there as a whole or not at all; raises StoreError."""
    write_pieces(path, (text,))


def write_pieces(path: Path, pieces: Iterable[str]) -> None:
    """Write a text given in pieces, as :func:`write_text` does."""
    with (
        replacing(path) as temporary,
        # open() gives a new file the mode that the umask asks for; a lone surrogate is escaped.
        temporary.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as out,
    ):
        out.writelines(pieces)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name; the file that is written there is synced and renamed to ``path``. Raises StoreError."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_for(path)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            rename(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def timestamp() -> str:
    """Return the time and process id as a unique folder name, for files that are moved aside."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}"


@lru_cache(maxsize=1)
def machine() -> str:
    """Return a short hash of the host name, as several machines may share a folder."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def temporary_for(path: Path) -> Path:
    """Return a name beside ``path`` that no other process uses, after removing those of killed writers."""
    _remove_stale(path)
    return path.parent / f".{path.name}.{machine()}-{os.getpid()}-{secrets.token_hex(4)}"


def _remove_stale(path: Path) -> None:
    """Remove temporary files of ``path`` whose writers were killed on this machine."""
    prefix = f".{path.name}.{machine()}-"
    if not (others := [each for each in path.parent.iterdir() if each.name.startswith(prefix)]):
        return
    import psutil

    for other in others:
        pid = other.name.removeprefix(prefix).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            with suppress(OSError):
                other.unlink()


@contextmanager
def locked(path: Path, busy: str, timeout_s: float = 0.0) -> Iterator[None]:
    """Hold a lock file, which the kernel releases when the process ends.

    Raises BusyError with the sentence ``busy`` where another process keeps it for ``timeout_s`` seconds, StoreError
    where none can be made.
    """
    import filelock

    lock = filelock.FileLock(path, timeout=timeout_s)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise BusyError(busy) from error
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    try:
        yield
    finally:
        lock.release()


NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "fuse.sshfs", "afs", "ceph", "fuse.ceph"}
    | {"glusterfs", "fuse.glusterfs", "panfs", "wekafs", "pvfs2", "orangefs", "fuse.juicefs"}
)
"""File systems on which SQLite's locks do not work between machines."""


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """Return the type of the file system that ``path`` is or will be on, "" where unknown."""
    try:
        rows = [line.split() for line in mounts.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return ""
    path = path.absolute()
    inside = [
        (len(row[1]), row[2]) for row in rows if len(row) > 2 and path.is_relative_to(row[1].replace("\\040", " "))
    ]
    return max(inside, default=(0, ""))[1]


def write_json(path: Path, value: object) -> None:
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


def refuse_pipe(path: Path) -> None:
    """Raise DataError for a pipe or a device: opening it may wait for ever, and it cannot be read twice."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(f"{path} is a pipe or a device, not a file; save its content in a file and give that")


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that others wrote, decompressed where it is gzip or Zstandard; raises DataError."""
    try:
        refuse_pipe(path)
        with path.open("rb") as plain:
            start = plain.peek(_LONGEST_MAGIC)
            if packed := next((name for magic, name in _PACKED.items() if start.startswith(magic)), None):
                raise DataError(f"{path} is a {packed} file; unpack it, or give it as .gz or .zst")
            if start.startswith(_GZIP):
                with gzip.open(plain) as content:
                    yield cast("IO[bytes]", content)
            elif start.startswith(_ZSTANDARD):
                import pyarrow as pa

                with io.BufferedReader(pa.input_stream(plain, compression="zstd")) as content:
                    yield content
            else:
                yield plain
    except (OSError, EOFError, zlib.error) as error:
        cause = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"cannot read {path}: {cause}") from error


def plain_name(path: Path) -> str:
    """Return a file's name without the suffix of its compression."""
    return path.stem if path.suffix in COMPRESSIONS else path.name


def read_text(path: Path, max_bytes: int = MAX_BYTES, remedy: str = _REMEDY) -> str:
    r"""Read a UTF-8 file of at most ``max_bytes``, with line ends as ``\n`` and without a byte order mark.

    gzip and Zstandard are decompressed. Raises DataError with the file, the cause and the remedy.
    """
    with opened(path) as content:
        raw = content.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise DataError(f"{path} has more than {max_bytes:,} bytes; {remedy}")
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); {remedy}") from error


def parse_json(text: str) -> Any:
    """Parse JSON that others wrote; half of a surrogate pair is U+FFFD. Raises ValueError, also for deep nesting."""
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested more than {_MAX_DEPTH} deep") from None
    if text.count("[") + text.count("{") > _MAX_DEPTH:
        level, depth = [document], 0
        while level := [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]:
            depth += 1
            if depth > _MAX_DEPTH:
                raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    return mapped(document, without_surrogates) if _SURROGATE.search(text) else document


def read_json(path: Path, max_bytes: int = MAX_BYTES, remedy: str = _REMEDY) -> Any:
    """Read a JSON document of at most ``max_bytes``; raises DataError as :func:`read_text` does."""
    text = read_text(path, max_bytes, remedy)
    try:
        return parse_json(text)
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); {remedy}") from error


def read_objects(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON objects, as :func:`iter_objects` does."""
    return list(iter_objects(path))


def iter_objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file of rows: one object per line, or one JSON list, whatever its name.

    gzip and Zstandard, a byte order mark and any line ends are read. Raises DataError with the file and the line.
    """
    with opened(path) as content:
        is_list = _without_mark(content.peek(_PEEKED)).lstrip().startswith(b"[")  # type: ignore[attr-defined]
        if not is_list:
            yield from _rows_by_line(path, content)
            return
        raw = content.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise DataError(f"{path} has more than {MAX_BYTES:,} bytes; write one object per line")
    try:
        rows = parse_json(raw.decode("utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); correct it, in UTF-8") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{path} row {number} is not a JSON object; give a list of objects")
        yield row


def iter_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each line that is not blank, of a file as :func:`opened` reads it."""
    with opened(path) as content:
        yield from _lines(path, content)


def _lines(path: Path, content: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    # As bytes: a text file decodes ahead, which would report a decoding error lines too early.
    for number, line in enumerate(iter(lambda: content.readline(MAX_LINE_BYTES + 1), b""), 1):
        if len(line) > MAX_LINE_BYTES:
            raise DataError(f"{path} line {number} has more than {MAX_LINE_BYTES:,} bytes; shorten it")
        text = _without_mark(line) if number == 1 else line
        if text.strip():
            yield number, text


def _rows_by_line(path: Path, content: IO[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in _lines(path, content):
        try:
            row = parse_json(line.decode("utf-8"))
        except ValueError as error:
            raise DataError(
                f"{path} line {number} is not JSON ({error}); give one object per line or a JSON list, in UTF-8"
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{path} line {number} is not a JSON object; give one object per line")
        yield row


def _without_mark(start: bytes) -> bytes:
    return start.removeprefix(codecs.BOM_UTF8)


def without_nan(value: object) -> Any:
    """Return a JSON document in which NaN and infinities, which JSON cannot hold, are None."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
