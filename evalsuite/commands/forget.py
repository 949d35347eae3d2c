"""``evalsuite forget``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import JsonOption, ResultsOption, print_json, reporting_errors
from evalsuite.commands.options import with_config_file


@with_config_file
def forget(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of a model or judge in the results, or a MODEL as for run.")
    ],
    results: ResultsOption = Path("results"),
    store: Annotated[Path | None, typer.Option("--store", help="Folder of the store; default: --results.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; otherwise they are only counted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete the stored answers of one MODEL, for example after different weights were served under its name.

    Figures and records are kept until run --fresh computes them again.

    [bold]evalsuite forget gpt-deployment[/]
    [bold]evalsuite forget gpt-deployment --yes[/]
    """
    from evalsuite.results.forgetting import forget as forget_answers

    with reporting_errors():
        done = forget_answers(model, results, store=store, dry=not yes)
    if as_json:
        print_json({**asdict(done), "deleted": yes})
        return
    kept = f"; the figures in {', '.join(done.folders)} are kept until run --fresh" if done.folders else ""
    what = f"{done.answers:,} stored answers from {done.name} ({done.fingerprint[:8]})"
    typer.echo(f"deleted {what}{kept}" if yes else f"{what}{kept}; pass --yes to delete them")
