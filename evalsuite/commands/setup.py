"""``evalsuite setup``."""

from __future__ import annotations

import shlex
import shutil
from typing import Annotated

import typer

from evalsuite.commands.console import reporting_errors, suggest
from evalsuite.commands.options import with_config_file


@with_config_file
def setup(
    cpu: Annotated[
        bool | None, typer.Option("--cpu/--gpu", help="vLLM for CPU or for CUDA; default: detected with nvidia-smi.")
    ] = None,
    extra: Annotated[list[str] | None, typer.Option("--extra", help="An additional extra: train, language.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command and install nothing.")] = False,
) -> None:
    """Install vLLM and everything that serving a checkpoint needs into this environment.

    Scoring, reports and models behind a URL work without vLLM; a checkpoint folder needs it.

    [bold]evalsuite setup[/]
    [bold]evalsuite setup --cpu --extra train[/]
    """
    from evalsuite.installation.setup import set_up

    with reporting_errors():
        on_cpu = shutil.which("nvidia-smi") is None if cpu is None else cpu
        command = set_up(cpu=on_cpu, extras=extra or (), dry_run=dry_run)
        typer.echo(shlex.join(command) if dry_run else "installed")
        if not dry_run:
            suggest("doctor", "run demo --judge demo --data mini")
