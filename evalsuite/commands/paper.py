"""``evalsuite paper``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import JsonOption, ResultsOption, reporting_errors, write_and_print
from evalsuite.commands.options import with_config_file


@with_config_file
def paper(
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TABLE]...", help="table1 to table7, figure2 (all by default), or the leaderboard of the example."
        ),
    ] = None,
    row_map: Annotated[
        Path | None,
        typer.Option(
            "--map", help="YAML mapping 'row: own model' (or table4/row), and 'aliases: {L8B: own base, ...}'."
        ),
    ] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Print the paper's published tables with your own figures beside them, and whether they agree within the interval.

    A published leaderboard names its judge; your figures are shown beside it only if that judge gave them.

    [bold]evalsuite paper[/] [bold]evalsuite paper table2 table6 --results results --map rows.yaml[/]
    [bold]evalsuite paper arena_hard_v0_1[/]
    """
    from evalsuite.wildchat.own_results import read_map
    from evalsuite.wildchat.side_by_side import paper_analysis

    with reporting_errors():
        chosen = read_map(row_map) if row_map else None
        analysis = paper_analysis(results, chosen, tables or ())
        write_and_print(results, analysis, as_json=as_json)
