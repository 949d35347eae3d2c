"""``evalsuite run``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from evalsuite.commands.console import print_error, print_json, require_scored, showing_progress
from evalsuite.commands.options import from_config
from evalsuite.config import RunConfig
from evalsuite.exits import report_error
from evalsuite.progress import KeptProgress

if TYPE_CHECKING:
    from evalsuite.runs.runner import Outcome


@from_config(RunConfig)
def run(config: RunConfig, *, as_json: bool) -> None:
    """Serve each MODEL with vLLM, run the suites at once, judge, score, write, print.

    Killed or interrupted, it resumes: run the same command again.

    [bold]evalsuite run ckpt/ --judge judge-ckpt/[/] [bold]evalsuite run ckpt/ --suite openllm:ifeval,musr --limit
    100[/] [bold]evalsuite run my-model@http://localhost:8000/v1 --suite mt_bench --judge judge-ckpt/[/] [bold]evalsuite
    run ckpt/ --judge big-judge/ --judge-tensor-parallel-size 4[/]
    """
    from evalsuite.fleet.run import run_on
    from evalsuite.runs.runner import evaluate

    with showing_progress() as shown, KeptProgress(shown, config.results, "evalsuite run") as progress:
        outcome = (evaluate if config.on is None else run_on)(config, progress)
    if config.log_to:
        from evalsuite.exports.tracked import log_figures

        log_figures(config.log_to, config.results, outcome.folders)
    if as_json:
        print_json({"models": [scores.as_json() for scores in outcome.models]})
    else:
        _print_outcome(outcome)
    if failures := outcome.failures:
        for error in dict.fromkeys(failures.values()):
            print_error(f"failed: {', '.join(name for name, cause in failures.items() if cause is error)}")
            report_error(error, as_document=False)
        raise typer.Exit(max(error.exit_code for error in failures.values()))
    require_scored(outcome.n_unscored, outcome.n_items, config.max_unscored)


def _print_outcome(outcome: Outcome) -> None:
    from evalsuite.tables import print_models
    from evalsuite.terminal import Console

    console = Console()
    print_models(console, outcome.models)
    for folder in outcome.folders:
        console.print(f"written to {folder}/ (scores.json, manifest.json, config.yaml, exports)", highlight=False)
