"""Hub data sets read from local snapshots, so that ``datasets`` and lm-eval work without a network.

Since version 4 ``datasets`` does not look into the hub cache while offline. It does read a
folder, and a snapshot in a hub cache (or a mirror of one) is a folder with everything it needs.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalsuite.assets.asset import Asset, OnHub, remedy
from evalsuite.assets.hub import one_line, why_not_on_hub
from evalsuite.assets.locations import Absent, cache_root, make_folder, no_hub, snapshots_of, why_no_hub
from evalsuite.assets.pins import PINS
from evalsuite.assets.rows import selected
from evalsuite.errors import DataError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# Another revision or another's token mean nothing to a folder.
_HUB_ONLY = ("revision", "token")

_entries = threading.Lock()
_depth = 0
_original: Callable[..., Any] | None = None


@contextmanager
def pinned_datasets() -> Iterator[None]:
    """Make ``datasets.load_dataset`` read the local snapshot of a hub data set where there is one.

    The mirror comes first, then the hub caches, then (where the network may be used) the hub.
    May be entered several times, also from several threads; the last one out restores
    ``datasets``. Inside, a data set that cannot be had raises DataError in one sentence.
    """
    import datasets

    global _depth, _original  # noqa: PLW0603 - what is patched is global too, and the last one out puts it back
    with _entries:
        if _depth == 0:
            _original = datasets.load_dataset
            datasets.load_dataset = _pinned(_original)
        _depth += 1
    try:
        with _quiet():
            yield
    finally:
        with _entries:
            _depth -= 1
            if _depth == 0:
                datasets.load_dataset, _original = _original, None


def _pinned(original: Callable[..., Any]) -> Callable[..., Any]:
    def load_dataset(path: str, name: str | None = None, *args: Any, **kwargs: Any) -> Any:
        repo = str(path)
        if not _HUB_ID.fullmatch(repo) or Path(repo).exists():
            return original(path, name, *args, **kwargs)
        local = {key: value for key, value in kwargs.items() if key not in _HUB_ONLY}
        sought = []
        for _, words, snapshot in snapshots_of(repo):
            try:
                return original(str(snapshot), name, *args, **{"cache_dir": str(arrow_cache(snapshot)), **local})
            except Exception as error:  # a partial or foreign snapshot fails in many ways; the next place is tried
                sought.append(f"{words} ({one_line(error)})")
        if no_hub():
            sought.append(f"the hub ({why_no_hub()})")
            raise _not_to_be_had(repo, name, sought)
        try:
            return original(path, name, *args, **kwargs)
        except Exception as error:  # whatever the hub's client says, the reason is one line for the user
            raise _not_to_be_had(repo, name, [*sought, f"the hub ({one_line(error)})"]) from error

    return load_dataset


def _not_to_be_had(repo: str, config: str | None, sought: list[str]) -> DataError:
    what = f"{repo} ({config})" if config else repo
    return DataError(f"the data set {what} cannot be had: sought in {'; '.join(sought)}; {_remedy(repo)}")


def _remedy(repo: str) -> str:
    for asset in PINS.values():
        if any(isinstance(place, OnHub) and place.repo == repo for place in asset.places):
            return remedy(asset)
    return "set EVALSUITE_MIRROR to a folder that has it, or run it once where there is a network"


def datasets_available(hub_id: str) -> str | None:
    """Return None when a hub data set can be read, else why not, in one line; nothing is downloaded."""
    if any(True for _ in snapshots_of(hub_id)):
        return None
    reason = why_not_on_hub(hub_id)
    if reason is None:
        return None
    return f"{hub_id} is not on this machine and not to be had from the hub ({reason}); {_remedy(hub_id)}"


def arrow_cache(snapshot: Path) -> Path:
    """Return the folder where ``datasets`` keeps what it made of a snapshot; the user's own may be read-only.

    The folder's name follows the files' paths, sizes and times, because ``datasets`` does not
    notice when the target of a link has changed.
    """
    files = sorted(file for file in snapshot.rglob("*") if file.is_file())
    stamps = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(repr((str(snapshot), stamps)).encode()).hexdigest()[:16]
    return make_folder(cache_root() / "datasets" / key)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the bars of ``datasets`` off the terminal: one for each of forty small splits."""
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def snapshot_rows(asset: Asset, snapshot: Path, *, anew: bool = False) -> tuple[list[dict[str, Any]], int]:
    """Read an asset's rows from a snapshot, as lm-eval would see them.

    Returns the rows of all parts, config by config and split by split in the order of their
    names, and the number of scored ones. ``anew`` reads the files themselves and not what
    ``datasets`` made of them earlier. Raises Absent when the snapshot lacks a part.
    """
    if not anew:
        return _read_parts(asset, snapshot, arrow_cache(snapshot))
    with tempfile.TemporaryDirectory(prefix=".part-", dir=make_folder(cache_root())) as scratch:
        return _read_parts(asset, snapshot, Path(scratch))


def _read_parts(asset: Asset, snapshot: Path, arrow: Path) -> tuple[list[dict[str, Any]], int]:
    import datasets

    rows: list[dict[str, Any]] = []
    scored = 0
    loaded: dict[str | None, Any] = {}
    for part in sorted(asset.parts, key=lambda one: (one.config or "", one.split)):
        try:
            if part.config not in loaded:
                with _quiet():
                    loaded[part.config] = datasets.load_dataset(str(snapshot), part.config, cache_dir=str(arrow))
            chosen = selected(loaded[part.config][part.split], asset)
        except DataError:
            raise
        except Exception as error:  # a partial snapshot fails in many ways inside datasets
            raise Absent(f"{part.config or part.split} cannot be read: {one_line(error)}") from error
        rows += chosen
        scored += len(chosen) if part.counted else 0
    return rows, scored
