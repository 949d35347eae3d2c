"""The exception hierarchy, with the exit code of each class on the command line.

    EvalsuiteError            3
    ├── UsageError            2   invalid command line or configuration
    ├── DataError             2   unusable benchmark data, recorded files or results
    ├── CheckpointError       2   a model folder that cannot be served
    │   └── TemplateError     2   a chat template that refuses a conversation
    ├── StoreError            2   the results folder cannot be written or read
    ├── OutputError           2   stdout is full or closed
    ├── BusyError            75   another process holds the lock, or a server's quota is used up: try again later
    ├── TrainingError         3   a training run failed; its checkpoints are kept
    └── ServerError           3   the model server failed; has the tail of its log
        └── DeniedError       2   it does not accept the key

A message is one sentence with the value, the expectation and the remedy. Items that fail during a run
are not errors but ``judges.types.Unscored``.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path


class EvalsuiteError(Exception):
    """Base class of all errors that evalsuite raises."""

    exit_code = 3

    def __str__(self) -> str:
        # A name or value from a user's file may contain line breaks; a message is one line.
        return " ".join(super().__str__().splitlines())


class UsageError(EvalsuiteError):
    """The command line or a configuration is invalid."""

    exit_code = 2


class DataError(EvalsuiteError):
    """Benchmark data, a recorded file or a result cannot be found, read or trusted."""

    exit_code = 2


class CheckpointError(EvalsuiteError):
    """A model folder lacks something that serving needs."""

    exit_code = 2


class TemplateError(CheckpointError):
    """A chat template refuses a conversation; it may write others."""


class StoreError(EvalsuiteError):
    """The results folder cannot be written or read."""

    exit_code = 2


class OutputError(EvalsuiteError):
    """Stdout cannot be written."""

    exit_code = 2


class BusyError(EvalsuiteError):
    """Another process holds a lock, or a server's quota is used up: the same command works later."""

    exit_code = 75


class TrainingError(EvalsuiteError):
    """A training run failed: a NaN loss, out of memory, a process that died."""


class ServerError(EvalsuiteError):
    """The model server did not start, died, or does not respond."""

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail

    def __str__(self) -> str:
        # The message may span lines.
        return Exception.__str__(self)


class DeniedError(ServerError):
    """A server needs a key, or does not accept the one that was sent."""

    exit_code = 2


@contextmanager
def blamed_on(subject: str) -> Iterator[None]:
    """Begin the message of an EvalsuiteError raised within with ``subject``, such as ``judge demo``."""
    try:
        yield
    except EvalsuiteError as error:
        message, *others = error.args or ("",)
        error.args = (f"{subject}: {message}", *others)
        raise


REMEDIES = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "change its access rights"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    **dict.fromkeys((errno.EIO, errno.ESTALE), "check the disk or the network file system"),
    **dict.fromkeys((errno.EXDEV, errno.ENOLCK, errno.EROFS), "give a folder on another file system"),
    errno.ENAMETOOLONG: "give a shorter path",
    errno.ELOOP: "remove the circular link",
    errno.EMFILE: "raise the limit with ulimit -n",
}
"""What any access to a file may meet, with its remedy."""


def cannot_write(path: Path, error: OSError) -> StoreError:
    """Return the one sentence on a file or folder that cannot be written, with the remedy."""
    remedy = REMEDIES.get(error.errno or 0, "give a writable folder")
    return StoreError(f"cannot write {path}: {error.strerror or error}; {remedy} and run again")


def first_line(error: BaseException) -> str:
    """Return the first non-empty line of an error's message, at most 200 characters; without one, its type."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line if len(line) <= 200 else line[:199] + "…"


_MOST_LISTED = 60


def refuse_newer(path: Path, schema: object, reads: int) -> None:
    """Raise DataError for a document that a newer evalsuite wrote: it is whole, so no other remedy fits."""
    if isinstance(schema, int) and schema > reads:
        raise DataError(f"{path} has schema {schema}; this evalsuite reads up to {reads}: upgrade evalsuite")


def unknown(what: str, value: str, known: Iterable[str]) -> str:
    """Return the message that ``value`` is not a known ``what``, with the closest known name.

    >>> unknown("suite", "mtbench", ["mt_bench", "openllm"])
    "unknown suite 'mtbench'; did you mean 'mt_bench'?"
    >>> unknown("model", "llama", [])
    "unknown model 'llama'; none exist"
    """
    names = sorted(known)
    if not names:
        return f"unknown {what} {value!r}; none exist"
    near = get_close_matches(value, names, n=1, cutoff=0.6)
    more = len(names) - _MOST_LISTED
    listed = ", ".join(names[:_MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")
    hint = f"did you mean {near[0]!r}?" if near else f"known: {listed}"
    return f"unknown {what} {value!r}; {hint}"


_JSON_TYPES = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "null": "null"}
_JSON_TYPES |= {"array": "a list", "object": "an object"}


def plain_fault(error: Exception) -> str:
    """Rewrite msgspec's message about a wrong value in plain words.

    >>> plain_fault(ValueError("Expected `str`, got `null` - at `$.output_1`"))
    "'output_1' must be a text, not null"
    """
    text, _, place = str(error).partition(" - at `")
    field = place.rstrip("`").removeprefix("$").removeprefix(".")
    name = f"'{field}'" if field else "it"
    if text.startswith(("Expected `float` ", "Number out of range")):
        return f"{name} must be a finite number"
    if match := re.fullmatch(r"Expected `([^`]+)`([^,]*)(?:, got `([^`]+)`)?", text):
        kinds = " or ".join(_JSON_TYPES.get(kind, kind) for kind in match[1].split(" | "))
        given = f", not {_JSON_TYPES.get(match[3], match[3])}" if match[3] else ""
        return f"{name} must be {kinds}{match[2]}{given}"
    if match := re.fullmatch(r"Object missing required field `([^`]+)`", text):
        return f"{field + ': ' if field else ''}{match[1]!r} is missing"
    if match := re.fullmatch(r"Invalid (?:enum )?value (.+)", text):
        return f"{name} has the unknown value {match[1]}"
    return f"{name}: {text}" if field else text
