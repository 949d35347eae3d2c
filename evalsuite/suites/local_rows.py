"""A suite's rows: pinned assets, or the mini data that ship with the suite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalsuite import assets
from evalsuite.assets.asset import Asset, Pin, remedy
from evalsuite.errors import DataError
from evalsuite.files import read_objects
from evalsuite.fingerprint import read_sha256
from evalsuite.suites.options import DataKind

RowsAndPins = tuple[list[dict[str, Any]], dict[str, Pin]]


def mini_rows(path: Path) -> tuple[list[dict[str, Any]], Pin]:
    """Read a suite's mini file: its rows and their pin, as part of the package; raises DataError when it is missing."""
    return read_objects(path), Pin(read_sha256(path), "mini", pinned=True)


def rows_of(data: DataKind, asset: Asset, mini: Path, *, fetch: bool = True) -> RowsAndPins:
    """Return the rows of an asset (``full``) or of a suite's mini file, and their pin by name.

    Raises DataError where they are not available; ``fetch=False`` uses only this machine.
    """
    if data == "mini":
        rows, pin = mini_rows(mini)
        return rows, {f"{mini.parents[1].name}/mini/{mini.stem}": pin}
    rows, found = assets.records(asset, fetch=fetch)
    return rows, {asset.name: assets.data_pin(found)}


def local_rows(data: DataKind, pinned: Sequence[Asset], mini: Sequence[Path] = ()) -> RowsAndPins:
    """Return the scored rows of assets (``full``) or of mini files, and their pins; nothing is downloaded.

    Few-shot examples, which follow the scored rows, are left out. Raises DataError that says how to get the data
    and names no folder of this machine.
    """
    rows: list[dict[str, Any]] = []
    pins: dict[str, Pin] = {}
    for path in mini if data == "mini" else ():
        mini_file_rows, pins[f"mini/{path.parents[1].name}/{path.name}"] = mini_rows(path)
        rows += mini_file_rows
    for asset in pinned if data == "full" else ():
        try:
            asset_rows, found = assets.records(asset, fetch=False)
        except DataError as error:
            raise DataError(f"its data are not on this machine; {remedy(asset)}") from error
        rows += asset_rows[: found.rows]
        pins[asset.name] = Pin(found.sha256, pinned=found.pinned)
    return rows, pins
