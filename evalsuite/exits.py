"""How a command ends: one sentence on stderr and an exit code; a traceback only with ``--debug`` or in a file.

- 0: done
- 1: done, but more items are unscored than --max-unscored allows, or something is left out or has failed
- 2: invalid usage, configuration or data; a disk or an output that cannot be written
- 3: the model or the server failed
- 70: an unexpected error; a file holds its traceback
- 75: another process holds the lock, or a server's quota is used up: try again later
- 130: interrupted; finished work is kept
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from evalsuite.errors import REMEDIES, EvalsuiteError, ServerError, first_line
from evalsuite.packages import missing_sentence
from evalsuite.redaction import without_any_key, without_secrets
from evalsuite.text import printable

UNUSABLE, UNEXPECTED, INTERRUPTED = 2, 70, 130
_SIGNALLED = 128
RESUME = "evalsuite: interrupted; finished work is kept, run the same command again to resume"
_results: list[Path] = []


def is_worth_another_try(code: int) -> bool:
    """Return whether the same command may succeed later: a failed server, a lock or a quota, an interrupt, a signal."""
    return code in (3, 75) or code >= _SIGNALLED or code < 0


def stop_at_once(_: int, __: FrameType | None) -> None:
    """End with one sentence and the exit code of an interrupt: nothing has begun that needs cleaning up."""
    with suppress(OSError):
        os.write(2, f"{RESUME}\n".encode())
    os._exit(INTERRUPTED)


def stop_while_loading() -> None:
    """Answer SIGINT and SIGTERM by :func:`stop_at_once`; ignored signals stay ignored."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop_at_once)


def keep_tracebacks_in(results: Path) -> None:
    """Write tracebacks of unexpected errors to ``results/logs/`` from now on; to the temporary folder without it."""
    _results[:] = [results]


def report_error(error: BaseException, *, as_document: bool = True) -> int:
    """Print one sentence about an error on stderr, with --debug after its traceback, and return the exit code.

    With --json a document on stdout says the same, and whether the command is worth a retry; not where
    ``as_document`` is False, as a command prints one document.
    """
    code, sentence = _reported(error)
    if as_document and "--json" in sys.argv:
        with suppress(OSError, ValueError):
            print(json.dumps({"error": sentence, "exit_code": code, "again": is_worth_another_try(code)}))  # noqa: T201
    return code


def _reported(error: BaseException) -> tuple[int, str]:
    """Print what there is to say about an error; return the exit code and the sentence."""
    if os.environ.get("EVALSUITE_DEBUG"):
        _print(without_any_key("".join(traceback.format_exception(error)).rstrip()))
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, _said(RESUME)
    if isinstance(error, EvalsuiteError):
        if isinstance(error, ServerError) and error.log_tail:
            _print(without_secrets(error.log_tail))
        return error.exit_code, _said(without_secrets(f"evalsuite: {error}"))
    if sentence := missing_sentence(error):
        return UNUSABLE, _said(f"evalsuite: {sentence}")
    if isinstance(error, OSError) and error.errno in REMEDIES:
        path = f"cannot use {error.filename}: " if error.filename else ""
        said = f"evalsuite: {path}{error.strerror}; {REMEDIES[error.errno]} and run again"
        return UNUSABLE, _said(without_secrets(said))
    return UNEXPECTED, _said(f"evalsuite: unexpected {_summary(error)}; {_kept(error)}")


def _said(sentence: str) -> str:
    _print(sentence)
    return sentence.removeprefix("evalsuite: ")


def _summary(error: BaseException) -> str:
    kind, line = type(error).__name__, first_line(error)
    return without_any_key(kind if line == kind else f"{kind}: {line}")


def _kept(error: BaseException) -> str:
    """Write the traceback to a file and return where it is and what to do with it."""
    from evalsuite import __version__

    # Values of options may be secret; a traceback holds no values of variables.
    options = [each.partition("=")[0] for each in sys.argv[1:] if each.startswith("-")]
    about = f"evalsuite {__version__}, Python {sys.version.split()[0]} on {sys.platform}; options: {' '.join(options)}"
    text = without_any_key(f"{about}\n\n{''.join(traceback.format_exception(error))}")
    for folder in (*(results / "logs" for results in _results if results.is_dir()), None):
        with suppress(OSError):
            if folder is not None:
                folder.mkdir(exist_ok=True)
            handle, path = tempfile.mkstemp(prefix="evalsuite-error-", suffix=".log", dir=folder)
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as out:
                out.write(text)
            return f"please report it with {path}, which has the traceback"
    return "please report it with its traceback: run the command again with --debug"


def _print(text: str) -> None:
    # Without a stderr there is nowhere to write.
    with suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)  # noqa: T201


def keep_libraries_brief() -> None:
    """Shorten what libraries and threads report to one line each; --debug keeps their tracebacks."""
    logging.setLogRecordFactory(_brief_record)
    logging.raiseExceptions = False
    warnings.formatwarning = lambda message, category, *_, **__: f"{category.__name__}: {message}\n"
    threading.excepthook = lambda failed: _print_thread(failed.exc_value)
    sys.unraisablehook = lambda _: None


def _print_thread(error: BaseException | None) -> None:
    if error is not None:
        _print(f"evalsuite: a thread failed with {_summary(error)}; {_kept(error)}")


def _brief_record(*arguments: Any, **keywords: Any) -> logging.LogRecord:
    """Make a log record that names its exception instead of holding its traceback."""
    record = logging.LogRecord(*arguments, **keywords)
    error = record.exc_info[1] if record.exc_info else None
    record.exc_info = record.stack_info = None
    if error is not None:
        # A library may log arguments that do not fit its message.
        with suppress(TypeError, ValueError):
            record.msg, record.args = f"{record.getMessage()} ({_summary(error)})", ()
    return record
