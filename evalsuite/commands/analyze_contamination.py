"""``evalsuite analyze contamination``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import JsonOption, ResultsOption, print_json, reporting_errors, showing_progress
from evalsuite.commands.options import DataOption

OverlapWordsOption = Annotated[
    int, typer.Option("--ngram", min=2, max=50, help="Words per n-gram of the overlap rule.")
]
OverlapShareOption = Annotated[
    float,
    typer.Option(
        "--overlap", min=0, max=0.999, help="An item counts when more than this share of its words is covered."
    ),
]


def analyze_contamination(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="Training data: hub data sets, files or folders, a mix's folder."),
    ],
    data: DataOption = "full",
    ngram: OverlapWordsOption = 8,
    overlap: OverlapShareOption = 0.5,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Count the items of every suite that occur in training data; ids only, no prompt is quoted.

    [bold]evalsuite analyze contamination mixes/re-wild[/]
    [bold]evalsuite analyze contamination org/chats@train --ngram 13 --overlap 0[/]
    """
    from evalsuite.contamination.index import OverlapRule
    from evalsuite.contamination.measure import load_meter, suite_rows, write_report

    with reporting_errors(), showing_progress() as progress:
        figures, folder = write_report(sources, results, load_meter(data, OverlapRule(ngram, overlap)), progress)
        if as_json:
            print_json(figures)
        else:
            from rich.console import Console

            from evalsuite.tables import print_rows

            console = Console()
            print_rows(console, suite_rows(figures))
            console.print(
                f"{figures['n_overlapping']:,} of {figures['n_conversations']:,} conversations hold an item; "
                f"written to {folder}/",
                highlight=False,
            )
