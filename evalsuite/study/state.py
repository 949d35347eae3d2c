"""What of a study is done: one small file a finished stage, named by its content key, written last.

    results/studies/<name>/done/<key>.json      the record: outputs, proof, seconds, measures
    results/studies/<name>/last.json            what became of every stage the last time, with reasons
    results/studies/<name>/logs/<stage>.log     what a stage's own process said

A record is believed only while the files it vouches for are unchanged.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import filelock

from evalsuite.errors import DataError, StoreError, UsageError
from evalsuite.files import read_json, write_json
from evalsuite.results.folder import SCHEMA
from evalsuite.study.plan import Stage


@dataclass(frozen=True, slots=True)
class Made:
    """What a stage produced: ``outputs`` are paths by label, ``proof`` the files and folders that vouch for them.

    ``measures`` are what the projection of a later study learns from; ``notes`` stay with the record.
    """

    outputs: Mapping[str, Path]
    proof: Sequence[Path] = ()
    measures: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a stage has no output; ``exit_code`` 3 says that a model or a server failed."""

    reason: str
    exit_code: int = 1


@dataclass(frozen=True, slots=True)
class Record:
    """A finished stage as it is remembered; paths are written as seen from the results folder, so that it can move."""

    key: str
    name: str
    outputs: Mapping[str, Path]
    proof: Mapping[Path, str]
    seconds: float
    measures: Mapping[str, float]
    notes: Sequence[str]
    finished_at: str
    settings: Mapping[str, Any]

    @property
    def made(self) -> Made:
        return Made(self.outputs, tuple(self.proof), self.measures, self.notes)


class State:
    """The records of one study; ``locked`` keeps two processes from carrying it out at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the study; raises UsageError while another process does, StoreError without a writable folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / ".lock")
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise UsageError(f"the study in {self.folder} is being carried out; wait for it, or stop it") from error
        except OSError as error:
            raise StoreError(
                f"cannot write {self.folder}: {error.strerror or error}; give a writable folder with --results"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def done(self, key: str) -> Record | None:
        """Return the record of a stage, None where there is none or what it vouches for has changed."""
        record = self._read(self.folder / "done" / f"{key}.json")
        if record is None or any(_proof_of(path) != sha256 for path, sha256 in record.proof.items()):
            return None
        return record

    def finish(self, stage: Stage, key: str, made: Made, seconds: float) -> None:
        """Remember a finished stage; raises DataError when what it should have written is not there."""
        proof = {path: _proof_of(path) for path in made.proof}
        if missing := [str(path) for path, sha256 in proof.items() if sha256 is None]:
            raise DataError(f"{stage.name} ended without writing {', '.join(missing)}")
        document = {
            "schema": SCHEMA,
            "key": key,
            "name": stage.name,
            "outputs": {label: self._seen_from_results(path) for label, path in made.outputs.items()},
            "proof": {self._seen_from_results(path): sha256 for path, sha256 in proof.items()},
            "seconds": round(seconds, 3),
            "measures": dict(made.measures),
            "notes": list(made.notes),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": dict(stage.settings),
        }
        write_json(self.folder / "done" / f"{key}.json", document)

    def records(self) -> list[Record]:
        """Every record that was ever written here, oldest first; broken ones are passed over."""
        found = [self._read(path) for path in sorted((self.folder / "done").glob("*.json"))]
        return sorted((record for record in found if record is not None), key=lambda record: record.finished_at)

    def remember(self, cells: Sequence[Mapping[str, Any]]) -> None:
        """Write what became of every stage the last time, for whoever looks into the folder."""
        write_json(self.folder / "last.json", {"schema": SCHEMA, "cells": list(cells)})

    def log_of(self, stage: Stage) -> Path:
        return self.folder / "logs" / f"{re.sub(r'[^A-Za-z0-9._+-]+', '-', stage.name)}.log"

    @property
    def _results(self) -> Path:
        return self.folder.parent.parent

    def _seen_from_results(self, path: Path) -> str:
        return os.path.relpath(path.resolve(), self._results.resolve())

    def _read(self, path: Path) -> Record | None:
        if not path.is_file():
            return None
        try:
            document = {key: value for key, value in read_json(path).items() if key != "schema"}
            document["outputs"] = {label: self._results / place for label, place in document["outputs"].items()}
            document["proof"] = {self._results / place: sha256 for place, sha256 in document["proof"].items()}
            return Record(**document)
        except (DataError, TypeError, AttributeError, KeyError):
            # A record that cannot be read is no record: the stage is done again, which is right if slower.
            return None


def _proof_of(path: Path) -> str | None:
    """The SHA-256 of a file; of a folder over its files' names and sizes. None where there is nothing."""
    if path.is_dir():
        listing = sorted(
            f"{file.relative_to(path)}\x1f{file.stat().st_size}" for file in path.rglob("*") if file.is_file()
        )
        return hashlib.sha256("\n".join(listing).encode()).hexdigest()
    if not path.is_file():
        return None
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
