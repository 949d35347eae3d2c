"""The conversations to answer, streamed from the source in its order, each exactly once.

A row is selected if it has the requested language and no earlier row is the same conversation. Selected
rows are numbered (their position), and machine i of n takes every n-th. So a conversation has the same
place in the output no matter how often reading is resumed.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from evalsuite.conversations.formats import (
    Conversation,
    Format,
    content_hash,
    detect_format,
    language_of,
    prompts_of,
    text_hash,
)
from evalsuite.conversations.source import Rows
from evalsuite.errors import StoreError
from evalsuite.generation.settings import Slice
from judges.types import Unscored

_READ_AHEAD, _COMMIT_EVERY = 64, 10_000


@dataclass(frozen=True, slots=True)
class Mark:
    """How far the source is read: rows, selected conversations, and rows left out so far."""

    rows: int = 0
    position: int = 0
    duplicates: int = 0
    other_language: int = 0


@dataclass(frozen=True, slots=True)
class Prompted:
    """A row to answer: its number on this machine (``index``), and how far the source is read after it.

    ``sample`` is which of several answers of a conversation it is.
    """

    index: int
    row: Mapping[str, Any]
    conversation: Conversation | Unscored
    hash: str
    mark: Mark
    sample: int = 0


class SeenConversations:
    """The conversations read so far, on disk, so that memory does not grow with their number.

    ``rows`` is the number of rows from the source's first on that are all recorded here.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file; raises StoreError if the folder is not writable."""
        self._path = path
        with _writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            # What a power failure takes back is read from the source again: a batch and its mark are one transaction.
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS seen (key BLOB PRIMARY KEY, row INTEGER) WITHOUT ROWID")
            self._db.execute("CREATE TABLE IF NOT EXISTS reading (rows INTEGER)")
            self.rows: int = self._db.execute("SELECT COALESCE(MAX(rows), 0) FROM reading").fetchone()[0]

    def is_first(self, text: str, row: int) -> bool:
        """Return whether no row before number ``row`` had ``text``; idempotent for the same row."""
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with _writing(self._path):
            if self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, row)).rowcount:
                return True
            first: int = self._db.execute("SELECT row FROM seen WHERE key = ?", (key,)).fetchone()[0]
        return first >= row

    def commit(self, rows: int) -> None:
        """Commit; every row of the source up to number ``rows`` has been recorded."""
        self.rows = max(self.rows, rows)
        with _writing(self._path):
            self._db.execute("DELETE FROM reading")
            self._db.execute("INSERT INTO reading VALUES (?)", (self.rows,))
            self._db.commit()

    def close(self) -> None:
        self._db.close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"cannot write {path} ({error}); check the disk, free some space and run again") from error


class Feed:
    """Yields conversations from ``mark`` on, the first one of this machine with number ``index``.

    ``mark`` and ``index`` advance while reading; ``languages`` are some of the languages that were left out.
    """

    def __init__(
        self,
        rows: Rows,
        seen: SeenConversations,
        *,
        language: str | None = None,
        limit: int | None = None,
        part: Slice | None = None,
        mark: Mark | None = None,
        index: int = 0,
        samples: int = 1,
    ) -> None:
        self.mark = mark or Mark()
        self.languages: set[str] = set()
        self._layout: Format = detect_format(rows.columns, rows.spec)
        self._rows, self._seen = rows, seen
        self._language = None if language is None else language.casefold()
        self._limit, self._part, self.index, self._samples = limit, part or Slice(), index, samples
        self._reading = self._read()
        self._ready: list[Prompted] = []
        self._lock = asyncio.Lock()
        self.is_exhausted = False
        """Whether all conversations have begun."""

    async def next(self, admit: Callable[[int], Any]) -> Prompted | None:
        """Return the next conversation, None after the last; awaits ``admit(index)`` first, in order.

        The source is read in another thread, as it may be on the network.
        """
        async with self._lock:
            if not self._ready:
                self._ready = await asyncio.get_running_loop().run_in_executor(None, self._read_batch)
            if not self._ready:
                self.is_exhausted = True
                return None
            await admit(self._ready[0].index)
            return self._ready.pop(0)

    def marks(self) -> Iterator[Mark]:
        """Yield how far the source is read after each conversation, without answering any."""
        for prompted in self._read():
            if prompted.index % _COMMIT_EVERY == 0:
                self._seen.commit(self.mark.rows)
            yield prompted.mark
        self._seen.commit(self.mark.rows)

    def _read_batch(self) -> list[Prompted]:
        batch = list(islice(self._reading, _READ_AHEAD))
        self._seen.commit(self.mark.rows)
        return batch

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
            conversation = _answerable(prompts_of(row, self._layout))
            name, identity = identity_of(row, conversation)
            if not self._seen.is_first(identity, mark.rows):
                self.mark = replace(mark, duplicates=mark.duplicates + 1)
                continue
            mark = self.mark = replace(mark, position=mark.position + 1)
            if self._part.holds(mark.position - 1):
                for sample in range(self._samples):
                    yield Prompted(self.index, row, conversation, name, mark, sample)
                    self.index += 1
            if mark.position == self._limit:
                return


def _answerable(conversation: Conversation | Unscored) -> Conversation | Unscored:
    if isinstance(conversation, Conversation) and conversation.uses_tools:
        # What a tool returned follows from the calls of the answer that is to be replaced.
        return Unscored("tool_turns", "the conversation calls tools")
    return conversation


def identity_of(row: Mapping[str, Any], conversation: Conversation | Unscored) -> tuple[str, str]:
    """Return the row's hash, and the text that identifies the conversation: hash and turns.

    Different conversations with the same hash are both kept.
    """
    if isinstance(conversation, Unscored):
        recorded = row.get("conversation_hash")
        content = text_hash(dict(row))
        name = recorded if isinstance(recorded, str) and recorded else content
        return name, f"{name}\x1f{content}"
    content = content_hash(conversation.messages)
    return conversation.hash, f"{conversation.hash}\x1f{content}"
