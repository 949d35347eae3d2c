"""``evalsuite report``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import (
    JsonOption,
    ResultsOption,
    print_error,
    print_json,
    reporting_errors,
    suggest,
)
from evalsuite.commands.options import with_config_file

SOMETHING_LEFT_OUT = 1


@with_config_file
def report(
    results: ResultsOption = Path("results"),
    out: Annotated[
        Path | None, typer.Option("--out", help="HTML file to write. Default: RESULTS/leaderboard.html.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Folder of generate or mix, or other conversations, to show; repeatable."),
    ] = None,
    max_mb: Annotated[
        float, typer.Option("--max-mb", min=0.5, help="Max size of the HTML file; the rest goes into pages beside it.")
    ] = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Write the leaderboard: one HTML file that works offline, and a CSV with the same figures.

    Exits with 1 when something in the folder could not be read; the rest is in the report.

    [bold]evalsuite report --out leaderboard.html[/]
    [bold]evalsuite report --data answers/ --data mixes/mine[/]
    """
    from evalsuite.report.build import build_report

    with reporting_errors():
        _describe(data or (), results)
        written = build_report(results, out, limit_bytes=round(max_mb * 1e6))
    for fault in written.faults:
        print_error(f"evalsuite: left out: {fault}")
    if as_json:
        print_json(written.as_json())
    else:
        beside = f" and {len(written.pages)} pages with items beside it" if written.pages else ""
        size = f"{written.html_bytes / 1e6:.1f} MB"
        typer.echo(f"{written.html} ({size}){beside}: {written.models} models, {written.items} items")
        typer.echo(str(written.csv))
        suggest("view --open", "export --to markdown", results=results)
    if written.faults:
        raise typer.Exit(SOMETHING_LEFT_OUT)


def _describe(data: Sequence[str], results: Path) -> None:
    """Write the analyses of folders of conversations, which the report then has with the others."""
    if not data:
        return
    from evalsuite.analysis.document import write_analysis
    from evalsuite.report.data import data_analysis

    for analysis in [data_analysis(spec) for spec in data]:
        write_analysis(results, analysis)
