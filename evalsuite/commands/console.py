"""What every command shares: options, one-sentence errors with their exit code, progress, printing."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalsuite.errors import EvalsuiteError, ServerError
from evalsuite.redaction import without_secrets

if TYPE_CHECKING:
    from evalsuite.progress import Progress

TOO_MANY_UNSCORED = 1
UNREADABLE = 2
INTERRUPTED = 130

ResultsOption = Annotated[Path, typer.Option("--results", help="Folder that holds all results and the store.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; progress stays on stderr.")
]


_GO_ON = "evalsuite: interrupted; finished answers are kept, run the same command again to go on"


def stop_at_once(_: int, __: FrameType | None) -> None:
    """Answer a signal that comes while the program still loads: there is nothing to tidy up."""
    os.write(sys.stderr.fileno(), f"{_GO_ON}\n".encode())
    os._exit(INTERRUPTED)


@contextmanager
def answering() -> Iterator[None]:
    """Turn errors into one sentence and the right exit code; from here on an interrupt is one to be tidied up after."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is stop_at_once:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except EvalsuiteError as error:
        if os.environ.get("EVALSUITE_DEBUG"):
            raise
        if isinstance(error, ServerError) and error.log_tail:
            tell(without_secrets(error.log_tail))
        tell(without_secrets(f"evalsuite: {error}"))
        raise typer.Exit(error.exit_code) from error
    except PermissionError as error:
        # A folder may close itself to us at any place that looks at a path; what was asked for cannot be read.
        if os.environ.get("EVALSUITE_DEBUG") or error.filename is None:
            raise
        tell(without_secrets(f"evalsuite: cannot read {error.filename}: {error.strerror}; change its access rights"))
        raise typer.Exit(UNREADABLE) from error
    except KeyboardInterrupt as error:
        tell(_GO_ON)
        raise typer.Exit(INTERRUPTED) from error


@contextmanager
def showing_progress() -> Iterator[Progress]:
    from evalsuite.progress import MovingLines, PlainLines

    if sys.stderr.isatty():
        with MovingLines() as moving:
            yield moving
    else:
        yield PlainLines()


def require_scored(suites: Mapping[str, Mapping[str, Any]], max_unscored: float) -> None:
    """Leave with exit code 1 when a larger share of the items of ``suites`` is unscored than is allowed."""
    from evalsuite.results.folder import unscored_share

    n_unscored, n_items = unscored_share(suites)
    if n_items and n_unscored / n_items > max_unscored:
        tell(
            f"{n_unscored} of {n_items} items are unscored, more than --max-unscored {max_unscored:g} allows; "
            "the figures give the reasons"
        )
        raise typer.Exit(TOO_MANY_UNSCORED)


def print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))


def tell(words: str) -> None:
    typer.echo(words, err=True)
