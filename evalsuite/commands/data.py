"""``evalsuite data list|pull|verify``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from evalsuite.commands.console import JsonOption, answering, print_json, tell

data_app = typer.Typer(no_args_is_help=True, help="The pinned benchmark data: where from, licence, hash, state.")


@data_app.command("list")
def data_list(as_json: JsonOption = False) -> None:
    """List every asset: source, licence, rows, hash, and where it stands."""
    from evalsuite.assets import list_assets

    _print_table(list_assets, as_json=as_json)


@data_app.command("pull")
def data_pull(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SUITE]...", help="Suites or assets; all by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fetch the data, so that a node without network can run."""
    from evalsuite.assets import pull

    _print_table(lambda: pull(names or [], on_step=tell), as_json=as_json)


@data_app.command("verify")
def data_verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SUITE]...", help="Suites or assets; all by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hash what is there against the pins; exit code 2 when something differs from its pin."""
    from evalsuite.assets import verify

    rows = _print_table(lambda: verify(names or []), as_json=as_json)
    if any(row["state"] == "differs" for row in rows):
        raise typer.Exit(2)


def _print_table(make: Callable[[], list[dict[str, Any]]], *, as_json: bool) -> list[dict[str, Any]]:
    with answering():
        rows = make()
        if as_json:
            print_json(rows)
        else:
            from rich.console import Console

            from evalsuite.tables import print_rows

            print_rows(Console(), rows)
        return rows
