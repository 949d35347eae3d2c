"""``evalsuite view``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import ResultsOption, print_error, reporting_errors


def view(
    results: ResultsOption = Path("results"),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port on loopback; 0 takes a free one.")] = 0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Show the report live: it follows what is written to the results folder, and how far running commands are.

    Serves on loopback only, under a key in the address. Stop it with Ctrl-C.

    [bold]evalsuite view --open[/]
    """
    from evalsuite.viewing.server import LiveReport, serving

    with reporting_errors(), serving(LiveReport(results), port) as address:
        typer.echo(address)
        print_error("evalsuite: Ctrl-C stops it")
        if open_browser:
            import webbrowser

            webbrowser.open(address)
        try:
            wait_forever()
        except KeyboardInterrupt:
            print_error("evalsuite: stopped")


def wait_forever() -> None:
    """Wait until an interrupt."""
    import threading

    threading.Event().wait()
