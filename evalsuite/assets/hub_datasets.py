"""Hub data sets: downloaded, and read from local snapshots, so that ``datasets`` and lm-eval need no network.

Since version 4 ``datasets`` does not look into the hub cache while offline. It does read a
folder, and a snapshot in a hub cache (or a mirror of one) is a folder with everything it needs.
"""

from __future__ import annotations

import re
import socket
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evalsuite.assets.asset import Asset, OnHub, remedy
from evalsuite.assets.locations import (
    Absent,
    download_hub_cache,
    make_folder,
    no_progress_bars,
    snapshots_of,
    why_offline,
)
from evalsuite.assets.rows import file_stamps, selected
from evalsuite.errors import DataError, first_line
from evalsuite.fingerprint import cache_folder, text_sha256

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LOCK = threading.RLock()
_PROBE_TIMEOUT_S = 10.0
_REMEDY = "set EVALSUITE_MIRROR to a folder that has it, or run it once with network access"


def fetch_snapshot(repo: str, pattern: str = "") -> Path:
    """Download the files of a data set that match ``pattern``, or all; returns the snapshot folder, raises Absent."""
    if reason := why_offline():
        raise Absent(reason)
    from huggingface_hub import HfApi, snapshot_download, utils
    from huggingface_hub.errors import GatedRepoError

    try:
        # Of all the hub's calls this one takes a timeout and does not retry for half a minute.
        HfApi().dataset_info(repo, timeout=_PROBE_TIMEOUT_S)
        with no_progress_bars(utils):
            snapshot = snapshot_download(
                repo, repo_type="dataset", cache_dir=download_hub_cache(), allow_patterns=pattern or None
            )
    except GatedRepoError as error:
        # Its first line is a status code.
        raise Absent("its authors give access on request: ask on its page, then run 'hf auth login'") from error
    except Exception as error:  # the client raises its transport's errors unchanged; all mean: not available
        raise Absent(first_line(error)) from error
    return Path(snapshot)


@contextmanager
def pinned_datasets(assets: Iterable[Asset] = ()) -> Iterator[None]:
    """Make ``datasets.load_dataset`` read the local snapshot of a hub data set where there is one.

    The mirror comes first, then the hub caches, then (where the network may be used) the hub. One thread at a time
    is inside, where a data set that is not found raises DataError in one sentence, with the remedy of its asset where
    it is one of ``assets``.
    """
    from unittest import mock

    import datasets

    remedies = {place.repo: remedy(asset) for asset in assets for place in asset.locations if isinstance(place, OnHub)}
    with _LOCK, no_progress_bars(datasets):
        original = datasets.load_dataset

        def load_dataset(path: str, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
            repo = str(path)
            if not _HUB_ID.fullmatch(repo) or Path(repo).exists():
                return original(path, name, *args, **kwargs)
            # A local folder has no revisions and takes no token.
            local = {key: value for key, value in kwargs.items() if key not in ("revision", "token")}
            tried, reason, unreachable = [], "", ""
            for _, cache, snapshot in snapshots_of(repo):
                try:
                    return original(str(snapshot), name, *args, **{"cache_dir": str(arrow_cache(snapshot)), **local})
                except Exception as error:  # a partial or foreign snapshot fails in many ways; the next one is tried
                    tried.append(f"{cache} ({first_line(error)})")
            try:
                if reason := why_offline():
                    raise DataError(reason)
                with _offline(datasets, unreachable := _why_unreachable()):
                    return original(path, name, *args, **kwargs)
            except Exception as error:  # the hub's client raises many types; the user needs one line of any
                tried.append(f"the hub ({reason or unreachable or first_line(error)})")
                title = f"{repo} ({name})" if name else repo
                how = remedies.get(repo, _REMEDY)
                raise DataError(f"data set {title} not found; looked in {'; '.join(tried)}; {how}") from error

        with mock.patch.object(datasets, "load_dataset", load_dataset):
            yield


def _why_unreachable() -> str:
    """Return why the hub's name leads nowhere, "" where it does: its client would try for half a minute."""
    from urllib.request import getproxies

    from huggingface_hub import constants

    if getproxies():
        return ""
    try:
        socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
    except OSError as error:
        return str(error)
    return ""


@contextmanager
def _offline(datasets: Any, reason: str) -> Iterator[None]:
    """Let ``datasets`` look into its own cache alone where there is a reason."""
    from unittest import mock

    from huggingface_hub import constants

    with ExitStack() as changed:
        for settings in (datasets.config, constants) if reason else ():
            changed.enter_context(mock.patch.object(settings, "HF_HUB_OFFLINE", True))
        yield


def arrow_cache(snapshot: Path) -> Path:
    """Return the folder for the Arrow files of a snapshot; the user's own may be read-only.

    The folder's name follows the files' paths, sizes and times, because ``datasets`` does not
    notice when the target of a link has changed.
    """
    stamps = file_stamps(sorted(file for file in snapshot.rglob("*") if file.is_file()))
    key = text_sha256(repr((str(snapshot), stamps)))[:16]
    return make_folder(cache_folder() / "datasets" / key)


def snapshot_rows(asset: Asset, snapshot: Path, *, fresh: bool = False) -> tuple[list[dict[str, Any]], int]:
    """Read an asset's rows from a snapshot, as lm-eval would see them.

    Returns the rows of all parts, config by config and split by split in the order of their
    names, and the number of scored ones. ``fresh`` ignores the Arrow files that
    ``datasets`` wrote earlier. Raises Absent when the snapshot lacks a part.
    """
    import datasets

    rows: list[dict[str, Any]] = []
    scored = 0
    loaded: dict[str | None, Any] = {}
    with tempfile.TemporaryDirectory(prefix=".part-", dir=make_folder(cache_folder())) as scratch:
        arrow = scratch if fresh else str(arrow_cache(snapshot))
        for part in sorted(asset.parts, key=lambda one: (one.config or "", one.split)):
            try:
                if part.config not in loaded:
                    with no_progress_bars(datasets):
                        loaded[part.config] = datasets.load_dataset(str(snapshot), part.config, cache_dir=arrow)
                chosen = selected(loaded[part.config][part.split], asset)
            except DataError:
                raise
            except Exception as error:  # a partial snapshot fails in many ways inside datasets
                raise Absent(f"{part.config or part.split} cannot be read: {first_line(error)}") from error
            rows += chosen
            scored += len(chosen) if part.counted else 0
    return rows, scored
