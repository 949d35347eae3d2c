"""``evalsuite sft``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pydantic
import typer

from evalsuite.commands.console import print_json, showing_progress, suggest
from evalsuite.commands.options import from_config
from evalsuite.config import Config
from evalsuite.contamination.settings import CheckedMix
from evalsuite.packages import require
from evalsuite.text import plural
from evalsuite.tracking import Loggers


class SftConfig(Config):
    """A whole ``evalsuite sft``."""

    recipe: Path | None = pydantic.Field(default=None, json_schema_extra={"argument": "RECIPE"})
    """YAML file with an sft section."""
    out: Path | None = None
    """Folder of the checkpoint; only --inspect works without one."""
    data: str | None = pydantic.Field(default=None, json_schema_extra={"path": True})
    """Folder of evalsuite mix, or any source of chats; default: the recipe's own mix."""
    contamination: CheckedMix = "full"
    inspect: bool = False
    """Show one example with its loss mask and the counts; train nothing."""
    row: int = 0
    """With --inspect: which example, from 0."""
    merge: str | None = pydantic.Field(default=None, json_schema_extra={"metavar": "ADAPTER", "path": True})
    """Without RECIPE: merge a LoRA adapter into the weights of its base model."""
    log_to: Loggers = ()
    """tensorboard, wandb, trackio or mlflow; default: none."""
    allow_pickle: bool = False
    """Train on pickled weights, which can run code when loaded."""
    trust_remote_code: bool = False
    """Run the code that comes with the base model, with your privileges."""
    fresh: bool = False
    """Move the contents of --out aside and start again."""

    @pydantic.model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.recipe is None) == (self.merge is None):
            raise ValueError("give either RECIPE, or --merge with the folder of an adapter")
        if self.out is None and (self.recipe is None or not self.inspect):
            raise ValueError("give --out, the folder of the checkpoint")
        return self


@from_config(SftConfig)
def sft(config: SftConfig, *, as_json: bool) -> None:
    """Train a checkpoint from a recipe, with the loss on the answers only; the mask is checked before the first step.

    Killed or interrupted, the same command resumes from the last training checkpoint.

    [bold]evalsuite sft recipes/tiny.yaml --out ckpt/[/]
    [bold]evalsuite sft recipe.yaml --data mix/ --inspect[/]
    [bold]evalsuite sft --merge adapter/ --out ckpt/[/]
    """
    require("training", "trl", "peft", "accelerate", "torch")
    trust = {"allow_pickle": config.allow_pickle, "trust_remote_code": config.trust_remote_code}
    given: dict[str, Any] = {"data": config.data, "contamination": config.contamination, **trust}
    if config.recipe is not None and config.inspect:
        _inspect(config.recipe, as_json=as_json, out=config.out, row=config.row, **given)
        return
    assert config.out is not None
    if config.recipe is None:
        _merge(str(config.merge), config.out, fresh=config.fresh, **trust)
        return
    from evalsuite.training.train import train

    with showing_progress() as progress:
        outcome = train(config.recipe, config.out, fresh=config.fresh, log_to=config.log_to, progress=progress, **given)
    if as_json:
        print_json(outcome.document)
    else:
        _print(config.out, outcome.document, reused=outcome.reused)


def _merge(adapter: str, out: Path, **options: bool) -> None:
    from evalsuite.training.adapters import merge

    with showing_progress() as progress:
        merge(adapter, out, progress=progress, **options)
    typer.echo(f"written: {out}/")
    suggest(f"run {out}")


def _inspect(recipe: Path, *, as_json: bool, **options: Any) -> None:
    from evalsuite.training.inspection import inspect, print_inspection

    with showing_progress() as progress:
        document = inspect(recipe, progress=progress, **options)
    if as_json:
        print_json(document)
        return
    from evalsuite.terminal import Console

    print_inspection(Console(), document)


def _print(out: Path, document: Mapping[str, Any], *, reused: bool) -> None:
    losses = [loss for _, loss in document["loss"]]
    rate = document["tokens_per_second"]
    typer.echo(
        f"{plural(document['n_conversations'], 'conversation')}, {document['n_tokens']:,} tokens, "
        f"{plural(document['steps'], 'step')} in {document['seconds']:.0f} s"
        + (f" ({rate:,.0f} tokens/s)" if rate else "")
    )
    typer.echo(f"loss {losses[0]:.3f} at the first step, {losses[-1]:.3f} at the last")
    if held := document["held_out"]:
        interval = held["change_ci95"]
        typer.echo(
            f"held-out loss {held['loss_before']:.3f} -> {held['loss_after']:.3f} over "
            + plural(held["n"], "conversation")
            + (f" (change {held['change']:+z.3f}, 95 % {interval[0]:+z.3f} to {interval[1]:+z.3f})" if interval else "")
        )
    typer.echo(f"{'already finished' if reused else 'written'}: {out}/")
    suggest(f"run {out}")
