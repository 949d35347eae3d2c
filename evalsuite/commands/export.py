"""``evalsuite export``."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import JsonOption, ResultsOption, print_error, print_json, reporting_errors
from evalsuite.commands.options import with_config_file

SOMETHING_LEFT_OUT = 1


class ExportFormat(enum.StrEnum):
    """What ``--to`` takes."""

    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    PARQUET = "parquet"
    HUB = "hub"
    EVERY_EVAL_EVER = "every-eval-ever"


@with_config_file
def export(
    to: Annotated[ExportFormat, typer.Option("--to", help="Format to write.")],
    results: ResultsOption = Path("results"),
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="File to write, or a folder for hub and every-eval-ever. Default for tables: stdout."
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push", metavar="REPO", help="With --to hub: open a pull request with the results on this model."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write results in formats for papers, the Hugging Face Hub and other tools.

    markdown and latex have the report's tables with intervals and stars, csv every figure, parquet one row per item.
    hub writes .eval_results and a card's metadata into a folder per model, every-eval-ever one JSON per model. Nothing
    leaves this machine without --push. Exits with 1 if something was left out.

    [bold]evalsuite export --to latex --out table.tex[/]
    [bold]evalsuite export --to parquet --out items.parquet[/]
    """
    from evalsuite.exports.write import write_export

    with reporting_errors():
        written = write_export(results, to.value, out, push)
    for fault in written.faults:
        print_error(f"evalsuite: left out: {fault}")
    if as_json:
        print_json(written.as_json())
    elif written.text is not None:
        typer.echo(written.text, nl=False)
    else:
        for path in written.paths:
            typer.echo(str(path))
        if written.address:
            typer.echo(written.address)
    if written.faults:
        raise typer.Exit(SOMETHING_LEFT_OUT)
