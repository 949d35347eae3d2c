"""Arguments in, exit code out, nothing else; the exit codes are in ``evalsuite.exits``."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated, Literal

import typer

from evalsuite.commands.console import QUIET
from evalsuite.commands.table import Root
from evalsuite.commands.version import version
from evalsuite.exits import keep_libraries_brief, report_error, stop_while_loading
from evalsuite.terminal import TABLES

app = typer.Typer(
    name="evalsuite",
    cls=Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Evaluate checkpoints on chat, knowledge and reasoning benchmarks (evalsuite suites lists them), on a vLLM "
    "server that evalsuite starts.\n\n"
    "[bold]evalsuite run demo --judge demo --data mini[/] [bold]evalsuite run ckpt/ --judge judge/[/]",
)
_NOISY = (
    *("httpx", "httpx2", "lm_eval", "datasets", "transformers", "huggingface_hub", "huggingface_hub.utils._http"),
    "torch.utils.flop_counter",  # PyPI's torch on a CPU misses triton, which nothing here uses
)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and library logs.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show what libraries log.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notes, only errors.")] = False,
    table_format: Annotated[
        Literal["table", "markdown", "csv", "json"], typer.Option("--format", help="How tables are printed.")
    ] = "table",
    _: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    os.environ["EVALSUITE_DEBUG"] = "1" if debug else ""
    os.environ[QUIET] = "1" if quiet else ""
    os.environ[TABLES] = table_format
    level = logging.INFO if debug or verbose else logging.ERROR if quiet else logging.WARNING
    logging.basicConfig(stream=sys.stderr, format="%(message)s")
    logging.getLogger().setLevel(level)
    if not (debug or verbose):
        for name in _NOISY:
            logging.getLogger(name).setLevel(logging.ERROR)


def main() -> None:
    """Run the command line."""
    # SIGTERM cleans up like Ctrl-C does; before the work begins there is nothing to clean up.
    stop_while_loading()
    if "--debug" not in sys.argv:
        keep_libraries_brief()
    try:
        app()
    except SystemExit:
        raise
    except BaseException as error:  # The unexpected, Ctrl-C or a cancelled task, from any command.
        sys.exit(report_error(error))
