"""``evalsuite suites`` and ``evalsuite suite check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import JsonOption, print_json, reporting_errors
from evalsuite.commands.options import with_config_file
from evalsuite.exits import UNUSABLE

suite_app = typer.Typer(no_args_is_help=True, help="Benchmarks of your own in a YAML file.")


@suite_app.command("check")
@with_config_file
def suite_check(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML file of a benchmark.")],
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with a benchmark's file, all at once, and what a run of it asks; exit code 2 for a fault.

    No code of the file is run, and no model is asked.
    """
    from evalsuite.suites.file.check import check_file
    from evalsuite.terminal import Console

    with reporting_errors():
        checked = [check_file(path) for path in files]
    if as_json:
        print_json({"suites": [one.as_json() for one in checked]})
    else:
        console = Console()
        for path, one in zip(files, checked, strict=True):
            state = f"{len(one.faults)} faults" if one.faults else "ok"
            console.print(f"{path}: {state}", highlight=False)
            for fault in one.faults:
                console.print(f"  fault: {fault}", highlight=False)
            for note in one.notes:
                console.print(f"  note: {note}", highlight=False)
            for name, count in one.cost.items():
                console.print(f"  {name.replace('_', ' '):<18} {count:>9,}", highlight=False)
    if any(one.faults for one in checked):
        raise typer.Exit(UNUSABLE)
