"""Writing the finished checkpoint, a folder that ``evalsuite run`` can serve, atomically.

Everything is written to ``.training/finished``. Then the files are renamed into the checkpoint's folder,
``config.json`` (or ``adapter_config.json``) last, so that a reader finds either no checkpoint or a
complete one. If the process is killed in between, the next start completes the renames.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from evalsuite.checkpoint import TOKENIZER_FILES
from evalsuite.checkpoint.text_part import end_tokens
from evalsuite.errors import UsageError, cannot_write
from evalsuite.files import read_json, rename, timestamp, write_json, write_text

WORK = ".training"
_COMPANIONS = frozenset({".json", ".txt", ".model", ".tiktoken"})
# What is of the base's own weights and training, and templates beside the one that was trained with.
_NOT_COPIED = re.compile(
    r".*\.index\.json$|(?:training|trainer_state|all_results|eval_results|train_results|chat_template|evalsuite)\.json$"
    r"|adapter_|requirements|LICENSE|NOTICE"
)
_LAST = ("training.json", "adapter_config.json", "config.json")


def write_tokenizer(base: Path, folder: Path, template: str | None, end_token: str | None) -> None:
    """Copy the base's tokenizer files, with the chat template used in training, if there is one.

    ``end_token`` becomes the end of sequence token if the base does not stop at it; None keeps the base's.
    """
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    if template is not None:
        write_text(folder / "chat_template.jinja", template)
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.is_file() else {}
    settings.pop("chat_template", None)
    if end_token is not None:
        settings["eos_token"] = end_token
    write_json(path, settings)


def write_companions(base: Path, folder: Path, *, code: bool) -> None:
    """Copy what else a base has beside weights and tokenizer: its processor's settings, and with ``code`` its code.

    Servers other than evalsuite's load a vision-language model's processor, even for text alone.
    """
    for file in base.iterdir():
        is_setting = file.suffix in _COMPANIONS and not _NOT_COPIED.match(file.name)
        if file.is_file() and (is_setting or (code and file.suffix == ".py")) and not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)


def write_generation_config(base: Path, folder: Path, end_id: int | None) -> None:
    """Write the base's generation config with the end-of-turn token, if there is one, as a stop token."""
    path = base / "generation_config.json"
    settings = read_json(path) if path.is_file() else {"_from_model_config": True}
    stops = _base_stops(base)
    if end_id is not None and end_id not in stops:
        stops = [end_id, *stops]
    if stops:
        settings["eos_token_id"] = stops if len(stops) > 1 else stops[0]
    write_json(folder / "generation_config.json", settings)


def stops_at(base: Path, end_id: int) -> bool:
    """Return whether the base's own generation config stops at this token."""
    return end_id in _base_stops(base)


def _base_stops(base: Path) -> list[int]:
    for name in ("generation_config.json", "config.json"):
        if (base / name).is_file() and (stops := end_tokens(read_json(base / name))):
            return stops
    return []


def publish(finished: Path, out: Path) -> None:
    """Rename every file of ``finished`` into ``out``, the config that makes it a checkpoint last."""
    names = sorted(entry.name for entry in finished.iterdir())
    for name in [*(name for name in names if name not in _LAST), *(name for name in _LAST if name in names)]:
        _sync(finished / name)
        rename(finished / name, out / name)
    _sync(out)
    shutil.rmtree(out / WORK, ignore_errors=True)


def is_finished(out: Path) -> bool:
    return (out / "training.json").is_file() and any((out / name).is_file() for name in _LAST[1:])


def identity_of(out: Path) -> str | None:
    """Return the identity of the training in the folder, finished or not; None if there is none."""
    for path in (out / "training.json", out / WORK / "identity.json"):
        if path.is_file():
            return str(read_json(path).get("identity"))
    return None


def claim(out: Path, identity: str, *, fresh: bool) -> None:
    """Make sure that ``out`` is empty, new, or of this training; ``fresh`` moves existing content aside.

    Raises UsageError if it contains anything else, and StoreError if it is not writable.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; give a folder with --out")
    try:
        existing = identity_of(out)
        names = [entry.name for entry in out.iterdir() if entry.name != WORK] if out.is_dir() else []
        if fresh and out.is_dir() and (names or existing):
            out.rename(out.with_name(f"{out.name}.replaced-{timestamp()}"))
        elif existing is not None and existing != identity:
            remedy = "give another --out, or --fresh to move it aside"
            raise UsageError(f"{out} contains a training of another recipe, mix or base; {remedy}")
        elif existing is None and names:
            remedy = "give a new folder, or --fresh to move them aside"
            raise UsageError(f"{out} contains other files ({names[0]}); {remedy}")
        (out / WORK).mkdir(parents=True, exist_ok=True)
        if not is_finished(out):
            write_json(out / WORK / "identity.json", {"identity": identity})
    except OSError as error:
        raise cannot_write(out, error) from error


def write_adapter_base(folder: Path, base: str) -> None:
    """Set the adapter's base model to the one in the recipe instead of its local snapshot folder."""
    path = folder / "adapter_config.json"
    write_json(path, {**read_json(path), "base_model_name_or_path": base})


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
