"""What every command shares: options, one-sentence errors with their exit code, progress, printing."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evalsuite.errors import EvalsuiteError
from evalsuite.exits import report_error, stop_at_once
from evalsuite.text import printable

if TYPE_CHECKING:
    from evalsuite.analysis.document import Analysis
    from evalsuite.progress import Progress

TOO_MANY_UNSCORED = 1
QUIET = "EVALSUITE_QUIET"
"""The environment variable that --quiet sets for this process."""


JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; progress goes to stderr.")]


@contextmanager
def reporting_errors() -> Iterator[None]:
    """Turn errors into one sentence and the right exit code; from here on an interrupt is cleaned up after."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is stop_at_once:
            signal.signal(number, signal.default_int_handler)
    try:
        yield
    except (EvalsuiteError, OSError, EOFError, KeyboardInterrupt, ModuleNotFoundError) as error:
        # Typer would take an OSError for a closed pipe and an EOFError for the end of a prompt.
        raise typer.Exit(report_error(error)) from error


@contextmanager
def showing_progress(results: Path | None = None, command: str = "") -> Iterator[Progress]:
    """Show progress on stderr; with ``results``, ``command`` keeps it there too, for the page and for a head."""
    from evalsuite.progress import KeptProgress, LiveProgress, LogProgress, NoProgress

    with ExitStack() as stack:
        shown: Progress
        if os.environ.get(QUIET):
            shown = NoProgress()
        elif sys.stderr.isatty():
            shown = stack.enter_context(LiveProgress())
        else:
            shown = LogProgress()
        yield shown if results is None else stack.enter_context(KeptProgress(shown, results, command))


def require_scored(n_unscored: int, n_items: int, max_unscored: float, what: str = "items") -> None:
    """Exit with code 1 when a larger share is unscored than --max-unscored allows."""
    if n_items and n_unscored / n_items > max_unscored:
        print_error(
            f"{n_unscored} of {n_items} {what} are unscored, more than --max-unscored {max_unscored:g} allows; "
            "the figures give the reasons"
        )
        raise typer.Exit(TOO_MANY_UNSCORED)


def print_json(document: object) -> None:
    is_utf_8 = (sys.stdout.encoding or "").lower().replace("-", "").replace("_", "") == "utf8"
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
    if not is_utf_8 or text != printable(text):
        text = json.dumps(document, indent=1, allow_nan=False)
    typer.echo(text)


def print_error(text: str) -> None:
    """Print on stderr."""
    typer.echo(printable(text), err=True)


def suggest(*commands: str, results: Path | None = None) -> None:
    """Name the next commands in one line on stderr; silent under --quiet and where an output is not a terminal.

    ``results`` is the folder of the results they read, added where it is not the default.
    """
    if os.environ.get(QUIET) or not (sys.stdout.isatty() and sys.stderr.isatty()):
        return
    folder = "" if results in (None, Path("results")) else f" --results {shlex.quote(str(results))}"
    print_error(f"next: {' | '.join(f'evalsuite {command}{folder}' for command in commands)}")


def write_and_print(results: Path, analysis: Analysis, *, as_json: bool) -> None:
    """Write an analysis to the results folder and print it."""
    from evalsuite.analysis.document import as_json as document_of
    from evalsuite.analysis.document import write_analysis
    from evalsuite.analysis.printing import print_analysis
    from evalsuite.terminal import Console

    folder = write_analysis(results, analysis)
    if as_json:
        print_json(document_of(analysis))
    else:
        print_analysis(Console(), analysis, folder)
        suggest("report", "view --open", results=results)
