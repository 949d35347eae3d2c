"""The folders that evalsuite reads from and keeps its own copies in, and whether it may use the network."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from evalsuite.errors import DataError

_TRUE = {"1", "ON", "YES", "TRUE"}


class Absent(Exception):  # noqa: N818 - not an error: the next place is tried
    """An asset is not to be had from one place; the message says why in a few words."""


def cache_root() -> Path:
    """Return the folder of downloaded and converted assets: ``EVALSUITE_CACHE`` or the user's cache folder."""
    given = os.environ.get("EVALSUITE_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("evalsuite")


def mirror_root() -> Path | None:
    """Return the local mirror folder (``EVALSUITE_MIRROR``), or None; raises DataError when it is no folder."""
    given = os.environ.get("EVALSUITE_MIRROR")
    if not given:
        return None
    root = Path(given).expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"EVALSUITE_MIRROR is {given!r}, which is not a folder; give the mirror's folder or unset it")
    return root


def user_hub_cache() -> Path:
    """Return the user's hub cache, as ``huggingface_hub`` would choose it now."""
    for variable, below in (
        ("HF_HUB_CACHE", ""),
        ("HUGGINGFACE_HUB_CACHE", ""),
        ("HF_HOME", "hub"),
        ("XDG_CACHE_HOME", "huggingface/hub"),
    ):
        given = os.environ.get(variable)
        if given:
            return Path(os.path.expandvars(given)).expanduser() / below
    return Path.home() / ".cache" / "huggingface" / "hub"


def download_hub_cache() -> Path:
    """Return the hub cache to download into: the user's, or ours where the user's is read-only."""
    cache = user_hub_cache()
    existing = next((folder for folder in (cache, *cache.parents) if folder.exists()), cache)
    return cache if os.access(existing, os.W_OK) else cache_root() / "hub"


def hub_caches() -> list[tuple[Literal["mirror", "hub"], str, Path]]:
    """Return the hub caches on this machine in the order in which they are read: source, words, folder."""
    caches: list[tuple[Literal["mirror", "hub"], str, Path]] = []
    mirror = mirror_root()
    if mirror is not None:
        caches += [("mirror", f"the mirror {mirror}", mirror / "hub"), ("mirror", f"the mirror {mirror}", mirror)]
    caches.append(("hub", f"the hub cache {user_hub_cache()}", user_hub_cache()))
    if (cache_root() / "hub").is_dir():
        caches.append(("hub", f"the hub cache {cache_root() / 'hub'}", cache_root() / "hub"))
    return caches


def snapshot_in(cache: Path, repo: str) -> Path | None:
    """Return the snapshot of data set ``repo`` in one hub cache: that of ``main``, else the newest."""
    folder = cache / f"datasets--{repo.replace('/', '--')}"
    try:
        snapshot = folder / "snapshots" / (folder / "refs" / "main").read_text().strip()
        if snapshot.is_dir():
            return snapshot
    except OSError:
        pass
    snapshots = folder / "snapshots"
    if not snapshots.is_dir():
        return None
    return max((s for s in snapshots.iterdir() if s.is_dir()), key=lambda s: s.stat().st_mtime_ns, default=None)


def snapshots_of(repo: str) -> Iterator[tuple[Literal["mirror", "hub"], str, Path]]:
    """Yield every local snapshot of a hub data set, in the order of :func:`hub_caches`."""
    for source, words, cache in hub_caches():
        snapshot = snapshot_in(cache, repo)
        if snapshot is not None:
            yield source, words, snapshot


def no_network() -> bool:
    """Return whether the network is off altogether (``EVALSUITE_OFFLINE``)."""
    return os.environ.get("EVALSUITE_OFFLINE", "").upper() in _TRUE


def no_hub() -> bool:
    """Return whether the hub must not be asked (one of the variables of :func:`why_no_hub`)."""
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    return no_network() or any(os.environ.get(name, "").upper() in _TRUE for name in names)


def why_no_hub() -> str:
    """Return which variable forbids the hub, in a few words."""
    names = ("EVALSUITE_OFFLINE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((f"{name} is set" for name in names if os.environ.get(name, "").upper() in _TRUE), "offline")


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

    with FileLock(make_folder(cache_root() / "locks") / f"{name}.lock"):
        yield


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file of the cache under a temporary name, sync it and rename it into place."""
    make_folder(path.parent)
    handle, temporary = tempfile.mkstemp(prefix=".part-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
