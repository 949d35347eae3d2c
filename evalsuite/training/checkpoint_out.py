"""The finished checkpoint: a folder that ``evalsuite run`` serves as it is, made visible in one step.

Everything is written inside ``.training/finished``. Then the files are renamed into the
checkpoint's folder, ``config.json`` (or ``adapter_config.json``) last: before that rename a
reader finds no checkpoint, after it a whole one. A kill in between is mended by the next start.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import TOKENIZER_FILES
from evalsuite.errors import StoreError, UsageError
from evalsuite.files import read_json, write_json, write_text

WORK = ".training"
_LAST = ("training.json", "adapter_config.json", "config.json")


def write_tokenizer(base: Path, folder: Path, template: str, end_token: str | None) -> None:
    """Copy the base's tokenizer files as they are, with the chat template that was trained.

    ``end_token`` is set as the end of sequence where the base does not stop at it; None leaves it.
    """
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    write_text(folder / "chat_template.jinja", template)
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
    settings.pop("chat_template", None)
    if end_token is not None:
        settings["eos_token"] = end_token
    write_json(path, settings)


def write_generation_config(base: Path, folder: Path, end_id: int) -> None:
    """Keep the base's generation settings and let the end-of-turn token end an answer."""
    path = base / "generation_config.json"
    settings = read_json(path) if path.is_file() else {"_from_model_config": True}
    stops = stop_ids(base, end_id)
    settings["eos_token_id"] = stops if len(stops) > 1 else stops[0]
    write_json(folder / "generation_config.json", settings)


def stop_ids(base: Path, end_id: int) -> list[int]:
    """Return the tokens that end an answer: the base's own, with the end-of-turn token among them."""
    own = _own_stops(base)
    return own if end_id in own else [end_id, *own]


def stops_at(base: Path, end_id: int) -> bool:
    """Whether the base as it is ends an answer at this token."""
    return end_id in _own_stops(base)


def _own_stops(base: Path) -> list[int]:
    for name in ("generation_config.json", "config.json"):
        if (base / name).is_file():
            own = read_json(base / name).get("eos_token_id")
            if own is not None:
                return list(own) if isinstance(own, list) else [own]
    return []


def publish(finished: Path, out: Path) -> None:
    """Rename every file of ``finished`` into ``out``, the one that makes it a checkpoint last."""
    names = sorted(entry.name for entry in finished.iterdir())
    for name in [*(name for name in names if name not in _LAST), *(name for name in _LAST if name in names)]:
        _sync(finished / name)
        (finished / name).replace(out / name)
    _sync(out)
    shutil.rmtree(out / WORK, ignore_errors=True)


def is_finished(out: Path) -> bool:
    return (out / "training.json").is_file() and any(
        (out / name).is_file() for name in ("config.json", "adapter_config.json")
    )


def identity_of(out: Path) -> str | None:
    """Return the identity of what the folder holds, finished or begun; None for an empty or new folder."""
    for path in (out / "training.json", out / WORK / "identity.json"):
        if path.is_file():
            return str(read_json(path).get("identity"))
    return None


def claim(out: Path, identity: str, *, fresh: bool) -> None:
    """Make sure that ``out`` is empty, new, or this very run's; with ``fresh`` what is there is set aside.

    Raises UsageError when it holds something else, and StoreError when it cannot be written.
    """
    try:
        _claim(out, identity, fresh=fresh)
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror or error}; give --out a writable folder") from error


def _claim(out: Path, identity: str, *, fresh: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder with --out")
    found = identity_of(out)
    entries = [entry for entry in out.iterdir() if entry.name != WORK] if out.is_dir() else []
    if fresh and out.is_dir() and (entries or found):
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        out.rename(out.with_name(f"{out.name}.replaced-{stamp}-{os.getpid()}"))
    elif found is not None and found != identity:
        raise UsageError(
            f"{out} holds a training of another recipe, mix or base; give another --out, or --fresh to set it aside"
        )
    elif found is None and entries:
        raise UsageError(f"{out} holds other files ({entries[0].name}); give a new folder, or --fresh to set it aside")
    (out / WORK).mkdir(parents=True, exist_ok=True)
    if not is_finished(out):
        write_json(out / WORK / "identity.json", {"identity": identity})


def write_adapter_base(folder: Path, base: str) -> None:
    """Name the adapter's base by the recipe's word, not by where this machine keeps it."""
    path = folder / "adapter_config.json"
    settings: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    write_json(path, {**settings, "base_model_name_or_path": base})


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
