"""Rows of a data set on the hub, of files or of a suite: streamed, in a fixed order.

    for row in open_source("allenai/WildChat-1M@train"): ...
    for row in open_source("answers/"): ...           # Parquet or JSON lines, as `generate` and `mix` write
    for row in open_source("mt_bench"): ...           # a suite's prompts

Only a .json list and a suite's prompts are held in memory as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from evalsuite.conversations.files import find_files, json_columns, json_rows
from evalsuite.errors import DataError
from evalsuite.files import exists, plain_name
from evalsuite.fingerprint import files_sha256

Kind = Literal["hub", "file", "suite"]

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<config>[^@:]+))?(?:@(?P<split>[\w.-]+))?")
_BATCH_ROWS = 512
_FORMS = "a hub data set org/name[:config][@split], a file or folder (Parquet, JSONL, JSON, CSV), or a suite's name"


@dataclass(frozen=True, slots=True)
class Rows:
    """A source of rows that can be read as often as needed, always in the same order.

    ``fingerprint`` is the pinned revision (hub), the content's SHA-256 (files) or the data's hash (suites); ``n_rows``
    is None if unknown before reading. ``schema`` returns the Arrow schema of all rows; for JSON it reads everything
    once. Iteration raises DataError with the file if the data are damaged.
    """

    spec: str
    kind: Kind
    columns: tuple[str, ...]
    n_rows: int | None
    fingerprint: str
    schema: Callable[[], Any] = field(repr=False)
    starting_at: Callable[[int], Iterator[dict[str, Any]]] = field(repr=False)
    """Iterate from a row on (0 is the first), without decoding the rows before it."""

    @property
    def name(self) -> str:
        """The spec without local folders."""
        return (Path(self.spec).name or self.spec) if self.kind == "file" else self.spec

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.starting_at(0)


def open_source(spec: str, read: Collection[str] | None = None) -> Rows:
    """Open the source given by ``spec``; raises DataError if it is not found or cannot be read.

    ``read`` names the columns that the caller looks at, so that others in Parquet files are not decoded.
    """
    from evalsuite.suites.registry import prompt_suites, suites

    if spec in prompt_suites():
        return _suite(spec)
    path = Path(spec).expanduser()
    if exists(path):
        return _files(spec, path, read)
    if spec.partition(":")[0] in suites():
        raise DataError(f"suite {spec} cannot be used as a source of prompts; give one of {', '.join(prompt_suites())}")
    match = _HUB.fullmatch(spec)
    if match is None or spec.startswith(("./", "../")) or plain_name(path).endswith((".parquet", ".jsonl", ".json")):
        raise DataError(f"source {spec!r} not found; give {_FORMS}")
    from evalsuite.conversations.hub import hub_source

    return Rows(spec, "hub", *hub_source(match["repo"], match["config"], match["split"]))


def _files(spec: str, path: Path, read_columns: Collection[str] | None) -> Rows:
    files = find_files(path)
    fingerprint = files_sha256(files)
    if files[0].suffix == ".parquet":
        from evalsuite.conversations.parquet import common_schema, parquet_batches, parquet_schemas

        schemas, counts = parquet_schemas(files)
        columns = tuple(dict.fromkeys(name for schema in schemas for name in schema.names))

        def parquet_rows(start: int) -> Iterator[dict[str, Any]]:
            for batch in parquet_batches(files, counts, start, _BATCH_ROWS, read_columns):
                yield from batch.to_pylist()

        return Rows(
            spec, "file", columns, sum(counts), fingerprint, lambda: common_schema(files, schemas), parquet_rows
        )

    def schema() -> Any:
        from evalsuite.conversations.parquet import json_schema

        return json_schema(files)

    return Rows(spec, "file", json_columns(files), None, fingerprint, schema, partial(json_rows, files))


def _suite(name: str) -> Rows:
    """Return a suite's prompts: one row per item with its user turns as ``messages``."""
    from evalsuite.suites.registry import suite_named

    suite = suite_named(name)
    loaded = suite.load(suite.options_type())
    prompts = {item.id: suite.row(item, loaded).prompt or () for item in loaded.items}
    rows: list[dict[str, Any]] = [
        {"id": key, "messages": [{"role": "user", "content": turn.content} for turn in prompt if turn.role == "user"]}
        for key, prompt in prompts.items()
    ]

    def schema() -> Any:
        import pyarrow as pa

        turn = pa.struct({"role": pa.string(), "content": pa.string()})
        return pa.schema({"id": pa.string(), "messages": pa.list_(turn)})

    fingerprint = " ".join(str(pin.sha256) for pin in loaded.data_pins.values())
    return Rows(name, "suite", ("id", "messages"), len(rows), fingerprint, schema, lambda start: iter(rows[start:]))
