"""Which conversations are answered, in which order: read from the source bit by bit, each exactly once.

The order is the source's. A row takes part when its language is the one asked for and no
earlier row is the same conversation; what takes part is counted (its position), and of several
machines number i of n takes every n-th. So the same conversation has the same place in the
output whenever and however often the reading starts anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from evalsuite.conversations.formats import Conversation, Format, detect_format, language_of, prompts_of, text_hash
from evalsuite.conversations.source import Rows
from evalsuite.errors import StoreError
from evalsuite.generation.settings import Slice
from judges.types import Unscored

_READ_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the source is read: rows, conversations that take part, and rows left out so far."""

    rows: int = 0
    position: int = 0
    duplicates: int = 0
    other_language: int = 0


@dataclass(frozen=True, slots=True)
class Prompted:
    """A row to answer: its place among this machine's (``index``), and how far the source is read after it."""

    index: int
    row: Mapping[str, Any]
    conversation: Conversation | Unscored
    hash: str
    mark: Mark


class Seen:
    """Which conversations the source has shown, on disk: memory stays flat however many there are.

    ``rows`` says from how many rows, counted from the source's first, every one is known here.
    """

    def __init__(self, path: Path) -> None:
        """Open or create; raises StoreError where the folder cannot be written."""
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS seen (key BLOB PRIMARY KEY, row INTEGER) WITHOUT ROWID")
            self._db.execute("CREATE TABLE IF NOT EXISTS reading (rows INTEGER)")
            self.rows: int = self._db.execute("SELECT COALESCE(MAX(rows), 0) FROM reading").fetchone()[0]
        except (OSError, sqlite3.Error) as error:
            raise _unwritable(path, error) from error

    def is_first(self, text: str, row: int) -> bool:
        """Whether no row before number ``row`` held ``text``; asking again about the same row changes nothing."""
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        try:
            if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, row)).rowcount:
                return True
            first: int = self._db.execute("SELECT row FROM seen WHERE key = ?", (key,)).fetchone()[0]
        except sqlite3.Error as error:
            raise _unwritable(self._path, error) from error
        return first >= row

    def commit(self, rows: int) -> None:
        """Keep what was asked about; every row of the source up to number ``rows`` was."""
        self.rows = max(self.rows, rows)
        try:
            self._db.execute("DELETE FROM reading")
            self._db.execute("INSERT INTO reading VALUES (?)", (self.rows,))
            self._db.commit()
        except sqlite3.Error as error:
            raise _unwritable(self._path, error) from error

    def close(self) -> None:
        self._db.close()


def _unwritable(path: Path, error: Exception) -> StoreError:
    return StoreError(f"cannot write {path} ({error}); check the disk, free some space and run again")


class Feed:
    """Hands out conversations from ``mark`` on, the first of this machine's with number ``index``.

    ``mark`` follows the reading; ``languages`` holds a few of those that were left out.
    """

    def __init__(
        self,
        rows: Rows,
        seen: Seen,
        *,
        language: str | None = None,
        limit: int | None = None,
        part: Slice | None = None,
        mark: Mark | None = None,
        index: int = 0,
    ) -> None:
        self.mark = mark or Mark()
        self.languages: set[str] = set()
        self._layout: Format = detect_format(rows.columns, rows.word)
        self._rows, self._seen = rows, seen
        self._language = None if language is None else language.casefold()
        self._limit, self._part, self._index = limit, part or Slice(), index
        self._reading = self._read()
        self._ready: list[Prompted] = []
        self._turn = asyncio.Lock()

    @property
    def index(self) -> int:
        """The number of this machine's conversations so far."""
        return self._index

    async def next(self, admit: Callable[[int], Any]) -> Prompted | None:
        """Return the next conversation, None after the last; awaits ``admit(index)`` first, in order.

        The source is read in another thread: it may be a network away.
        """
        async with self._turn:
            if not self._ready:
                self._ready = await asyncio.get_running_loop().run_in_executor(None, self._read_some)
            if not self._ready:
                return None
            await admit(self._ready[0].index)
            return self._ready.pop(0)

    def _read_some(self) -> list[Prompted]:
        some = list(islice(self._reading, _READ_AT_ONCE))
        self._seen.commit(self.mark.rows)
        return some

    def _read(self) -> Iterator[Prompted]:
        if self._limit is not None and self.mark.position >= self._limit:
            return
        for row in self._rows.starting_at(self.mark.rows):
            mark = self.mark = replace(self.mark, rows=self.mark.rows + 1)
            if self._language is not None and (language_of(row) or "").casefold() != self._language:
                self.mark = replace(mark, other_language=mark.other_language + 1)
                if len(self.languages) < 10:
                    self.languages.add(language_of(row) or "none given")
                continue
            conversation = prompts_of(row, self._layout)
            name, words = _identity(row, conversation)
            if not self._seen.is_first(words, mark.rows):
                self.mark = replace(mark, duplicates=mark.duplicates + 1)
                continue
            mark = self.mark = replace(mark, position=mark.position + 1)
            if self._part.holds(mark.position - 1):
                yield Prompted(self._index, row, conversation, name, mark)
                self._index += 1
            if mark.position == self._limit:
                return


def _identity(row: Mapping[str, Any], conversation: Conversation | Unscored) -> tuple[str, str]:
    """Return the row's hash, and the words by which two rows are the same conversation: hash and turns.

    Two conversations under one hash are not the same and both stay.
    """
    if isinstance(conversation, Unscored):
        own = row.get("conversation_hash")
        content = text_hash(dict(row))
        name = own if isinstance(own, str) and own else content
        return name, f"{name}\x1f{content}"
    content = text_hash([[message.role, message.content] for message in conversation.messages])
    return conversation.hash, f"{conversation.hash}\x1f{content}"
