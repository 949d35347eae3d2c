"""The chat templates of a checkpoint: one, or several by name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from evalsuite.checkpoint import bounded_trial
from evalsuite.checkpoint.json_files import MAX_TEXT_BYTES, read_config
from evalsuite.errors import CheckpointError, DataError, UsageError, unknown
from evalsuite.files import read_text

_DEFAULT = "default"
_TOO_MUCH = f"does not finish within {bounded_trial.CPU_SECONDS} s and 2 GiB on short messages"
_LONGEST_S = 120
"""Wall-clock bound, where the processor is busy with other work."""


def choose_template(folder: Path, asked: Path | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the chat template of a folder, and the names to choose from where none is the default.

    ``asked`` is a Jinja file, or the name of one of the checkpoint's own templates. Raises UsageError for neither.
    """
    if asked is not None and asked.is_file():
        try:
            return read_text(asked, MAX_TEXT_BYTES, "give a Jinja file"), ()
        except DataError as error:
            raise UsageError(f"--chat-template: {error}") from error
    templates = own_templates(folder)
    if asked is not None:
        if str(asked) in templates:
            return templates[str(asked)], ()
        if len(templates) > 1:
            raise UsageError(f"--chat-template: {unknown('chat template', str(asked), templates)}")
        raise UsageError(f"--chat-template: cannot read {asked}: no such file; give a Jinja file, or fastchat:NAME")
    default = templates.get(_DEFAULT)
    return default, () if default is not None else tuple(sorted(templates))


def own_templates(folder: Path) -> dict[str, str]:
    """Return the chat templates of a folder by name; the only one of most is "default".

    They are read where transformers writes them: chat_template.jinja (and others in additional_chat_templates/),
    chat_template.json, tokenizer_config.json; the first that has any counts.
    """
    plain = folder / "chat_template.jinja"
    files = {_DEFAULT: plain} if plain.is_file() else {}
    files |= {file.stem: file for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    if files:
        return {name: _read(file) for name, file in files.items()}
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (folder / name).is_file() and (templates := dict(_listed(read_config(folder / name)))):
            return templates
    return {}


def _read(file: Path) -> str:
    try:
        return read_text(file, MAX_TEXT_BYTES, "save it as UTF-8, or pass --chat-template")
    except DataError as error:
        raise CheckpointError(str(error)) from error


def _listed(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    given = settings.get("chat_template")
    if isinstance(given, str):
        yield _DEFAULT, given
    for entry in reversed(given) if isinstance(given, list) else ():
        name, text = (entry.get("name"), entry.get("template")) if isinstance(entry, dict) else (None, None)
        if isinstance(name, str) and isinstance(text, str):
            yield name, text


@lru_cache(maxsize=64)
def check_bounds(template: str) -> None:
    """Raise CheckpointError for a chat template that needs more than 10 s or 2 GiB for three short messages.

    Loops and string multiplication need no unsafe function, so Jinja's sandbox does not stop them; a separate process
    does.
    """
    if not _is_bounded("--template", given=template):
        raise CheckpointError(f"the chat template {_TOO_MUCH}; pass another one with --chat-template")


def check_tokenizer_bounds(path: Path) -> None:
    """Raise CheckpointError for a tokenizer.json that needs more than 10 s or 2 GiB for a short text.

    A normalizer may write any text in place of a letter, and a pattern may try more ways than can be tried.
    """
    stat = path.stat()
    if not _is_bounded_tokenizer(path, stat.st_size, stat.st_mtime_ns):
        raise CheckpointError(f"the tokenizer {path} {_TOO_MUCH}; copy the base model's tokenizer files")


@lru_cache(maxsize=64)
def is_bounded_pattern(pattern: str) -> bool:
    """Return whether a regular expression is done with a few texts of 2,000 characters within 10 s.

    One that backtracks without end holds the interpreter: neither a signal nor another thread gets through.
    """
    return _is_bounded("--pattern", given=pattern)


@lru_cache(maxsize=64)
def _is_bounded_tokenizer(path: Path, *_: int) -> bool:
    return _is_bounded("--tokenizer", str(path))


def _is_bounded(*arguments: str, given: str = "") -> bool:
    command = [sys.executable, "-I", bounded_trial.__file__, str(bounded_trial.CPU_SECONDS), *arguments]
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}
    try:
        tried = subprocess.run(
            command,
            input=given.encode("utf-8", "replace"),
            capture_output=True,
            timeout=_LONGEST_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return tried.returncode == 0
