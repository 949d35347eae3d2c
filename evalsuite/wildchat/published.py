"""The published tables, read from the data files beside this module."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from evalsuite.analysis.document import Format

Kind = Literal["scores", "style", "preferences", "similarity", "plain"]
_MAKING = re.compile(r"^(?P<base>.+?) : (?P<dgms>.+?)(?: \((?P<thousands>\d+)k\))?$")


@dataclass(frozen=True, slots=True)
class Making:
    """How a row's model came about: base and DGMs by the paper's short names; no DGM for a model as it is."""

    base: str
    dgms: tuple[str, ...] = ()
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """A printed figure: its number, and half a unit of its last digit."""

    number: float
    rounding: float


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
    """One table: ``rows`` by label, cells by column key; a cell that is blank in print is absent."""

    id: str
    title: str
    source: str
    kind: Kind
    columns: tuple[PublishedColumn, ...]
    rows: Mapping[str, Mapping[str, Value]]
    makings: Mapping[str, Making]
    notes: tuple[str, ...]


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """Return Tables 1 to 7 and the points of Figure 2."""
    return tuple(_table(key, said) for key, said in _said()["tables"].items())


@cache
def short_names() -> Mapping[str, tuple[str, ...]]:
    """Return the paper's short names of models with the names of the checkpoints they mean."""
    return {short: tuple(names) for short, names in _said()["names"].items()}


@cache
def _said() -> dict[str, Any]:
    import yaml

    text = files("evalsuite.wildchat").joinpath("tables", "tables.yaml").read_text(encoding="utf-8")
    said: dict[str, Any] = yaml.safe_load(text)
    return said


def _table(key: str, said: Mapping[str, Any]) -> PublishedTable:
    text = files("evalsuite.wildchat").joinpath("tables", f"{key}.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    head = [name for name in rows[0] if name in said["columns"]]
    percent = bool(said.get("percent"))
    columns = tuple(_column(name, said["columns"][name], percent=percent) for name in head)
    read: dict[str, Mapping[str, Value]] = {}
    for row in rows:
        label = next(iter(row.values())) if key != "figure2" else f"{row['dgm']} ({row['quantity_k']}k)"
        read[label] = {c.key: _value(row[name]) for name, c in zip(head, columns, strict=True) if row[name].strip()}
    kind: Kind = said.get("kind", "plain")
    return PublishedTable(
        id=key,
        title=str(said["title"]),
        source=f"WILDCHAT-50M, {said['says']}",
        kind=kind,
        columns=columns,
        rows=read,
        makings={label: making_of(label, said) for label in read if kind != "plain" and not label.startswith("PF |")},
        notes=tuple(" ".join(note.split()) for note in said.get("notes", ())),
    )


def _column(name: str, said: Mapping[str, Any], *, percent: bool) -> PublishedColumn:
    own = said.get("own")
    scale = 100.0 if percent and own not in {"mt_bench", "alpaca_eval"} else 1.0
    return PublishedColumn(said["key"], name, said["format"], own, scale, said.get("over"))


def _value(text: str) -> Value:
    digits = len(text.partition(".")[2])
    return Value(float(text), 0.5 * 10**-digits)


def making_of(label: str, said: Mapping[str, Any]) -> Making:
    """Read a row's label: ``L8B : Q72 + L70 (500k)``, ``Q72 : None``, or a DGM alone where the table has one base."""
    full = f"{said['base']} : {label}" if said.get("base") else label
    match = _MAKING.match(full)
    if match is None or match["dgms"] == "None":
        return Making(match["base"] if match else label)
    size = int(match["thousands"]) * 1000 if match["thousands"] else said.get("size")
    return Making(match["base"], tuple(match["dgms"].split(" + ")), size)
