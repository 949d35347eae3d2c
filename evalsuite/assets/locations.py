"""The folders that evalsuite reads from and keeps its own copies in, and whether it may use the network."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from evalsuite.errors import DataError
from evalsuite.fingerprint import cache_folder

_TRUE = {"1", "ON", "YES", "TRUE"}
OFFLINE = ("EVALSUITE_OFFLINE",)
"""Switches the network off altogether."""
HUB_OFFLINE = (*OFFLINE, "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Each of these forbids the hub."""


class Absent(Exception):  # noqa: N818 - not an error: the next location is tried
    """An asset is not available from one location; the message gives the reason."""


def mirror_root() -> Path | None:
    """Return the local mirror folder (``EVALSUITE_MIRROR``), or None; raises DataError when it is not a folder."""
    given = os.environ.get("EVALSUITE_MIRROR")
    if not given:
        return None
    root = Path(given).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"EVALSUITE_MIRROR is {given!r}, which is not a folder; give the mirror's folder or unset it")
    return root


def user_hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def download_hub_cache() -> Path:
    """Return the hub cache to download into: the user's, or ours where the user's is read-only."""
    cache = user_hub_cache()
    existing = next((folder for folder in (cache, *cache.parents) if folder.exists()), cache)
    return cache if os.access(existing, os.W_OK) else cache_folder() / "hub"


def snapshots_of(repo: str) -> Iterator[tuple[Literal["mirror", "hub"], str, Path]]:
    """Yield (source, cache in words, folder) of every local snapshot of a hub data set.

    The mirror comes before the user's hub cache and ours. Of a cache it is the snapshot of ``main``, else the newest.
    """
    caches: list[tuple[Literal["mirror", "hub"], str, Path]] = []
    if (mirror := mirror_root()) is not None:
        caches += [("mirror", f"the mirror {mirror}", folder) for folder in (mirror / "hub", mirror)]
    caches += [("hub", f"the hub cache {folder}", folder) for folder in (user_hub_cache(), cache_folder() / "hub")]
    for source, name, cache in caches:
        folder = cache / f"datasets--{repo.replace('/', '--')}"
        snapshots = sorted(folder.glob("snapshots/*/"), key=lambda snapshot: snapshot.stat().st_mtime_ns)
        with suppress(OSError):
            main = (folder / "refs" / "main").read_text().strip()
            snapshots.sort(key=lambda snapshot: snapshot.name == main)
        if snapshots:
            yield source, name, snapshots[-1]


def why_offline(variables: Iterable[str] = HUB_OFFLINE) -> str:
    """Return which of these variables forbids the network, as a clause; "" where it may be used."""
    return next((f"{name} is set" for name in variables if os.environ.get(name, "").upper() in _TRUE), "")


def make_folder(folder: Path) -> Path:
    """Create a folder of the cache; raises DataError in one sentence where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot create {folder} ({error.strerror or error}); set EVALSUITE_CACHE to a writable folder"
        ) from error
    return folder


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache's lock of that name, so that two processes never prepare the same thing at once."""
    from filelock import FileLock

    with FileLock(make_folder(cache_folder() / "locks") / f"{name}.lock"):
        yield


@contextmanager
def no_progress_bars(library: Any) -> Iterator[None]:
    """Keep the bars of ``datasets`` or ``huggingface_hub.utils`` off the terminal, which has its own line."""
    were_off = library.are_progress_bars_disabled()
    library.disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            library.enable_progress_bars()
