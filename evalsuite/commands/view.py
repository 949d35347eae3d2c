"""``evalsuite view``."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pydantic
import typer

from evalsuite.commands.console import print_error
from evalsuite.commands.options import from_config
from evalsuite.config import Config, Results


class ViewConfig(Config):
    """A whole ``evalsuite view``."""

    results: Results = Path("results")
    port: int = pydantic.Field(default=0, ge=0, le=65535)
    """Port on loopback; 0 picks a free one."""
    open_browser: bool = pydantic.Field(default=False, json_schema_extra={"flag": "open"})
    """Open the page in a browser."""


@from_config(ViewConfig)
def view(config: ViewConfig) -> None:
    """Serve the report live: it follows the results folder and shows the progress of running commands.

    Listens on loopback only, with a key in the URL. Stop it with Ctrl-C.

    [bold]evalsuite view --open[/]
    [bold]evalsuite view --results study/ --port 8900[/]
    """
    from evalsuite.viewing.server import LiveReport, serving

    with serving(LiveReport(config.results), config.port) as address:
        typer.echo(address)
        print_error("evalsuite: Ctrl-C stops it")
        if config.open_browser:
            import webbrowser

            webbrowser.open(address)
        try:
            Event().wait()
        except KeyboardInterrupt:
            print_error("evalsuite: stopped")
