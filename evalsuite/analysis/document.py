"""The document of an analysis: tables, the charts drawn from them, and examples, in ``results/analyses/``.

Every analysis writes the same format, so that the report can show a new one unchanged:

    results/analyses/<kind>-<name>/analysis.json
    results/analyses/<kind>-<name>/<table id>.csv

A figure has its column's key; ``<key>_ci95`` is its 95 % interval and ``<key>_why`` says why it is missing (null).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalsuite.errors import DataError, refuse_newer
from evalsuite.files import read_json, write_json, write_text
from evalsuite.text import csv_text

SCHEMA = 1
FOLDER, FILE = "analyses", "analysis.json"

Kind = Literal["style", "similarity", "keywords", "efficiency", "contamination", "data", "study", "paper", "ratings"]
Format = Literal["text", "int", "float1", "float2", "float3", "percent1", "signed1", "signed3"]
Drawing = Literal["bars", "histogram", "lines", "heatmap", "spider"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: the key of its values, its heading, and their format.

    ``percent1`` is a share from 0 to 1, shown as percent with one digit; ``signed1`` has its sign. A whole
    number (an ``int``) in a column of floats is shown without decimals: counts and ratios may share a column.
    """

    key: str
    label: str
    format: Format = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of figures. ``source`` names the published table that it reproduces, as in ``WILDCHAT-50M, Table 3``."""

    id: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    source: str | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of one table's columns.

    bars and spider: one group or polygon per row, one bar or axis for each of ``values``; heatmap: rows by ``values``;
    histogram: bars in the order of the rows, which replaces its table in the page;
    lines: the points of one line are the rows with the same ``label``, at column ``x`` and height ``values[0]``.
    Lines without ``x`` have one line for each of ``values``, and ``label`` is their horizontal axis.
    """

    id: str
    title: str
    kind: Drawing
    table: str
    label: str
    values: Sequence[str]
    source: str | None = None
    x: str | None = None


@dataclass(frozen=True, slots=True)
class Analysis:
    """One analysis. ``examples`` are texts by word or id: ``{"model", "text", "prompt"}`` each."""

    kind: Kind
    name: str
    title: str
    about: str
    provenance: Mapping[str, Any]
    tables: Sequence[Table]
    charts: Sequence[Chart] = ()
    examples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def cell(key: str, value: float | None, interval: Sequence[float] | None = None, why: str = "") -> dict[str, Any]:
    """Return the entries of a figure in a row: its value with its interval, or ``why`` there is none."""
    if value is None:
        return {key: None, f"{key}_why": why}
    return {key: value} | ({f"{key}_ci95": list(interval)} if interval else {})


def listed(names: Sequence[str], most: int = 4) -> str:
    """Join names by commas, as in ``a, b and 3 more``."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def written(value: Any, form: Format) -> str:
    """Format one value for display; a dash for None."""
    if value is None:
        return "–"
    if form == "text" or isinstance(value, str | bool):
        return str(value)
    if form == "percent1":
        return f"{100 * value:z.1f} %"
    if form == "int" or (isinstance(value, int) and form.startswith("float")):
        return f"{round(value):,}"
    digits = int(form[-1])
    return f"{value:+z.{digits}f}" if form.startswith("signed") else f"{value:z.{digits}f}"


def analysis_name(names: Sequence[str]) -> str:
    """Make a folder's name from the names of what was analysed, as in ``qwen-vs-llama``; at most 60 characters."""
    joined = "-vs-".join(_UNSAFE.sub("-", name).strip("-._") or "x" for name in names[:3])
    if len(names) > 3:
        joined += f"-and-{len(names) - 3}-more"
    return joined[:60].strip("-._") or "answers"


def as_json(analysis: Analysis) -> dict[str, Any]:
    """Return the document in JSON's own types; raises ValueError for an inconsistent one."""
    if faults := _faults(analysis):
        raise ValueError("; ".join(faults))
    document = json.loads(json.dumps(asdict(analysis), allow_nan=False))
    for chart in document["charts"]:
        if chart["x"] is None:
            del chart["x"]
    if not document["examples"]:
        del document["examples"]
    return {"schema": SCHEMA, **document}


def _faults(analysis: Analysis) -> list[str]:
    faults = [] if _NAME.fullmatch(analysis.name) else [f"the name {analysis.name!r} is not a plain file name"]
    tables = {table.id: table for table in analysis.tables}
    if len(tables) < len(analysis.tables):
        faults.append("two tables have the same id")
    for table in analysis.tables:
        if not _NAME.fullmatch(table.id):
            faults.append(f"the table id {table.id!r} is not a plain file name")
        keys = {column.key for column in table.columns}
        if len(keys) < len(table.columns):
            faults.append(f"table {table.id} has two columns with the same key")
        for row in table.rows:
            faults += _row_faults(table, row)
    for chart in analysis.charts:
        if chart.table not in tables:
            faults.append(f"chart {chart.id} draws the table {chart.table!r}, which does not exist")
            continue
        known = {column.key for column in tables[chart.table].columns}
        for key in (chart.label, *chart.values, *([chart.x] if chart.x else [])):
            if key not in known:
                faults.append(f"chart {chart.id} draws {key!r}, which is not a column of {chart.table}")
    return faults


def _row_faults(table: Table, row: Mapping[str, Any]) -> list[str]:
    faults = []
    for column in table.columns:
        value = row.get(column.key)
        if value is not None and column.format != "text" and not _is_number(value):
            faults.append(f"table {table.id}, {column.key} is {value!r}; expected a number or null")
        interval = row.get(f"{column.key}_ci95")
        ends = tuple(interval) if isinstance(interval, list | tuple) else ()
        if interval is not None and not (len(ends) == 2 and all(map(_is_number, ends)) and ends[0] <= ends[1]):
            faults.append(f"table {table.id}, {column.key}_ci95 is {interval!r}; expected two numbers in order")
    return faults


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def table_csv(table: Table) -> str:
    """Return a table as CSV: full precision, intervals beside their figures, reasons where a figure is missing."""
    cells: dict[str, list[Any]] = {}
    for key in (column.key for column in table.columns):
        cells[key] = [row.get(key) for row in table.rows]
        intervals = [row.get(f"{key}_ci95") or (None, None) for row in table.rows]
        if any(interval != (None, None) for interval in intervals):
            cells[f"{key}_ci_low"], cells[f"{key}_ci_high"] = map(list, zip(*intervals, strict=True))
        reasons = [row.get(f"{key}_why") for row in table.rows]
        if any(reasons):
            cells[f"{key}_why"] = reasons
    return csv_text([cells, *zip(*cells.values(), strict=True)])


def write_analysis(results: Path, analysis: Analysis) -> Path:
    """Write analysis.json and one CSV per table, and return the folder; an earlier analysis of this name is replaced.

    Raises ValueError for an inconsistent document, StoreError when the files cannot be written.
    """
    document = as_json(analysis)
    folder = results / FOLDER / f"{analysis.kind}-{analysis.name}"
    for table in analysis.tables:
        write_text(folder / f"{table.id}.csv", table_csv(table))
    kept = {f"{table.id}.csv" for table in analysis.tables}
    for old in folder.glob("*.csv"):
        if old.name not in kept:
            old.unlink(missing_ok=True)
    write_json(folder / FILE, document)
    return folder


def read_analysis(path: Path) -> Analysis:
    """Read an analysis.json (or the folder that contains it); raises DataError."""
    from pydantic import TypeAdapter, ValidationError

    path = path / FILE if path.is_dir() else path
    document = read_json(path)
    if isinstance(document, dict):
        refuse_newer(path, document.get("schema"), SCHEMA)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise DataError(f"{path} is not an analysis of schema {SCHEMA}; run the analysis again")
    fields = {key: value for key, value in document.items() if key != "schema"}
    try:
        analysis = TypeAdapter(Analysis).validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path} is not an analysis ({where}: {first['msg']}); run the analysis again") from error
    if faults := _faults(analysis):
        raise DataError(f"{path} is inconsistent ({faults[0]}); run the analysis again")
    return analysis


def analysis_files(results: Path) -> list[Path]:
    """List the analyses of a results folder, by folder name."""
    return sorted(results.glob(f"{FOLDER}/*/{FILE}"))
