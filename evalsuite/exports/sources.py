"""Which data set on the hub a column's items come from."""

from __future__ import annotations

from evalsuite.assets.asset import OnHub
from evalsuite.suites.figures import Column
from evalsuite.suites.registry import all_assets


def hub_source(column: Column) -> str | None:
    """Return the id of the data set: of the asset that bears the column's name, else of the suite's only data set."""
    repos: dict[str, str] = {}
    for name, asset in all_assets().items():
        place = next((one for one in asset.locations if isinstance(one, OnHub)), None)
        if place is not None and name.partition("/")[0] == column.suite:
            repos[name] = place.repo
    if f"{column.suite}/{column.key}" in repos:
        return repos[f"{column.suite}/{column.key}"]
    return next(iter(repos.values())) if len(set(repos.values())) == 1 else None
