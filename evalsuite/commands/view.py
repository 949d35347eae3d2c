"""``evalsuite view``."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from evalsuite.commands.console import ResultsOption, print_error, reporting_errors
from evalsuite.commands.options import with_config_file


@with_config_file
def view(
    results: ResultsOption = Path("results"),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on loopback; 0 picks a free one.")] = 0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve the report live: it follows the results folder and shows the progress of running commands.

    Listens on loopback only, with a key in the URL. Stop it with Ctrl-C.

    [bold]evalsuite view --open[/]
    [bold]evalsuite view --results study/ --port 8900[/]
    """
    from evalsuite.viewing.server import LiveReport, serving

    with reporting_errors(), serving(LiveReport(results), port) as address:
        typer.echo(address)
        print_error("evalsuite: Ctrl-C stops it")
        if open_browser:
            import webbrowser

            webbrowser.open(address)
        try:
            Event().wait()
        except KeyboardInterrupt:
            print_error("evalsuite: stopped")
