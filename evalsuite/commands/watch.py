"""``evalsuite watch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalsuite.commands.console import print_error, print_json, require_scored, showing_progress
from evalsuite.commands.options import from_config
from evalsuite.errors import CheckpointError
from evalsuite.watching.settings import NOT_ASKED, WatchConfig

if TYPE_CHECKING:
    from evalsuite.report.curves import Curve


@from_config(WatchConfig, exclude=NOT_ASKED)
def watch(config: WatchConfig, *, as_json: bool) -> None:
    """Evaluate the checkpoints of a training run as they appear, until it ends, and print score by step.

    Killed or interrupted, it resumes: run the same command again.

    [bold]evalsuite watch out/ --suite mt_bench --judge judge-ckpt/ --every 500[/] [bold]evalsuite watch out/ --suite
    openllm:ifeval --log-to tensorboard[/]
    """
    from evalsuite.watching.watch import watch as watch_config

    with showing_progress(config.results, "evalsuite watch") as progress:
        watched = watch_config(config, progress)
    curves = _curves(config.results, watched.folders)
    if as_json:
        print_json({"curves": [_as_json(curve) for curve in curves], "left_out": watched.left_out})
    else:
        _print(curves)
        for name, why in watched.left_out.items():
            print_error(f"{name} is left out: {why}")
    if not watched.folders:
        raise CheckpointError(f"{config.run_dir} has no checkpoint to evaluate")
    require_scored(watched.n_unscored, watched.n_items, config.max_unscored)


def _curves(results: Path, folders: list[Path]) -> list[Curve]:
    """Return the curves of the evaluated checkpoints alone, in the columns shown at first."""
    if not folders:
        return []
    from evalsuite.report.build import read_contents
    from evalsuite.report.curves import curves_of

    contents, _ = read_contents(results)
    own = {folder.name for folder in folders}
    shown = [curve for curve in curves_of(contents) if curve.column.main]
    return [curve for curve in shown if own & {contents.models[point.model].folder.name for point in curve.points}]


def _as_json(curve: Curve) -> dict[str, Any]:
    points = [
        {
            **point.at,
            "score": point.figure.value,
            "ci95": point.figure.ci95,
            "n": point.figure.n,
            "minus_last": None
            if (test := point.against_last) is None
            else {"value": test.difference.value, "ci95": test.ci95, "p": test.p_value, "n": test.difference.n},
        }
        for point in curve.points
    ]
    return {"run": curve.run, "column": curve.column.key, "verdict": curve.verdict, "points": points}


def _print(curves: list[Curve]) -> None:
    from rich.table import Table

    from evalsuite.report.curves import HEAD, curve_rows
    from evalsuite.terminal import Console

    console = Console()
    for curve in curves:
        table = Table(*HEAD, title=f"{curve.run}: {curve.column.title}", title_justify="left", box=None, pad_edge=False)
        for row in curve_rows(curve):
            table.add_row(*row)
        console.print(table)
        console.print(curve.verdict, highlight=False)
