"""``evalsuite merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import JsonOption, print_json, reporting_errors, suggest
from evalsuite.commands.options import with_config_file


@with_config_file
def merge(
    sources: Annotated[list[Path], typer.Argument(metavar="RESULTS...", help="Results folders.")],
    into: Annotated[Path, typer.Option("--into", help="Results folder to merge into; may be new.")],
    keep_first: Annotated[
        bool,
        typer.Option("--keep-first", help="If there are several stored answers to one request, keep the earliest."),
    ] = False,
    store: Annotated[Path | None, typer.Option("--store", help="Local folder for the store of --into.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Merge results folders: answers by content key; suites, judges and verdicts by model.

    Merging again adds nothing. Folders that contradict each other are refused, and nothing is written.

    [bold]evalsuite merge node-1/ node-2/ --into results/[/]
    [bold]evalsuite merge earlier-results/ --into results/ --keep-first[/]
    """
    from evalsuite.results.merging import merge_results

    with reporting_errors():
        merged = merge_results(sources, into, keep_first=keep_first, store=store)
    if as_json:
        print_json({"into": str(into), "answers": merged.answers, "folders": list(merged.folders)})
    else:
        folders = f": {', '.join(merged.folders)}" if merged.folders else ""
        typer.echo(f"{merged.answers:,} new answers, {len(merged.folders)} folders new or grown in {into}/{folders}")
        suggest("report", results=into)
