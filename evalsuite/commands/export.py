"""``evalsuite export``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pydantic
import typer

from evalsuite.commands.console import print_error, print_json
from evalsuite.commands.options import from_config
from evalsuite.config import Config, Results

SOMETHING_LEFT_OUT = 1


class ExportConfig(Config):
    """A whole ``evalsuite export``."""

    to: Literal["markdown", "latex", "csv", "parquet", "hub", "every-eval-ever"]
    """Format to write."""
    results: Results = Path("results")
    out: Path | None = None
    """File to write, or a folder for hub and every-eval-ever. Default for tables: stdout."""
    push: str | None = pydantic.Field(default=None, json_schema_extra={"metavar": "REPO"})
    """With --to hub: open a pull request with the results on this model."""


@from_config(ExportConfig)
def export(config: ExportConfig, *, as_json: bool) -> None:
    """Write results in formats for papers, the Hugging Face Hub and other tools.

    markdown and latex have the report's tables with intervals and stars, csv every figure, parquet one row per item.
    hub writes .eval_results and a card's metadata into a folder per model, every-eval-ever one JSON per model. Nothing
    leaves this machine without --push. Exits with 1 if something was left out.

    [bold]evalsuite export --to latex --out table.tex[/]
    [bold]evalsuite export --to parquet --out items.parquet[/]
    """
    from evalsuite.exports.write import write_export

    written = write_export(config.results, config.to, config.out, config.push)
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
