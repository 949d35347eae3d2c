"""The assets as a table: what there is, fetching it, and checking it.

Every function takes the table itself (assets by name, as ``evalsuite.suites.registry.all_assets`` returns them) and
``names`` that select from it: assets (``openllm/bbh``), suites (``openllm``) or beginnings of names
(``mixeval/2024-06-01``); none selects all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalsuite.assets.asset import Asset, Found
from evalsuite.assets.demo import demo_checkpoint
from evalsuite.assets.find import attempts, find, locate
from evalsuite.assets.pins import DEMO
from evalsuite.errors import DataError, unknown

_SHORT = 12
Table = Mapping[str, Asset]
OnStep = Callable[[str], None]


def selected_assets(table: Table, names: Sequence[str] = ()) -> list[Asset]:
    """Return the assets that ``names`` select, in the table's order; raises DataError for an unknown name."""
    chosen: set[str] = set()
    for name in names:
        matches = {key for key, one in table.items() if name in (key, one.suite) or key.startswith(f"{name}/")}
        if not matches:
            raise DataError(unknown("asset or suite", name, {*table, *(asset.suite for asset in table.values())}))
        chosen |= matches
    return [asset for asset in table.values() if not names or asset.name in chosen]


def list_assets(table: Table, names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return one row per asset, without hashing or fetching anything.

    Keys: name, suite, licence, rows, sha256 (the first 12 digits of the pin, or None), source
    (where it comes from), state ("found: ...", "missing" or "gated"), path, remark.
    """
    return [_row(asset) for asset in selected_assets(table, names)]


def _row(asset: Asset) -> dict[str, Any]:
    local = next((attempt for attempt in attempts(asset, fetch=False) if attempt.paths), None)
    pin = asset.sha256 or asset.file_sha256
    return {
        "name": asset.name,
        "suite": asset.suite,
        "licence": asset.licence,
        "rows": asset.rows,
        "sha256": pin[:_SHORT] if pin else None,
        "source": ", ".join(map(str, asset.locations)),
        "state": f"found: {local.source}" if local else "gated" if asset.gated else "missing",
        "path": str(local.paths[0]) if local else None,
        "remark": asset.remark,
    }


def pull(table: Table, names: Sequence[str] = (), on_step: OnStep = lambda _: None) -> list[dict[str, Any]]:
    """Fetch assets, so that they are there without network access.

    The demo model is converted too. Returns a row per asset: name, state ("ok", "differs" from its
    pin, "unpinned" where no right hash is known, or "missing"), reason, source, sha256, rows, path;
    nothing is raised for an asset that is not available.
    """

    def fetched(asset: Asset) -> Found:
        found = find(asset)
        if asset.name == DEMO.name:
            demo_checkpoint(on_step)
        return found

    return _states(table, names, on_step, fetched)


def verify(table: Table, names: Sequence[str] = (), on_step: OnStep = lambda _: None) -> list[dict[str, Any]]:
    """Hash the assets on this machine again and compare them with their pins; nothing is fetched.

    Returns rows like :func:`pull`.
    """
    return _states(table, names, on_step, lambda asset: locate(asset, fetch=False, recount=True)[0])


def _states(
    table: Table, names: Sequence[str], on_step: OnStep, look: Callable[[Asset], Found]
) -> list[dict[str, Any]]:
    rows = []
    for asset in selected_assets(table, names):
        on_step(asset.name)
        row = dict.fromkeys(("name", "state", "reason", "source", "sha256", "rows", "path"), None)
        try:
            found = look(asset)
        except DataError as error:
            rows.append({**row, "name": asset.name, "state": "missing", "reason": str(error)})
            continue
        state = "ok" if found.pinned else "differs" if asset.sha256 or asset.file_sha256 else "unpinned"
        facts = {"source": found.source, "sha256": found.sha256, "rows": found.rows, "path": str(found.path)}
        rows.append({"name": asset.name, "state": state, "reason": found.note, **facts})
    return rows
