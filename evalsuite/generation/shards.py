"""Writing finished conversations to Parquet files of a fixed number of rows, in the source's order.

A file contains the conversations ``[k * size, (k + 1) * size)``, which finish in any order, and is written
once all of them are finished. A straggler must not make the number of buffered rows grow without bound, so
a conversation is only admitted if it is less than ``reach`` ahead of the first one whose file is not
written: at most ``reach`` rows are in memory.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evalsuite.conversations.files import as_text
from evalsuite.conversations.formats import carried, language_of
from evalsuite.files import replacing
from evalsuite.fingerprint import file_sha256
from evalsuite.generation.feed import Mark, Prompted
from evalsuite.generation.turns import Turn
from evalsuite.text import mapped, well_formed

_ROW_GROUP = 1000
_SAME = ("conversation_hash", "language")
"""Source columns that equal the output's column of that name if they are text."""
_OUTPUT = ("conversation_hash", "model", "language", "messages", "policy", "unscored")
TURNS_COLUMN, OLD_TURNS_COLUMN = "messages", "conversation"
_TRAINERS = {"messages", "conversation", "conversations", "prompt", "completion", "chosen", "rejected", "text"}
"""Source columns that trainers (and our readers) would take for the answers, in part before ``messages``."""
_TRAINERS |= {"system", "system_prompt", "input_ids", "labels"}


@dataclass(frozen=True, slots=True)
class Row:
    """One answered conversation; ``unscored`` is the reason if the row could not be asked at all."""

    prompted: Prompted
    turns: tuple[Turn, ...]
    unscored: str | None


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One written file: its identity, counts, and how far the source is read after it."""

    number: int
    file: str
    sha256: str
    conversations: int
    rows_unscored: int
    answers: int
    unscored: Mapping[str, int]
    finish_reasons: Mapping[str, int]
    prompt_tokens: int
    completion_tokens: int
    mark: Mark
    thought_tokens: int = 0
    squared_tokens: int | None = None
    """The sum, over the source's conversations, of the square of the tokens of all their answers and thoughts."""


class Columns:
    """The output columns: the answers', then the source's, as ``source_<name>`` if the name is taken.

    A column that trainers read is under ``source_<name>`` too, so that they train on the answers in ``messages``.
    """

    def __init__(
        self,
        source: Any,
        model: str,
        policy: str,
        turns_column: str = TURNS_COLUMN,
        *,
        thoughts: bool = True,
        samples: int = 1,
    ) -> None:
        """``source`` is the Arrow schema of the source's rows.

        ``turns_column`` differs in older folders, which have no fields for ``thoughts``.
        """
        import pyarrow as pa

        self._model, self._policy, self._turns_column = model, policy, turns_column
        output = tuple(turns_column if name == TURNS_COLUMN else name for name in _OUTPUT)
        output += ("sample",) if samples > 1 else ()
        taken = {*output} if turns_column == OLD_TURNS_COLUMN else {*output, *_TRAINERS}
        self._names: dict[str, str] = {}
        for name in source.names:
            if name not in _SAME or source.field(name).type not in (pa.string(), pa.large_string()):
                self._names[name] = _free_name(name, {*output, *source.names} - {name}, taken=name in taken)
        texts = [(name, pa.string()) for name in ("role", "content", "finish_reason")]
        counts = [(name, pa.int64()) for name in ("prompt_tokens", "completion_tokens")]
        thought = [("reasoning_content", pa.string()), ("thought_tokens", pa.int64()), ("thought_closed", pa.bool_())]
        turn = pa.struct([*texts, ("cumulative_logprob", pa.float64()), *counts, *(thought if thoughts else [])])
        kinds = {turns_column: pa.list_(turn), "sample": pa.int64()}
        answer_columns = [(name, kinds.get(name, pa.string())) for name in output]
        self.schema = pa.schema([*answer_columns, *((new, source.field(old).type) for old, new in self._names.items())])

    def table(self, rows: Sequence[Row]) -> Any:
        """Return the rows as an Arrow table."""
        import pyarrow as pa

        records = [self._record(row) for row in rows]
        arrays = [_array([record[field.name] for record in records], field.type) for field in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _record(self, row: Row) -> dict[str, Any]:
        record: dict[str, Any] = {
            "conversation_hash": row.prompted.hash,
            "model": self._model,
            "language": language_of(row.prompted.row),
            self._turns_column: [asdict(turn) for turn in row.turns],
            "policy": self._policy,
            "unscored": row.unscored,
            "sample": row.prompted.sample,
        }
        return record | {new: carried(row.prompted.row, old) for old, new in self._names.items()}


def _free_name(name: str, others: Collection[str], *, taken: bool) -> str:
    """Return ``name``, or if it is taken, with "source_" prepended until no other column has that name."""
    new = f"source_{name}" if taken else name
    while taken and new in others:
        new = f"source_{new}"
    return new


def _array(values: Sequence[Any], kind: Any) -> Any:
    """Build one column; values that do not fit its type (mixed JSON, lone surrogates) become text."""
    import pyarrow as pa

    try:
        return pa.array(values, type=kind)
    except (pa.ArrowException, UnicodeError, TypeError, ValueError):
        clean = [mapped(value, well_formed) for value in values]
        return pa.array([as_text(value) for value in clean] if kind == pa.string() else clean, type=kind)


def file_name(number: int, part: str) -> str:
    """Return a shard's file name, ``part-00003.parquet``; ``part`` is the machine's part, such as "1of4"."""
    return f"part-{f'{part}-' if part else ''}{number:05d}.parquet"


def write_shard(folder: Path, name: str, table: Any) -> str:
    """Write a file atomically and return its SHA-256; raises StoreError."""
    import pyarrow.parquet as pq

    with replacing(folder / name) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=_ROW_GROUP)
    return file_sha256(folder / name)


class ShardWriter:
    """Collects rows as they finish and writes a file as soon as all of its rows are there."""

    def __init__(
        self, folder: Path, part: str, columns: Columns, size: int, ahead: int, written: Mapping[int, ShardFile]
    ) -> None:
        """``ahead`` conversations are answered concurrently; ``written`` are the existing files."""
        self.reach = size * (1 + -(-ahead // size))
        self.written = dict(written)
        self._folder, self._part, self._columns, self._size = folder, part, columns, size
        self._rows: dict[int, dict[int, Row]] = {}
        self._admission = asyncio.Condition()
        self._total: int | None = None

    @property
    def first_open(self) -> int:
        """The number of the first file that is not written."""
        number = 0
        while number in self.written:
            number += 1
        return number

    def number_of(self, index: int) -> int:
        return index // self._size

    async def admit(self, index: int) -> None:
        """Wait until conversation ``index`` is within reach of the first one whose file is not written."""
        async with self._admission:
            await self._admission.wait_for(lambda: index < self.first_open * self._size + self.reach)

    async def add(self, row: Row) -> ShardFile | None:
        """Add a finished conversation; return the file if it was the last one missing in it."""
        number = self.number_of(row.prompted.index)
        rows = self._rows.setdefault(number, {})
        rows[row.prompted.index] = row
        return await self._write(number) if len(rows) == self._size else None

    async def finish(self, total: int) -> ShardFile | None:
        """Write the last file, which may be smaller; ``total`` is the number of conversations."""
        last = (total - 1) // self._size
        if total and last not in self.written and len(self._rows.get(last, ())) == total - last * self._size:
            return await self._write(last)
        return None

    async def _write(self, number: int) -> ShardFile:
        # Runs once per number, when its last row is added.
        rows = [row for _, row in sorted(self._rows[number].items())]
        shard = await asyncio.get_running_loop().run_in_executor(None, self._write_rows, number, rows)
        async with self._admission:
            self.written[number] = shard
            del self._rows[number]
            self._admission.notify_all()
        return shard

    def _write_rows(self, number: int, rows: Sequence[Row]) -> ShardFile:
        name = file_name(number, self._part)
        sha256 = write_shard(self._folder, name, self._columns.table(rows))
        answers = [turn for row in rows for turn in row.turns if turn.role == "assistant"]
        return ShardFile(
            number=number,
            file=name,
            sha256=sha256,
            conversations=len(rows),
            rows_unscored=sum(row.unscored is not None for row in rows),
            answers=len(answers),
            unscored=_counted([row.unscored for row in rows] + [turn.unscored for turn in answers]),
            finish_reasons=_counted([None if turn.unscored else turn.finish_reason for turn in answers]),
            prompt_tokens=sum(turn.prompt_tokens or 0 for turn in answers),
            completion_tokens=sum(turn.completion_tokens or 0 for turn in answers),
            mark=rows[-1].prompted.mark,
            thought_tokens=sum(turn.thought_tokens or 0 for turn in answers),
            squared_tokens=sum(tokens**2 for tokens in _tokens_by_conversation(rows).values()),
        )


def _tokens_by_conversation(rows: Sequence[Row]) -> Counter[int]:
    """Count the tokens of answers and thoughts of each conversation, over its samples."""
    tokens: Counter[int] = Counter()
    for row in rows:
        counts = ((turn.completion_tokens or 0) + (turn.thought_tokens or 0) for turn in row.turns)
        tokens[row.prompted.mark.position] += sum(counts)
    return tokens


def _counted(reasons: Sequence[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(reason for reason in reasons if reason is not None).items()))
