"""``evalsuite analyze efficiency``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import JsonOption, ResultsOption, print_json, reporting_errors


def analyze_efficiency(
    folders: Annotated[
        list[str],
        typer.Argument(metavar="DIR...", help="Folders of 'evalsuite generate', or models' folders in results/."),
    ],
    conversations: Annotated[
        int, typer.Option("--conversations", "-n", help="Size of the job that is projected.")
    ] = 1_000_000,
    dollars_per_hour: Annotated[
        float | None, typer.Option("--dollars-per-hour", help="Price of one device: a GPU, or the whole machine.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the analysis; the models' names by default.")
    ] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Tabulate speed, memory and start time of recorded runs, and project a larger job's hours and cost.

    [bold]evalsuite analyze efficiency answers/[/]
    [bold]evalsuite analyze efficiency answers/ demo-542efad8 --conversations 1000000 --dollars-per-hour 2.5[/]
    """
    from evalsuite.analysis.document import as_json as document_of
    from evalsuite.analysis.document import write_analysis
    from evalsuite.analysis.efficiency import efficiency_analysis
    from evalsuite.analysis.printing import print_analysis

    with reporting_errors():
        analysis = efficiency_analysis(
            folders, results, conversations=conversations, dollars_per_hour=dollars_per_hour, name=name
        )
        folder = write_analysis(results, analysis)
        if as_json:
            print_json(document_of(analysis))
        else:
            from rich.console import Console

            print_analysis(Console(), analysis, folder)
