"""A unit of work: an evalsuite command that any machine can run, and run again, and what is known of it on disk.

fleet/<name>/unit.json                    the command; folders that it starts from
fleet/<name>/attempts/<attempt>/results/  what an attempt writes, with a copy of its store
fleet/<name>/attempts/<attempt>/log       its stderr; ``log.out`` is its stdout
fleet/<name>/attempts/<attempt>/ended.json  how an attempt ended that is worth another one
fleet/<name>/done.json                    the result: the first attempt that came to an end
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from evalsuite.errors import DataError
from evalsuite.files import exists, read_json, temporary_for, write_json
from evalsuite.store import content_key

FLEET = "fleet"
"""The folder of all units in a results folder."""
RESULTS, SCRATCH = "{results}", "{scratch}"
"""Words in a unit's arguments, for the attempt's results folder and the folder on the node's own disk."""
STORE = "store.sqlite"


@dataclass(frozen=True, slots=True)
class Unit:
    """An evalsuite command; ``seeds`` are model folders that it starts from, copied into its results.

    ``gpus`` are how many it needs, ``title`` names it to the user, and ``reads`` are files and folders that its machine
    must see under the same path.
    """

    folder: Path
    title: str
    arguments: tuple[str, ...]
    seeds: tuple[Path, ...] = ()
    gpus: int = 0
    reads: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        return self.folder.name

    def write(self) -> None:
        """Write it down for the machine that will run it; readable by this user alone, as URLs may hold keys."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "unit.json", _UNIT.dump_python(self, mode="json"))


@dataclass(frozen=True, slots=True)
class Done:
    """How a unit ended: its exit code, the reason if it failed, and its attempt's folder."""

    exit_code: int
    reason: str
    attempt: Path
    seconds: float
    host: str

    @property
    def results(self) -> Path:
        return self.attempt / "results"

    @property
    def stdout(self) -> str:
        path = self.attempt / "log.out"
        return path.read_text("utf-8", "replace") if path.is_file() else ""

    @property
    def last_lines(self) -> list[str]:
        path = self.attempt / "log.log"
        return path.read_text("utf-8", "replace").splitlines()[-40:] if path.is_file() else []


_UNIT, _DONE = pydantic.TypeAdapter(Unit), pydantic.TypeAdapter(Done)


def paths_in(specs: Iterable[str | Path]) -> tuple[Path, ...]:
    """Return which of the models or data that a command names are files or folders of this machine."""
    paths = (Path(spec).expanduser() for spec in specs)
    return tuple(path.absolute() for path in paths if exists(path))


def unit_folder(results: Path, name: str, identity: Any) -> Path:
    """Return the folder of a unit: its readable name, and a hash of everything that makes it this unit."""
    plain = re.sub(r"[^A-Za-z0-9._=+-]+", "-", name).strip("-.")[:60]
    return results.absolute() / FLEET / f"{plain}-{content_key({'unit': identity})[:12]}"


def read_unit(folder: Path) -> Unit:
    """Read the unit of a folder; raises DataError if there is none."""
    path = folder / "unit.json"
    document = read_json(path)
    try:
        return _UNIT.validate_python({**document, "folder": folder})
    except (pydantic.ValidationError, TypeError) as error:
        raise DataError(f"{path} is not a unit of work; run the command again") from error


def done_of(unit: Unit) -> Done | None:
    """Return how a unit ended, None while it has not."""
    path = unit.folder / "done.json"
    if not path.is_file():
        return None
    document = read_json(path)
    try:
        return _DONE.validate_python({**document, "attempt": unit.folder / "attempts" / document["attempt"]})
    except (pydantic.ValidationError, KeyError, TypeError) as error:
        raise DataError(f"{path} does not say how the unit ended; remove it and run the command again") from error


def failed_attempts(unit: Unit) -> list[dict[str, Any]]:
    """Return how earlier attempts ended that are worth another one."""
    paths = (unit.folder / "attempts").glob("*/ended.json")
    return [read_json(path) for path in sorted(paths, key=lambda path: path.stat().st_mtime)]


def has_started(unit: Unit) -> bool:
    """Return whether any machine has begun with it."""
    return any((unit.folder / "attempts").glob("*"))


def commit(path: Path, document: Any) -> bool:
    """Write a document if there is none yet; return False where another process was first."""
    temporary = temporary_for(path)
    write_json(temporary, document)
    try:
        # link(2) is atomic on network file systems too, and fails where the name exists.
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def delete(units: Sequence[Unit]) -> None:
    """Delete units whose results have been taken over."""
    for unit in units:
        shutil.rmtree(unit.folder, ignore_errors=True)
        with suppress(OSError):
            unit.folder.parent.rmdir()
