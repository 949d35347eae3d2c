"""Rows from a data set on the hub, from files or from a suite: streamed, in a fixed order.

    for row in open_source("allenai/WildChat-1M@train"): ...
    for row in open_source("answers/"): ...           # Parquet or JSON lines, as `generate` and `mix` write
    for row in open_source("mt_bench"): ...           # a suite's prompts

Nothing is ever held as a whole, but for a .json list and a suite's few hundred prompts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalsuite.conversations.files import (
    find_files,
    json_rows,
    json_schema,
    json_start,
    parquet_batches,
    parquet_schema,
    without_path,
)
from evalsuite.errors import DataError
from evalsuite.files import exists
from evalsuite.fingerprint import files_sha256
from evalsuite.suites.names import SUITE_NAMES

Kind = Literal["hub", "file", "suite"]
CHAT_SUITES = ("mt_bench", "alpaca_eval", "mixeval")

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?::(?P<config>[^@:]+))?(?:@(?P<split>[\w.-]+))?")
_BATCH_ROWS = 512
_FORMS = "a hub data set org/name[:config][@split], a file or folder (Parquet, JSONL, JSON), or a suite's name"


@dataclass(frozen=True, slots=True)
class Rows:
    """A source of rows that can be read as often as needed, always in the same order.

    ``fingerprint`` is the pinned revision (hub), the content's SHA-256 (files) or the data's
    hash (suites); ``n_rows`` is None where only reading would tell. ``schema`` gives the Arrow
    schema of all rows; for JSON it reads everything once. Iteration raises DataError, naming
    the file, when the data turn out to be broken.
    """

    word: str
    kind: Kind
    columns: tuple[str, ...]
    n_rows: int | None
    fingerprint: str
    schema: Callable[[], Any] = field(repr=False)
    starting_at: Callable[[int], Iterator[dict[str, Any]]] = field(repr=False)
    """Iterate from a row on (0 is the first), without decoding those before it."""

    @property
    def name(self) -> str:
        """The word without the folders of this machine."""
        return without_path(self.word) if self.kind == "file" else self.word

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.starting_at(0)


def open_source(word: str) -> Rows:
    """Open what ``word`` names; raises DataError in one sentence when it cannot be had or read."""
    if word in CHAT_SUITES:
        return _suite(word)
    path = Path(word).expanduser()
    if exists(path):
        return _files(word, path)
    if word.partition(":")[0] in SUITE_NAMES:
        raise DataError(f"{word} holds no conversations (lm-eval drives it); as prompts give {', '.join(CHAT_SUITES)}")
    match = _HUB.fullmatch(word)
    if match is None or word.startswith(("./", "../")) or path.suffix in {".parquet", ".jsonl", ".json"}:
        raise DataError(f"there is no {word!r}; give {_FORMS}")
    from evalsuite.conversations.hub import hub_source

    repo = hub_source(match["repo"], match["config"], match["split"])
    return Rows(word, "hub", repo.columns, repo.n_rows, repo.fingerprint, lambda: repo.schema, repo.starting_at)


def _files(word: str, path: Path) -> Rows:
    files = find_files(path)
    fingerprint = files_sha256(files)
    if files[0].suffix == ".parquet":
        schema, counts = parquet_schema(files)

        def parquet_rows(start: int) -> Iterator[dict[str, Any]]:
            for batch in parquet_batches(files, counts, start, _BATCH_ROWS):
                yield from batch.to_pylist()

        return Rows(word, "file", tuple(schema.names), sum(counts), fingerprint, lambda: schema, parquet_rows)
    columns = json_start(files)
    return Rows(
        word, "file", columns, None, fingerprint, lambda: json_schema(files), lambda start: json_rows(files, start)
    )


def _suite(name: str) -> Rows:
    """A suite's own prompts: one row an item, its user turns as ``messages``."""
    import pyarrow as pa

    from evalsuite.suites.base import SuiteOptions
    from evalsuite.suites.mixeval.prompts import formatted_prompt
    from evalsuite.suites.registry import SUITES

    loaded = SUITES[name].load(SuiteOptions())
    texts: dict[str, Callable[[Any], list[str]]] = {
        "mt_bench": lambda data: list(data["turns"]),
        "alpaca_eval": lambda data: [data["instruction"]],
        "mixeval": lambda data: [formatted_prompt(data, loaded.context)],
    }
    rows: list[dict[str, Any]] = [
        {"id": item.id, "messages": [{"role": "user", "content": text} for text in texts[name](item.data)]}
        for item in loaded.items
    ]
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("id", pa.string()), ("messages", pa.list_(turn))])
    fingerprint = " ".join(str(pin["sha256"]) for pin in loaded.data_pins.values())
    return Rows(
        name, "suite", ("id", "messages"), len(rows), fingerprint, lambda: schema, lambda start: iter(rows[start:])
    )
