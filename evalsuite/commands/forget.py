"""``evalsuite forget``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pydantic
import typer

from evalsuite.commands.console import print_json
from evalsuite.commands.options import from_config
from evalsuite.config import Config, Results
from evalsuite.text import plural


class ForgetConfig(Config):
    """A whole ``evalsuite forget``."""

    model: str = pydantic.Field(json_schema_extra={"argument": "MODEL", "path": True})
    """Name of a model or judge in the results, or a MODEL as for run."""
    results: Results = Path("results")
    store: Path | None = None
    """Folder of the store; default: --results."""
    yes: bool = False
    """Delete them; otherwise they are only counted."""


@from_config(ForgetConfig)
def forget(config: ForgetConfig, *, as_json: bool) -> None:
    """Delete the stored answers of one MODEL, for example after different weights were served under its name.

    Figures and records are kept until run --fresh computes them again.

    [bold]evalsuite forget gpt-deployment[/]
    [bold]evalsuite forget gpt-deployment --yes[/]
    """
    from evalsuite.results.forgetting import forget as forget_answers

    done = forget_answers(config.model, config.results, store=config.store, dry=not config.yes)
    if as_json:
        print_json({**asdict(done), "deleted": config.yes})
        return
    kept = f"; the figures in {', '.join(done.folders)} are kept until run --fresh" if done.folders else ""
    what = f"{plural(done.answers, 'stored answer')} from {done.name} ({done.fingerprint[:8]})"
    typer.echo(f"deleted {what}{kept}" if config.yes else f"{what}{kept}; pass --yes to delete them")
