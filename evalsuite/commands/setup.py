"""``evalsuite setup``."""

from __future__ import annotations

import shlex
import shutil

import pydantic
import typer

from evalsuite.commands.console import suggest
from evalsuite.commands.options import from_config
from evalsuite.config import Config


class SetupConfig(Config):
    """A whole ``evalsuite setup``."""

    cpu: bool | None = pydantic.Field(default=None, json_schema_extra={"off": "gpu"})
    """vLLM for CPU or for CUDA; default: detected with nvidia-smi."""
    extra: tuple[str, ...] = ()
    """An additional extra: train, language."""
    dry_run: bool = False
    """Print the command and install nothing."""


@from_config(SetupConfig)
def setup(config: SetupConfig) -> None:
    """Install vLLM and everything that serving a checkpoint needs into this environment.

    Scoring, reports and models behind a URL work without vLLM; a checkpoint folder needs it.

    [bold]evalsuite setup[/]
    [bold]evalsuite setup --cpu --extra train[/]
    """
    from evalsuite.installation.setup import set_up

    on_cpu = shutil.which("nvidia-smi") is None if config.cpu is None else config.cpu
    command = set_up(cpu=on_cpu, extras=config.extra, dry_run=config.dry_run)
    typer.echo(shlex.join(command) if config.dry_run else "installed")
    if not config.dry_run:
        suggest("doctor", "run demo --judge demo --data mini")
