"""The records of a model's folder, marked for one judge: what every reader of items goes through.

A folder written by evalsuite 0.1 has no records; its rows are converted from the benchmark's own files in memory. The
same happens, with a note, where a records file is broken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from evalsuite.checkpoint import Checkpoint
from evalsuite.documents import JudgeEntry, Manifest, Scores, SuiteEntry
from evalsuite.errors import DataError, EvalsuiteError
from evalsuite.records.files import Records, RecordsFile, RecordsInMemory, records_path
from evalsuite.records.rows import Header, JudgeRef, Row, for_judge, replaced
from evalsuite.results.folder import entry_of
from evalsuite.suites.base import Suite
from evalsuite.suites.registry import iter_suites, suite_of_key
from evalsuite.suites.repeats import marked_draws

T = TypeVar("T")


class RecordsOrExports:
    """A records file; where it cannot be read, the benchmark's own files take its place.

    ``note`` then says what is wrong with the records file; it is "" before.
    """

    def __init__(self, file: RecordsFile, exports: Callable[[], Records | None]) -> None:
        self.note = ""
        self.file = file
        self._exports = exports
        self._converted: Records | None = None

    @property
    def header(self) -> Header:
        return self._read(lambda records: records.header)

    @property
    def parts(self) -> Sequence[str]:
        return self._read(lambda records: records.parts)

    def rows(self, part: str | None = None) -> list[Row]:
        return self._read(lambda records: records.rows(part))

    def _read(self, read: Callable[[Records], T]) -> T:
        if self._converted is None:
            try:
                return read(self.file)
            except DataError as error:
                self._converted = self._exports()
                if self._converted is None:
                    raise
                self.note = str(error)
        return read(self._converted)


@dataclass(frozen=True)
class SuiteRecords:
    """One suite's rows of one model, marked by the verdicts of one judge."""

    suite: Suite
    key: str
    records: Records
    judge: str | None

    @property
    def header(self) -> Header:
        return self.records.header

    @property
    def parts(self) -> Sequence[str]:
        return self.records.parts

    @property
    def note(self) -> str:
        """What kept the records file from being read, where the exports took its place so far; "" otherwise."""
        return self.records.note if isinstance(self.records, RecordsOrExports) else ""

    def rows(self, part: str | None = None) -> list[Row]:
        """Read the rows of one part, or all of them, with their marks."""
        rows, header = self.records.rows(part), self.header
        if list(header.judges) in ([], [self.judge]):
            # Whole marks that were written are this judge's; one that is missing may be another run's without a judge.
            return [row if row.marks and not row.unscored else marked_draws(self.suite, row, header) for row in rows]
        return [marked_draws(self.suite, for_judge(row, self.judge), header) for row in rows]


def suite_records(folder: Path, key: str, scores: Scores, manifest: Manifest) -> SuiteRecords | None:
    """Return the records of a suite; None where the folder holds no items of it.

    Raises DataError where what is there cannot be read, neither as records nor as the benchmark's own files.
    """
    suite = suite_of_key(key)
    if suite is None:
        return None
    path = records_path(folder, key)
    exports = partial(_converted, suite, folder, key, entry_of(manifest, key), scores)
    records: Records | None = RecordsOrExports(RecordsFile(path), exports) if path.is_file() else exports()
    return None if records is None else SuiteRecords(suite, key, records, judge_id(records.header, scores.judge))


def all_records(folder: Path, scores: Scores, manifest: Manifest) -> list[SuiteRecords]:
    """Return the records of every suite of a folder that is installed here, in the order of the tables."""
    records = (suite_records(folder, key, scores, manifest) for key, _ in iter_suites(list(scores.suites)))
    return [one for one in records if one is not None]


def judge_id(header: Header, judge: JudgeEntry | None) -> str | None:
    """Return the key in ``header.judges`` of a judge in scores.json; None without one.

    A file about one judge needs no match: an imported one knows its judge by the name alone.
    """
    if not header.judges:
        return None
    if judge is not None:
        entries = header.judges.items()
        same = [key for key, entry in entries if judge.fingerprint and entry.fingerprint == judge.fingerprint]
        same += [key for key, entry in entries if entry.fingerprint is None and entry.name == judge.name]
        if same:
            return same[0]
    return next(iter(header.judges)) if len(header.judges) == 1 else None


def _converted(suite: Suite, folder: Path, key: str, entry: SuiteEntry, scores: Scores) -> Records | None:
    path = suite.peer_folders(folder, key)
    if path is None or not any(path.iterdir()):
        return None
    # The suite's options, as far as the manifest knows them.
    fields = suite.options_type.model_fields
    known = {name: value for name, value in entry.options.items() if name in fields and value is not None}
    options = suite.options_type(**{"data": scores.data, "limit": scores.limit, **known})
    try:
        recorded = suite.read_peer(path, options)
    except DataError:
        raise
    except EvalsuiteError as error:
        raise DataError(f"{path}: {error}") from error
    return _with_known_judge(RecordsInMemory(recorded.header, recorded.rows), scores.judge)


def _with_known_judge(records: RecordsInMemory, judge: JudgeEntry | None) -> RecordsInMemory:
    """Give the judge that a file knows by name the fingerprint that scores.json has of it."""
    names = list(records.header.judges)
    if judge is None or judge.fingerprint is None or len(names) != 1:
        return records
    known = Checkpoint(judge.name, None, judge.fingerprint).slug
    header = msgspec.structs.replace(records.header, judges={known: JudgeRef(judge.name, judge.fingerprint)})
    rows = [
        replaced(row, verdicts=tuple(msgspec.structs.replace(verdict, judge=known) for verdict in row.verdicts))
        for row in records.all_rows
    ]
    return RecordsInMemory(header, rows)
