"""The published tables, read from the CSV and YAML files in ``tables/``."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from evalsuite.analysis.document import Format

Kind = Literal["scores", "style", "preferences", "similarity", "leaderboard", "plain"]
_MAKING = re.compile(r"^(?P<base>.+?) : (?P<dgms>.+?)(?: \((?P<thousands>\d+)k\))?$")


@dataclass(frozen=True, slots=True)
class Making:
    """How a row's model was made: base and DGMs by the paper's short names; no DGM for an untrained model."""

    base: str
    dgms: tuple[str, ...] = ()
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """A printed figure: its number, half a unit of its last digit, and its 95 % interval where it has one."""

    number: float
    rounding: float
    ci95: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class PublishedColumn:
    """``own`` names the figure of scores.json, multiplied by ``scale``; ``over`` the model that is compared with."""

    key: str
    label: str
    format: Format
    own: str | None = None
    scale: float = 1.0
    over: str | None = None


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One table: ``rows`` by label, cells by column key; a cell that is blank in print is absent.

    A leaderboard names its ``judge``; ``requires`` is what a suite's own scores must have to stand beside it.
    """

    id: str
    title: str
    source: str
    kind: Kind
    columns: tuple[PublishedColumn, ...]
    rows: Mapping[str, Mapping[str, Value]]
    makings: Mapping[str, Making]
    notes: tuple[str, ...]
    judge: str = ""
    requires: Mapping[str, str] = field(default_factory=dict)


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """Return Tables 1 to 7, the points of Figure 2, and leaderboards."""
    return tuple(_table(key, layout) for key, layout in _layouts()["tables"].items())


@cache
def short_names() -> Mapping[str, tuple[str, ...]]:
    """Return the paper's short names of models with the names of the checkpoints they mean."""
    return {short: tuple(names) for short, names in _layouts()["names"].items()}


@cache
def _layouts() -> Any:
    import yaml

    return yaml.safe_load(_text("tables.yaml"))


def _text(name: str) -> str:
    return files("evalsuite.wildchat").joinpath("tables", name).read_text(encoding="utf-8")


def _table(key: str, layout: Mapping[str, Any]) -> PublishedTable:
    rows = list(csv.DictReader(_text(f"{key}.csv").splitlines()))
    columns = {name: _column(name, layout) for name in rows[0] if name in layout["columns"]}
    values: dict[str, Mapping[str, Value]] = {}
    for row in rows:
        label = next(iter(row.values())) if key != "figure2" else f"{row['dgm']} ({row['quantity_k']}k)"
        values[label] = {column.key: _value(row, name, layout) for name, column in columns.items() if row[name].strip()}
    kind: Kind = layout.get("kind", "plain")
    made = [label for label in values if kind != "plain" and not label.startswith("PF |")]
    return PublishedTable(
        id=key,
        title=str(layout["title"]),
        source=layout["says"] if kind == "leaderboard" else f"WILDCHAT-50M, {layout['says']}",
        kind=kind,
        columns=tuple(columns.values()),
        rows=values,
        makings={label: making_of(label, layout) for label in made},
        notes=tuple(" ".join(note.split()) for note in layout.get("notes", ())),
        judge=layout.get("judge", ""),
        requires=layout.get("requires", {}),
    )


def _value(row: Mapping[str, str], name: str, table: Mapping[str, Any]) -> Value:
    ends = table["columns"][name].get("ci95")
    ci95 = (float(row[ends[0]]), float(row[ends[1]])) if ends else None
    return Value(float(row[name]), 0.5 * 10 ** -len(row[name].partition(".")[2]), ci95)


def _column(name: str, table: Mapping[str, Any]) -> PublishedColumn:
    layout = table["columns"][name]
    own = layout.get("own")
    scale = 100.0 if table.get("percent") and own not in {"mt_bench", "alpaca_eval"} else 1.0
    return PublishedColumn(layout["key"], name, layout["format"], own, scale, layout.get("over"))


def making_of(label: str, layout: Mapping[str, Any]) -> Making:
    """Read a row's label: ``L8B : Q72 + L70 (500k)``, ``Q72 : None``, or a DGM alone where the table has one base."""
    full = f"{layout['base']} : {label}" if layout.get("base") else label
    match = _MAKING.match(full)
    if match is None or match["dgms"] == "None":
        return Making(match["base"] if match else label)
    size = int(match["thousands"]) * 1000 if match["thousands"] else layout.get("size")
    return Making(match["base"], tuple(match["dgms"].split(" + ")), size)
