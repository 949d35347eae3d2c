"""``evalsuite data list|pull|verify``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pydantic
import typer

from evalsuite.commands.console import print_error, print_json
from evalsuite.commands.help import Group
from evalsuite.commands.options import from_config
from evalsuite.config import Config

if TYPE_CHECKING:
    from evalsuite.terminal import Console

data_app = typer.Typer(cls=Group, no_args_is_help=True, help="The pinned benchmark data: list, download, verify.")

_Row = dict[str, Any]
_SHOWN = ("licence", "rows", "state")
"""Columns of the table besides the name; remarks and reasons are listed below it, --json has the rest."""
_WIDE = 100


class NamesConfig(Config):
    """A whole ``evalsuite data pull`` or ``verify``."""

    names: tuple[str, ...] = pydantic.Field(default=(), json_schema_extra={"argument": "SUITE"})
    """Suites or assets; default: all."""


@data_app.command("list")
@from_config(Config)
def data_list(_: Config, *, as_json: bool) -> None:
    """List every asset: source, licence, rows, hash, and where it is.

    [bold]evalsuite data list[/]
    [bold]evalsuite data list --json[/]
    """
    from evalsuite.assets import list_assets

    _print_table(list_assets, [], as_json=as_json)


@data_app.command("pull")
@from_config(NamesConfig)
def data_pull(config: NamesConfig, *, as_json: bool) -> None:
    """Download the data, so that runs need no network access; exits with 2 if some is missing afterwards.

    Gated data is downloaded too, but is required only if you name it.

    [bold]evalsuite data pull[/]
    [bold]evalsuite data pull mt_bench openllm:ifeval[/]
    """
    from evalsuite.assets import pull
    from evalsuite.suites.registry import all_assets

    rows = _print_table(partial(pull, on_step=print_error), config.names, as_json=as_json)
    table, named = all_assets(), _asset_names(config.names)
    optional = [name for name in _in_state("missing", rows) if table[name].gated and name not in named]
    if optional:
        print_error(f"evalsuite: gated and not downloaded: {', '.join(optional)} (the table gives the remedy)")
    _exit_with_faults([row for row in rows if row["name"] not in optional])


@data_app.command("verify")
@from_config(NamesConfig)
def data_verify(config: NamesConfig, *, as_json: bool) -> None:
    """Check the hashes of the data on this machine; exits with 2 if one differs or data you named is missing.

    Without names, missing data is only counted on stderr.

    [bold]evalsuite data verify[/]
    [bold]evalsuite data verify mixeval[/]
    """
    from evalsuite.assets import verify

    rows = _print_table(verify, config.names, as_json=as_json)
    missing = [] if config.names else _in_state("missing", rows)
    if missing:
        text = (
            f"{len(missing)} of {len(rows)} are not on this machine and were not verified; 'data pull' downloads them"
        )
        print_error(f"evalsuite: {text}")
    _exit_with_faults([row for row in rows if row["name"] not in missing])


def _in_state(state: str, rows: Sequence[_Row]) -> list[str]:
    return [row["name"] for row in rows if row["state"] == state]


def _asset_names(specs: Sequence[str]) -> list[str]:
    """Return what ``SUITE:PART,PART`` selects: the assets of these parts, or all of a suite that has none per part."""
    from evalsuite.suites.registry import parse_suite

    names: list[str] = []
    for spec in specs:
        if ":" in spec:
            parsed = parse_suite(spec)
            by_part = parsed.parts and parsed.suite.pins_by_part
            names += [f"{parsed.name}/{part}" for part in parsed.parts] if by_part else [parsed.name]
        else:
            names.append(spec)
    return names


def _exit_with_faults(rows: Sequence[_Row]) -> None:
    """End with code 2 and one line that names what is missing or differs; "unpinned" is none: no hash is known."""
    faults = {"missing": _in_state("missing", rows), "content differs from its pin": _in_state("differs", rows)}
    texts = [f"{fault}: {', '.join(names)}" for fault, names in faults.items() if names]
    if texts:
        print_error(f"evalsuite: {'; '.join(texts)} (the table gives the reasons)")
        raise typer.Exit(2)


def _print_table(
    make: Callable[[Mapping[str, Any], Sequence[str]], list[_Row]], specs: Sequence[str], *, as_json: bool
) -> list[_Row]:
    from evalsuite.suites.registry import all_assets
    from evalsuite.terminal import Console

    rows = make(all_assets(), _asset_names(specs))
    if as_json:
        print_json(rows)
    else:
        _print_rows(Console(), rows)
    return rows


def _print_rows(console: Console, rows: Sequence[_Row]) -> None:
    """Print a table, grouped by suite where it is narrow: the longest names fit 80 columns only without the suite."""
    from rich.markup import escape
    from rich.table import Table

    from evalsuite.suites.figures import DASH
    from evalsuite.terminal import TABLES

    columns = [name for name in _SHOWN if name in rows[0]]
    is_grouped = console.width < _WIDE and os.environ.get(TABLES, "table") == "table"
    table = Table("name", *columns, box=None, pad_edge=False)
    if "rows" in columns:
        table.columns[1 + columns.index("rows")].justify = "right"

    def suite_of(row: _Row) -> str:
        return str(row["name"].partition("/")[0])

    for suite, group in groupby(sorted(rows, key=suite_of), key=suite_of):
        if is_grouped:
            table.add_row(f"[bold]{escape(suite)}")
        for row in group:
            name = f"  {row['name'].partition('/')[2]}" if is_grouped else row["name"]
            table.add_row(escape(name), *(DASH if row[key] is None else escape(str(row[key])) for key in columns))
    console.print(table)
    for row in rows:
        if about := row.get("remark") or row.get("reason"):
            console.print(f"– {row['name']}: {about}", style="dim", highlight=False, markup=False)
