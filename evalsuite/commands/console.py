"""What every command shares: options, one-sentence errors with their exit code, progress, printing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalsuite.errors import EvalsuiteError, ServerError

if TYPE_CHECKING:
    from evalsuite.progress import Progress

TOO_MANY_UNSCORED = 1
INTERRUPTED = 130

ResultsOption = Annotated[Path, typer.Option("--results", help="Folder that holds all results and the store.")]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on stdout; progress stays on stderr.")
]


@contextmanager
def answering() -> Iterator[None]:
    """Turn errors into one sentence and the right exit code."""
    try:
        yield
    except EvalsuiteError as error:
        if os.environ.get("EVALSUITE_DEBUG"):
            raise
        if isinstance(error, ServerError) and error.log_tail:
            tell(error.log_tail)
        tell(f"evalsuite: {error}")
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        tell("evalsuite: interrupted; finished answers are kept, run the same command again to go on")
        raise typer.Exit(INTERRUPTED) from error


@contextmanager
def showing_progress() -> Iterator[Progress]:
    from evalsuite.progress import MovingLines, PlainLines

    if sys.stderr.isatty():
        with MovingLines() as moving:
            yield moving
    else:
        yield PlainLines()


def print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))


def tell(words: str) -> None:
    typer.echo(words, err=True)
