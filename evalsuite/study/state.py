"""What of a study is done: one small file per finished stage, named by its content key, written last.

    results/studies/<name>/done/<key>.json      the record: outputs, proof, seconds, notes
    results/studies/<name>/last.json            the status of every stage in the last run, with reasons
    results/studies/<name>/logs/<stage>.log     stderr of a stage's own process

A record counts only while the files in its proof are unchanged; paths in it are relative to the results folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalsuite.documents import SCHEMA
from evalsuite.errors import DataError, EvalsuiteError
from evalsuite.files import locked, read_json, write_json
from evalsuite.fingerprint import read_sha256, text_sha256
from evalsuite.fleet.children import COMMAND
from evalsuite.progress import Progress
from evalsuite.study.file import Study
from evalsuite.study.fleet import Fleet
from evalsuite.study.graph import Stage

FOLDER = "studies"
"""The folder of all studies in a results folder."""
_KEY_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Made:
    """What a stage produced: ``outputs`` are paths by label, ``proof`` the files and folders that must not change."""

    outputs: Mapping[str, Path]
    proof: Sequence[Path] = ()
    notes: Sequence[str] = ()


TELLING = (3, 70, 75)
"""Exit codes of a stage that say what a study can expect: a failed server, an unexpected error, a limit or a lock."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a stage has no output; ``exit_code`` is 1 or one of ``TELLING``."""

    reason: str
    exit_code: int = 1

    @classmethod
    def of(cls, error: Exception) -> Failed:
        """Return the failure that an error is; with its class where it is not one of evalsuite's."""
        if isinstance(error, EvalsuiteError):
            return cls(str(error), error.exit_code if error.exit_code in TELLING else 1)
        return cls(f"{type(error).__name__}: {error}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Made):
    """A finished stage; ``hashes`` are those of its proof as it was made."""

    name: str
    seconds: float
    hashes: Mapping[Path, str]


class State:
    """The records of one study; ``locked`` keeps two processes from running it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def locked(self) -> AbstractContextManager[None]:
        """Lock the study; raises BusyError while another process runs it, StoreError without a writable folder."""
        return locked(
            self.folder / ".lock", f"another process runs the study in {self.folder}; wait for it, or stop it"
        )

    def record_of(self, key: str) -> Record | None:
        """Return the record of a stage; None if there is none or a file in its proof has changed."""
        record = self._read(self.folder / "done" / f"{key}.json")
        is_valid = record is not None and all(_hash_of(path) == sha256 for path, sha256 in record.hashes.items())
        return record if is_valid else None

    def finish(self, stage: Stage, key: str, made: Made, seconds: float) -> None:
        """Record a finished stage; raises DataError when a file in its proof does not exist."""
        proof = {path: _hash_of(path) for path in made.proof}
        if missing := [str(path) for path, sha256 in proof.items() if sha256 is None]:
            raise DataError(f"{stage.name} ended without writing {', '.join(missing)}")
        document = {
            "schema": SCHEMA,
            "key": key,
            "name": stage.name,
            "outputs": {label: self._relative(path) for label, path in made.outputs.items()},
            "proof": {self._relative(path): sha256 for path, sha256 in proof.items()},
            "seconds": round(seconds, 3),
            "notes": list(made.notes),
            "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": dict(stage.settings),
        }
        write_json(self.folder / "done" / f"{key}.json", document)

    def records(self) -> list[Record]:
        """Return every record, unreadable ones left out."""
        return [record for path in (self.folder / "done").glob("*.json") if (record := self._read(path))]

    def write_summary(self, cells: Sequence[Mapping[str, Any]]) -> None:
        """Write the status of every stage in this run."""
        write_json(self.folder / "last.json", {"schema": SCHEMA, "cells": list(cells)})

    def log_of(self, stage: Stage) -> Path:
        return self.folder / "logs" / f"{re.sub(r'[^A-Za-z0-9._+-]+', '-', stage.name)}.log"

    @property
    def _results(self) -> Path:
        return self.folder.parent.parent

    def _relative(self, path: Path) -> str:
        return os.path.relpath(path.resolve(), self._results.resolve())

    def _read(self, path: Path) -> Record | None:
        if not path.is_file():
            return None
        try:
            document = read_json(path)
            outputs = {label: self._results / output for label, output in document["outputs"].items()}
            hashes = {self._results / file: sha256 for file, sha256 in document["proof"].items()}
            measured = {name: document[name] for name in ("notes", "name", "seconds")}
            return Record(outputs, tuple(hashes), hashes=hashes, **measured)
        except (DataError, TypeError, AttributeError, KeyError):
            # Without a readable record the stage runs again, which is correct if slower.
            return None


def _hash_of(path: Path) -> str | None:
    """Return the SHA-256 of a file, or of a folder's file names and sizes; None where there is nothing."""
    if path.is_dir():
        listing = sorted(
            f"{file.relative_to(path)}\x1f{file.stat().st_size}" for file in path.rglob("*") if file.is_file()
        )
        return text_sha256("\n".join(listing))
    return read_sha256(path) if path.is_file() else None


@dataclass(frozen=True, slots=True)
class Task:
    """A stage to run; ``inputs`` are what the stages it depends on have made, by their names."""

    stage: Stage
    key: str
    inputs: Mapping[str, Made]


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a study runs: its file, the results folder and its state; ``command`` starts evalsuite."""

    study: Study
    results: Path
    state: State
    progress: Progress
    command: Sequence[str] = COMMAND
    fleet: Fleet | None = None
    """Where the commands of stages run in units of work; None: on this machine, one after the other."""

    def folder_of(self, task: Task) -> Path:
        """Return the folder for what a task writes, named after its key."""
        return self.state.folder / task.stage.kind / task.key[:_KEY_DIGITS]


Adapter = Callable[[Sequence[Task], Workspace], Mapping[str, Made | Failed]]
"""Runs tasks of one kind and returns the result of each by stage name; raises only for faults that concern all."""
