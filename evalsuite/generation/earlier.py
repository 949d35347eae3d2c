"""Answers of earlier calls, for files that are written again: because some failed, or because the run grew.

The old files are moved to ``_unfinished/earlier/`` and kept there until the new ones are complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from evalsuite.conversations.formats import Conversation
from evalsuite.files import timestamp
from evalsuite.fingerprint import key_of
from evalsuite.generation.shards import OLD_TURNS_COLUMN, TURNS_COLUMN
from evalsuite.generation.turns import Turn
from judges.types import user_texts

_TURN_FIELDS = {field.name for field in fields(Turn)}
_KEPT_GROUPS = 4


def move_to_earlier(unfinished: Path, files: Sequence[Path]) -> None:
    """Move finished files aside, of which the answers are used again."""
    folder = unfinished / "earlier"
    folder.mkdir(parents=True, exist_ok=True)
    stamp = timestamp()
    for file in files:
        file.rename(folder / f"{stamp}-{file.name}")


class EarlierAnswers:
    """The recorded turns of conversations, found by their hash and user turns; 24 bytes each in memory."""

    def __init__(self, unfinished: Path) -> None:
        """Index the files that ``move_to_earlier`` left in ``unfinished``; later ones take precedence."""
        self.files = sorted((unfinished / "earlier").glob("*.parquet"))
        keys = [np.zeros(0, dtype=np.uint64)]
        groups, rows = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        self._groups: list[tuple[Path, int]] = []
        for file in self.files:
            for group, own in enumerate(_keys_by_group(file)):
                keys.append(own)
                groups.append(np.full(len(own), len(self._groups)))
                rows.append(np.arange(len(own)))
                self._groups.append((file, group))
        all_keys = np.concatenate(keys)
        order = np.argsort(all_keys, kind="stable")
        self._keys, self._group, self._row = all_keys[order], np.concatenate(groups)[order], np.concatenate(rows)[order]
        self._read: dict[int, list[list[Mapping[str, Any]]]] = {}

    def turns_of(self, conversation: Conversation, sample: int) -> tuple[Turn, ...]:
        """Return the recorded turns of a conversation, none if it was not answered."""
        users = user_texts(conversation.messages)
        key = _key(conversation.hash, users, sample)
        at = int(np.searchsorted(self._keys, key, side="right")) - 1
        if at < 0 or self._keys[at] != key:
            return ()
        recorded = self._turns_in(int(self._group[at]))[int(self._row[at])]
        return tuple(Turn(**{name: turn[name] for name in turn if name in _TURN_FIELDS}) for turn in recorded)

    def _turns_in(self, group: int) -> list[list[Mapping[str, Any]]]:
        if group not in self._read:
            file, number = self._groups[group]
            while len(self._read) >= _KEPT_GROUPS:
                del self._read[next(iter(self._read))]
            with pq.ParquetFile(file) as opened:
                self._read[group] = opened.read_row_group(number, columns=[_turns_column(opened)])[0].to_pylist()
        return self._read[group]

    def missing_in(self, files: Sequence[Path]) -> int:
        """Return how many of the recorded conversations are not in other files."""
        written = [keys for file in files for keys in _keys_by_group(file)]
        return int((~np.isin(self._keys, np.concatenate([np.zeros(0, dtype=np.uint64), *written]))).sum())


def hashes_in(file: Path, limit: int) -> set[str]:
    """Return the conversation hashes of a file's first rows."""
    with pq.ParquetFile(file) as opened:
        batches = opened.iter_batches(batch_size=limit, columns=["conversation_hash"])
        return set(next(batches).column(0).to_pylist()) if opened.metadata.num_rows else set()


def _turns_column(opened: pq.ParquetFile) -> str:
    names = opened.schema_arrow.names
    return OLD_TURNS_COLUMN if TURNS_COLUMN not in names or OLD_TURNS_COLUMN in names else TURNS_COLUMN


def _keys_by_group(file: Path) -> Iterator[NDArray[np.uint64]]:
    """Yield the keys of each row group of a file."""
    with pq.ParquetFile(file) as opened:
        column = _turns_column(opened)
        names = [name for name in ("conversation_hash", "sample", column) if name in opened.schema_arrow.names]
        for group in range(opened.metadata.num_row_groups):
            rows = opened.read_row_group(group, columns=names).to_pylist()
            yield np.array(
                [
                    _key(
                        row["conversation_hash"],
                        [turn["content"] or "" for turn in row[column] if turn["role"] == "user"],
                        row.get("sample") or 0,
                    )
                    for row in rows
                ],
                dtype=np.uint64,
            )


def _key(name: str, users: Sequence[str], sample: int) -> int:
    return key_of("\x1f".join([name, str(sample), *users]))
