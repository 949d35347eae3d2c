"""Answers of conversations whose shard is not written yet.

A run of a million conversations would store as much in one store as in its shards. So each output shard
has a separate store, which receives all answers until the next one opens, and which is deleted once its
shard and all earlier ones are written. There are as many stores on disk as open shards. If a run grows before it is
finished, its stores are kept until the end, as their numbers are those of other shards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from evalsuite.files import timestamp
from evalsuite.store import LocalStore, Store

_NAME = re.compile(r"answers-(\d{5,})\.sqlite")


def keep_stores(folder: Path) -> None:
    """Keep the stores of an unfinished run that grows until it is finished."""
    stamp = timestamp()
    for path in [*folder.glob("answers-*.sqlite*"), *folder.glob(".answers-*.sqlite*")]:
        hidden = "." if path.name.startswith(".") else ""
        path.rename(folder / f"{hidden}kept-{stamp}-{path.name.removeprefix('.')}")


class RollingStore(AbstractContextManager["RollingStore"]):
    """An ``AnswerStore`` over one store per open shard."""

    def __init__(self, folder: Path, copies: Path | None = None) -> None:
        """Open the stores that an earlier call left in ``folder``; raises StoreError if it is not writable.

        ``copies`` is a folder that gets copies of them, from which another machine goes on.
        """
        self._folder, self._copies = folder, None if copies == folder else copies
        left = self._copies or folder
        paths = sorted(left.glob("answers-*.sqlite")) if left.is_dir() else []
        numbers = [int(match[1]) for path in paths if (match := _NAME.fullmatch(path.name))]
        self._stores = {number: self._open(number) for number in sorted(numbers)}
        self._kept = [Store(path) for path in sorted(folder.glob("kept-*.sqlite"))]

    def _open(self, number: int) -> Store:
        path = self._path(number)
        return Store(path) if self._copies is None else LocalStore(path, self._copies / path.name)

    def open_shard(self, shard: int) -> None:
        """Save answers from now on to the store of ``shard``, unless a later one is already open."""
        if not self._stores or shard > max(self._stores):
            self._stores[shard] = self._open(shard)

    def delete_before(self, shard: int) -> None:
        """Delete the stores of all shards before ``shard``, which are written."""
        for number in [number for number in self._stores if number < shard]:
            self._stores.pop(number).close()
            name = self._path(number).name
            for folder in filter(None, (self._folder, self._copies)):
                for path in [*folder.glob(f"{name}*"), *folder.glob(f".{name}*")]:
                    path.unlink(missing_ok=True)

    def get(self, key: str) -> dict[str, Any] | None:
        for store in (*reversed(list(self._stores.values())), *self._kept):
            if (answer := store.get(key)) is not None:
                return answer
        return None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        if not self._stores:
            self.open_shard(0)
        self._stores[max(self._stores)].put(key, value)

    def claim(self, key: str) -> bool:  # noqa: ARG002
        # Only one process at a time works in the folder.
        return True

    def release(self, key: str) -> None:
        pass

    def close(self) -> None:
        for store in (*self._stores.values(), *self._kept):
            store.close()
        self._stores, self._kept = {}, []

    def __exit__(self, *_: object) -> None:
        self.close()

    def _path(self, number: int) -> Path:
        return self._folder / f"answers-{number:05d}.sqlite"
