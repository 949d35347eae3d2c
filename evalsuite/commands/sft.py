"""``evalsuite sft``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from evalsuite.commands.console import JsonOption, print_json, reporting_errors, showing_progress, suggest
from evalsuite.commands.options import ContaminationOption, with_config_file
from evalsuite.errors import UsageError
from evalsuite.packages import require


@with_config_file
def sft(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE", help="YAML file with an sft section.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the checkpoint; only --inspect works without one.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", help="Folder of evalsuite mix, or any source of chats; default: the recipe's own mix."),
    ] = None,
    contamination: ContaminationOption = "full",
    inspect: Annotated[
        bool, typer.Option("--inspect", help="Show one example with its loss mask and the counts; train nothing.")
    ] = False,
    row: Annotated[int, typer.Option("--row", help="With --inspect: which example, from 0.")] = 0,
    merge: Annotated[
        str | None,
        typer.Option(
            "--merge",
            metavar="ADAPTER",
            help="Without RECIPE: merge a LoRA adapter into the weights of its base model.",
        ),
    ] = None,
    log_to: Annotated[
        list[str] | None, typer.Option("--log-to", help="tensorboard, wandb, trackio or mlflow; default: none.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Train on pickled weights, which can run code when loaded.")
    ] = False,
    trust_remote_code: Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run the code that comes with the base model, with your privileges."),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move the contents of --out aside and start again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a checkpoint from a recipe, with the loss on the answers only; the mask is checked before the first step.

    Killed or interrupted, the same command resumes from the last training checkpoint.

    [bold]evalsuite sft recipes/tiny.yaml --out ckpt/[/]
    [bold]evalsuite sft recipe.yaml --data mix/ --inspect[/]
    [bold]evalsuite sft --merge adapter/ --out ckpt/[/]
    """
    with reporting_errors():
        if (recipe is None) == (merge is None):
            raise UsageError("give either RECIPE, or --merge with the folder of an adapter")
        require("training", "trl", "peft", "accelerate", "torch")
        given: dict[str, Any] = {
            "data": data,
            "contamination": contamination,
            "allow_pickle": allow_pickle,
            "trust_remote_code": trust_remote_code,
        }
        if recipe is not None and inspect:
            _inspect(recipe, as_json=as_json, out=out, row=row, **given)
            return
        if out is None:
            raise UsageError("give --out, the folder of the checkpoint")
        if recipe is None:
            _merge(str(merge), out, fresh=fresh, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
            return
        from evalsuite.training.train import train

        with showing_progress() as progress:
            outcome = train(recipe, out, fresh=fresh, log_to=log_to or [], progress=progress, **given)
        if as_json:
            print_json(outcome.document)
        else:
            _print(out, outcome.document, reused=outcome.reused)


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
        f"{document['n_conversations']:,} conversations, {document['n_tokens']:,} tokens, {document['steps']:,} steps "
        f"in {document['seconds']:.0f} s" + (f" ({rate:,.0f} tokens/s)" if rate else "")
    )
    typer.echo(f"loss {losses[0]:.3f} at the first step, {losses[-1]:.3f} at the last")
    if held := document["held_out"]:
        interval = held["change_ci95"]
        typer.echo(
            f"held-out loss {held['loss_before']:.3f} -> {held['loss_after']:.3f} over {held['n']} conversations"
            + (f" (change {held['change']:+z.3f}, 95 % {interval[0]:+z.3f} to {interval[1]:+z.3f})" if interval else "")
        )
    typer.echo(f"{'already finished' if reused else 'written'}: {out}/")
    suggest(f"run {out}")
