"""Writing a mix: rows in the drawn order, in bounded shards, byte-identical every time.

The sources are read again in their order, and each selected conversation is written to the spool file of its shard;
then each shard is sorted and written. So a shuffled mix of any size needs the memory of one shard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import pyarrow as pa
from pyarrow import parquet

from evalsuite.conversations.fields import fields_of
from evalsuite.conversations.formats import Conversation
from evalsuite.fingerprint import file_sha256
from evalsuite.text import mapped, well_formed

ROWS_PER_SHARD = 10_000
_MAX_SHARDS = 200
_CALL = pa.struct({"name": pa.string(), "arguments": pa.string()})
_TURN_FIELDS = {
    **dict.fromkeys(("role", "content", "reasoning_content"), pa.string()),
    "tool_calls": pa.list_(pa.struct({"id": pa.string(), "type": pa.string(), "function": _CALL})),
    **dict.fromkeys(("name", "tool_call_id"), pa.string()),
    "weight": pa.float64(),
}
"""The columns of a turn; all but role and content only where the mix has them."""


@dataclass(slots=True)
class Counts:
    """Counts of one source: rows, messages, those with a thought, characters of their contents, tokens (None without a
    tokenizer), and a running hash.
    """

    rows: int = 0
    messages: int = 0
    thoughts: int = 0
    characters: int = 0
    tokens: int | None = None
    digest: Any = field(default_factory=hashlib.sha256)


class Spool:
    """Spool files, one per shard, for ``n_rows`` in total."""

    def __init__(self, folder: Path, n_rows: int, rows_per_shard: int = ROWS_PER_SHARD) -> None:
        self.rows_per_shard = max(rows_per_shard, -(-n_rows // _MAX_SHARDS))
        self.n_shards = max(1, -(-n_rows // self.rows_per_shard))
        self._paths = [folder / f".spool-{shard:05d}.jsonl" for shard in range(self.n_shards)]
        self._files: list[IO[str]] = []
        self.turn_fields: set[str] = set()
        """The fields of turns besides role and content that a row has."""
        self.has_tools = False

    def __enter__(self) -> Self:
        self._files = [path.open("w", encoding="utf-8") for path in self._paths]
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def put(self, position: int, row: Mapping[str, Any]) -> None:
        """Write the row at ``position`` of the mix to its spool file."""
        self.turn_fields.update(*(message.keys() for message in row["messages"]))
        self.has_tools |= "tools" in row
        line = json.dumps([position, row], ensure_ascii=True, separators=(",", ":"))
        self._files[position // self.rows_per_shard].write(line + "\n")

    def shards(self) -> Iterable[list[dict[str, Any]]]:
        """Yield each shard's rows in order, and delete its spool file."""
        for path in self._paths:
            with path.open(encoding="utf-8") as lines:
                rows = [json.loads(line) for line in lines]
            path.unlink()
            yield [row for _, row in sorted(rows, key=lambda pair: int(pair[0]))]


def row_of(conversation: Conversation, source: str, dgm: str | None) -> dict[str, Any]:
    """Return a conversation as a row of the mix; lone surrogates, which Parquet cannot store, are escaped."""
    row = {
        "messages": [mapped(fields_of(message), well_formed) for message in conversation.messages],
        "conversation_hash": well_formed(conversation.hash),
        "source": source,
        "dgm": dgm,
    }
    return row if conversation.tools is None else row | {"tools": well_formed(conversation.tools)}


def write_shards(spool: Spool, folder: Path, counts: Mapping[str, Counts]) -> tuple[list[dict[str, Any]], str]:
    """Write ``mix-00000-of-N.parquet`` ...; return file, rows and SHA-256 of each, and the hash of all rows.

    The hash covers the rows' content in order, independent of the file format. Updates ``counts`` by source.
    """
    content = hashlib.sha256()
    shards = []
    for number, rows in enumerate(spool.shards()):
        for row in rows:
            line = json.dumps(row, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode() + b"\n"
            content.update(line)
            count = counts[row["source"]]
            count.digest.update(line)
            count.rows += 1
            count.messages += len(row["messages"])
            count.characters += sum(len(message["content"]) for message in row["messages"])
            count.thoughts += sum("reasoning_content" in message for message in row["messages"])
        path = folder / f"mix-{number:05d}-of-{spool.n_shards:05d}.parquet"
        parquet.write_table(_table(rows, spool), path, compression="zstd", row_group_size=1000)
        shards.append({"file": path.name, "rows": len(rows), "sha256": file_sha256(path)})
    return shards, content.hexdigest()


def _table(rows: list[dict[str, Any]], spool: Spool) -> pa.Table:
    fields = {name: kind for name, kind in _TURN_FIELDS.items() if name in {"role", "content"} | spool.turn_fields}
    columns = {"messages": pa.list_(pa.struct(fields))}
    columns |= dict.fromkeys(("conversation_hash", "source", "dgm"), pa.string())
    columns |= {"tools": pa.string()} if spool.has_tools else {}
    return pa.Table.from_pylist(rows, schema=pa.schema(columns))
