"""Arguments in, exit code out, nothing else; the exit codes are in ``evalsuite.exits``."""

from __future__ import annotations

import logging
import os
import sys
from asyncio import CancelledError
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from evalsuite.commands.analyze import analyze_app
from evalsuite.commands.compare import compare
from evalsuite.commands.console import QUIET
from evalsuite.commands.data import data_app
from evalsuite.commands.doctor import doctor
from evalsuite.commands.export import export
from evalsuite.commands.forget import forget
from evalsuite.commands.gate import gate
from evalsuite.commands.generate import generate
from evalsuite.commands.help import Command, Root
from evalsuite.commands.import_ import import_recorded
from evalsuite.commands.judge_card import judge_card
from evalsuite.commands.label import label
from evalsuite.commands.merge import merge
from evalsuite.commands.mix import mix
from evalsuite.commands.options import with_config_file
from evalsuite.commands.paper import paper
from evalsuite.commands.plan import plan
from evalsuite.commands.prefer import prefer
from evalsuite.commands.rate import rate
from evalsuite.commands.report import report
from evalsuite.commands.run import run
from evalsuite.commands.score import score
from evalsuite.commands.setup import setup
from evalsuite.commands.sft import sft
from evalsuite.commands.show import show
from evalsuite.commands.study import study
from evalsuite.commands.suites import list_suites, suite_app
from evalsuite.commands.view import view
from evalsuite.commands.watch import watch
from evalsuite.exits import keep_libraries_brief, report_error, stop_while_loading
from evalsuite.suites.registry import default_suites
from evalsuite.terminal import TABLES

app = typer.Typer(
    name="evalsuite",
    cls=Root,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=f"Evaluate checkpoints on {', '.join(spec.suite.title for spec in default_suites())}, on a vLLM server "
    "that evalsuite starts.\n\n"
    "[bold]evalsuite run demo --judge demo --data mini[/] [bold]evalsuite run ckpt/ --judge judge/[/]",
)
_SECTIONS: Mapping[str, Mapping[str, Any]] = {
    "Evaluate": {
        "run": run,
        "compare": compare,
        "rate": rate,
        "watch": watch,
        "gate": gate,
        "score": with_config_file(score),
    },
    "Look and share": {
        "report": with_config_file(report),
        "view": with_config_file(view),
        "show": with_config_file(show),
        "export": with_config_file(export),
        "paper": with_config_file(paper),
        "analyze": analyze_app,
    },
    "Check and plan": {
        "doctor": doctor,
        "plan": plan,
        "judge-card": judge_card,
        "label": label,
        "suites": list_suites,
        "suite": suite_app,
    },
    "Data and training": {
        "generate": generate,
        "mix": with_config_file(mix),
        "sft": with_config_file(sft),
        "prefer": prefer,
        "study": with_config_file(study),
    },
    "Results and installation": {
        "import": with_config_file(import_recorded),
        "merge": with_config_file(merge),
        "forget": with_config_file(forget),
        "setup": with_config_file(setup),
        "data": data_app,
    },
}
"""The commands as ``--help`` lists them."""
for _title, _commands in _SECTIONS.items():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name, rich_help_panel=_title)
        else:
            app.command(_name, rich_help_panel=_title)(_command)

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


@app.command(rich_help_panel="Results and installation")
def version() -> None:
    """Print the version."""
    from evalsuite import __version__

    typer.echo(__version__)


for _app in (app, data_app, suite_app, analyze_app):
    for _registered in _app.registered_commands:
        _registered.cls = Command


def main() -> None:
    """Run the command line."""
    # SIGTERM cleans up like Ctrl-C does; before the work begins there is nothing to clean up.
    stop_while_loading()
    if "--debug" not in sys.argv:
        keep_libraries_brief()
    try:
        app()
    except (Exception, KeyboardInterrupt, CancelledError) as error:  # The unexpected, from any command.
        sys.exit(report_error(error))
