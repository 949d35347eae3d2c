"""The Parquet files of a run, planned before anything is answered: what each takes of the source.

The head of several machines reads the source once, leaves duplicates out, and notes how far it is read at the end of
every file. A unit of work then writes some of the files, which are the same as if one machine had written all.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evalsuite.conversations.source import Rows
from evalsuite.errors import DataError
from evalsuite.files import read_json, write_json
from evalsuite.generation.feed import Feed, Mark, SeenConversations
from evalsuite.generation.settings import GenerateConfig
from evalsuite.generation.shards import ShardFile

SEEN = "seen.sqlite"


@dataclass(frozen=True, slots=True)
class Chunks:
    """How far the source is read at the end of each file, and after the last conversation (``end``).

    A unit writes the files from ``first`` to ``last``.
    """

    marks: Sequence[Mark]
    end: Mark
    first: int
    last: int

    def others(self) -> dict[int, ShardFile]:
        """Return the files that other units write, of which only the mark is known."""
        return {
            number: ShardFile(number, "", "", 0, 0, 0, {}, {}, 0, 0, mark)
            for number, mark in enumerate(self.marks)
            if not self.first <= number <= self.last
        }

    @property
    def limit(self) -> int:
        """The conversations of the source up to the end of the unit's last file."""
        return self.marks[self.last].position

    def write(self, path: Path) -> None:
        write_json(path, asdict(self))


def read_chunks(path: Path) -> Chunks:
    """Read what a unit is to write; raises DataError for another file."""
    try:
        document = read_json(path)
        marks = [Mark(**mark) for mark in document["marks"]]
        return Chunks(marks, Mark(**document["end"]), document["first"], document["last"])
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} lists no Parquet files; run the command again") from error


def plan_chunks(config: GenerateConfig, rows: Rows, seen: SeenConversations) -> Chunks:
    """Read the source once and plan all files; memory does not grow with the conversations."""
    feed = Feed(rows, seen, language=config.language, limit=config.limit)
    marks: list[Mark] = []
    n, last = 0, Mark()
    for last in feed.marks():
        n += 1
        if n % config.shard_size == 0:
            marks.append(last)
    if n % config.shard_size:
        marks.append(last)
    return Chunks(marks, feed.mark, 0, len(marks) - 1)


def take_seen(config: GenerateConfig, stores: Path) -> None:
    """Let a unit know the conversations that the head has seen, so that it need not read the source from the start."""
    known = None if config.chunks is None else config.chunks.parent.parent / SEEN
    if known is not None and known.is_file() and not (stores / SEEN).exists():
        stores.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(known, stores / SEEN)
