"""``evalsuite data list|pull|verify``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from evalsuite.commands.console import JsonOption, answering, print_json, tell

data_app = typer.Typer(no_args_is_help=True, help="The pinned benchmark data: where from, licence, hash, state.")

_FAULTS = {"missing": "missing", "differs": "other content than its pin"}
"""What is wrong with data in such a state; ``unpinned`` is none: no right hash is known."""


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
    """Fetch the data, so that a node without network can run; exit code 2 when some of it is not there afterwards.

    Data behind a gate is asked for like the rest, but lacking it is a fault only where it is named by itself.
    """
    from evalsuite.assets import pull

    rows = _print_table(lambda: pull(names or [], on_step=tell), as_json=as_json)
    excused = _excused(rows, names or [])
    if excused:
        tell(f"evalsuite: gated and not fetched: {', '.join(excused)} (the table says what it needs)")
    _exit_with_faults([row for row in rows if row["state"] in _FAULTS and row["name"] not in excused])


@data_app.command("verify")
def data_verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SUITE]...", help="Suites or assets; all by default.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hash what is there against the pins; exit code 2 when something differs, or is named and not there.

    Without names, what is not on this machine is counted on stderr and no fault.
    """
    from evalsuite.assets import verify

    rows = _print_table(lambda: verify(names or []), as_json=as_json)
    missing = sum(row["state"] == "missing" for row in rows)
    if missing and not names:
        tell(f"evalsuite: {missing} of {len(rows)} are not on this machine: not verified; 'data pull' fetches them")
    _exit_with_faults([row for row in rows if row["state"] == "differs" or (names and row["state"] == "missing")])


def _excused(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """The gated assets in ``rows`` that are missing and that no word names by itself."""
    from evalsuite.assets import PINS

    alone = set(names)
    for suite, _, parts in (name.partition(":") for name in names):
        alone |= {f"{suite}/{part}" for part in parts.split(",")}
    return [
        row["name"]
        for row in rows
        if row["state"] == "missing" and PINS[row["name"]].gated and row["name"] not in alone
    ]


def _exit_with_faults(rows: Sequence[Mapping[str, Any]]) -> None:
    """End with code 2 and one line that names every asset in ``rows``; nothing where there is none."""
    if not rows:
        return
    told = []
    for state, words in _FAULTS.items():
        if names := [row["name"] for row in rows if row["state"] == state]:
            told.append(f"{words}: {', '.join(names)}")
    tell(f"evalsuite: {'; '.join(told)} (the table says why)")
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
