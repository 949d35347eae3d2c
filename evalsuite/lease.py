"""A lease on a file's name: one process at a time, also among machines that share a folder.

File locks do not hold on every shared file system. A lease is a small file, created exclusively, whose owner touches it
every few seconds. One that has not been touched for a while, or whose owner on this machine has ended, is taken over.
Times are those of the file system, not of the machines.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Self

import psutil

STALE_S = 180.0
"""A lease that was not touched for this long is taken over; network file systems show a touch up to a minute late."""


class Lease(AbstractContextManager["Lease"]):
    """A lease that this process holds until ``release``; get one with ``Lease.take``."""

    def __init__(self, path: Path, owner: str, stale_s: float, before: str | None) -> None:
        self.path, self.owner = path, owner
        self.before = before
        """The owner that this lease was taken over from, None where it was free."""
        self._every_s = stale_s / 6
        self._released = threading.Event()
        threading.Thread(target=self._touch, daemon=True, name=f"lease {path.name}").start()

    @classmethod
    def take(cls, path: Path, owner: str | None = None, *, stale_s: float = STALE_S) -> Self | None:
        """Return the lease, None while another process holds it; raises OSError where no file can be made.

        ``owner`` is a name for it that others can read; drawn at random by default.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        owner = owner or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        before = None
        for _ in range(3):
            try:
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                holder = holder_of(path)
                if not _is_over(path, holder, stale_s):
                    return None
                before = str(holder.get("owner", "")) or before
                _remove_stale(path, holder)
                continue
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                started = psutil.Process().create_time()
                json.dump({"owner": owner, "host": socket.gethostname(), "pid": os.getpid(), "started": started}, out)
            return cls(path, owner, stale_s, before)
        return None

    def release(self) -> None:
        """Give the lease back; safe to call twice, and where another process has taken it over."""
        self._released.set()
        if holder_of(self.path).get("owner") == self.owner:
            self.path.unlink(missing_ok=True)

    def _touch(self) -> None:
        while not self._released.wait(self._every_s):
            with suppress(OSError):
                os.utime(self.path)

    def __exit__(self, *_: object) -> None:
        self.release()


def holder_of(path: Path) -> dict[str, Any]:
    """Return who holds a lease (owner, host, pid); empty where nobody does or the file is just being written."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_over(path: Path, holder: dict[str, Any], stale_s: float) -> bool:
    if holder.get("host") == socket.gethostname():
        try:
            return bool(psutil.Process(int(holder["pid"])).create_time() != holder.get("started"))
        except (psutil.NoSuchProcess, ValueError, KeyError, TypeError):
            return True
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        probe.touch()
        # Opening the file makes a network file system refresh its timestamps.
        with path.open("rb") as handle:
            touched_at = os.fstat(handle.fileno()).st_mtime
        return probe.stat().st_mtime - touched_at > stale_s
    except FileNotFoundError:
        return True
    finally:
        probe.unlink(missing_ok=True)


def _remove_stale(path: Path, holder: dict[str, Any]) -> None:
    """Remove a lease that is over; one that another process has taken meanwhile is put back."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if holder_of(aside) != holder:
        with suppress(FileExistsError):
            os.link(aside, path)
    aside.unlink(missing_ok=True)
