"""The assets as a table: what there is, getting it, and checking it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from evalsuite.assets.asset import Asset, Found, InMirror, InWheel, OnHub
from evalsuite.assets.demo import demo_checkpoint
from evalsuite.assets.find import attempts, locate
from evalsuite.assets.locations import Absent
from evalsuite.assets.pins import assets_of
from evalsuite.errors import DataError

Words = Sequence[str]
_SHORT = 12


def list_assets(names_or_suites: Words = ()) -> list[dict[str, Any]]:
    """Return one row an asset, without hashing or fetching anything.

    Keys: name, suite, licence, rows, sha256 (the first 12 digits of the pin, or None), source
    (where it comes from), state ("found: ...", "missing" or "gated"), path, remark.
    """
    return [_row(asset) for asset in assets_of(list(names_or_suites))]


def _row(asset: Asset) -> dict[str, Any]:
    state, path = ("gated" if asset.gated else "missing"), None
    for attempt in attempts(asset, fetch=False):
        try:
            path = str(attempt.get()[0])
        except Absent:
            continue
        state = f"found: {attempt.source}"
        break
    pin = asset.sha256 or asset.file_sha256
    return {
        "name": asset.name,
        "suite": asset.suite,
        "licence": asset.licence,
        "rows": asset.rows,
        "sha256": pin[:_SHORT] if pin else None,
        "source": source_words(asset),
        "state": state,
        "path": path,
        "remark": asset.remark,
    }


def source_words(asset: Asset) -> str:
    """Return where an asset comes from, in words."""
    words = []
    for place in asset.places:
        if isinstance(place, OnHub):
            words.append(f"hub {place.repo}" + (f" {place.pattern}" if place.pattern else ""))
        elif isinstance(place, InWheel):
            words.append(f"PyPI {place.wheel.name} {place.wheel.version}")
        elif isinstance(place, InMirror):
            words.append(f"mirror {place.path}")
    return ", ".join(words)


def pull(names_or_suites: Words = (), on_step: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """Fetch assets (all, without words) so that a machine without network has them.

    The demo model is converted too. Returns a row an asset: name, state ("ok", "differs" from its
    pin, "unpinned" where no right hash is known, or "missing"), reason, source, sha256, rows, path;
    nothing is raised for an asset that cannot be had.
    """
    results = []
    for asset in assets_of(list(names_or_suites)):
        on_step(asset.name)
        try:
            found, _ = locate(asset)
            if asset.name == "demo/model":
                demo_checkpoint(on_step)
        except DataError as error:
            results.append(_missing(asset, str(error)))
        else:
            results.append(_checked(asset, found))
    return results


def verify(names_or_suites: Words = (), on_step: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """Hash the assets on this machine anew and compare them with their pins; nothing is fetched.

    Returns rows like :func:`pull`.
    """
    results = []
    for asset in assets_of(list(names_or_suites)):
        on_step(asset.name)
        try:
            found, _ = locate(asset, fetch=False, recount=True)
        except DataError as error:
            results.append(_missing(asset, str(error)))
        else:
            results.append(_checked(asset, found))
    return results


def _checked(asset: Asset, found: Found) -> dict[str, Any]:
    known = asset.sha256 or asset.file_sha256
    return {
        "name": asset.name,
        "state": "ok" if found.pinned else "differs" if known else "unpinned",
        "reason": found.note,
        "source": found.source,
        "sha256": found.sha256,
        "rows": found.rows,
        "path": str(found.path),
    }


def _missing(asset: Asset, reason: str) -> dict[str, Any]:
    return {
        "name": asset.name,
        "state": "missing",
        "reason": reason,
        "source": None,
        "sha256": None,
        "rows": None,
        "path": None,
    }
