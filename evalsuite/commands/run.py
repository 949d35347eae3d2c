"""``evalsuite run``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from evalsuite.commands.console import print_error, print_json, require_scored, showing_progress, suggest
from evalsuite.commands.options import from_config
from evalsuite.config import RunConfig
from evalsuite.exits import report_error
from evalsuite.progress import duration
from evalsuite.text import plural

if TYPE_CHECKING:
    from evalsuite.power.dry_run import Forecast
    from evalsuite.progress import Progress
    from evalsuite.runs.runner import Outcome


_DRY_RUN_HELP = "Show what would be asked and written, and what is stored already; nothing is started or written."
_DryRun = Annotated[bool, typer.Option("--dry-run", help=_DRY_RUN_HELP)]


@from_config(RunConfig, flags={"dry_run": _DryRun})
def run(config: RunConfig, *, as_json: bool, dry_run: bool) -> None:
    """Serve each MODEL with vLLM, run all suites concurrently, judge and score, and write and print the results.

    Killed or interrupted, it resumes: run the same command again.

    [bold]evalsuite run ckpt/ --judge judge-ckpt/[/] [bold]evalsuite run ckpt/ --suite openllm:ifeval,musr --limit
    100[/] [bold]evalsuite run my-model@http://localhost:8000/v1 --suite mt_bench --judge judge-ckpt/[/] [bold]evalsuite
    run ckpt/ --judge big-judge/ --judge-tensor-parallel-size 4[/]
    """
    if dry_run:
        _forecast(config, as_json=as_json)
        return
    with showing_progress(config.results, "evalsuite run") as progress:
        outcome = _evaluated(config, progress)
    if config.log_to:
        from evalsuite.exports.tracked import log_figures

        log_figures(config.log_to, config.results, outcome.folders)
    if as_json:
        print_json({"models": [scores.as_json() for scores in outcome.models]})
    else:
        _print_outcome(outcome)
        if outcome.folders:
            _suggest(config)
    if failures := outcome.failures:
        for error in dict.fromkeys(failures.values()):
            print_error(f"failed: {', '.join(name for name, cause in failures.items() if cause is error)}")
            report_error(error, as_document=False)
        raise typer.Exit(max(error.exit_code for error in failures.values()))
    require_scored(outcome.n_unscored, outcome.n_items, config.max_unscored)


def _evaluated(config: RunConfig, progress: Progress) -> Outcome:
    if config.on is None:
        from evalsuite.runs.runner import evaluate

        return evaluate(config, progress)
    from evalsuite.fleet.run import run_on

    return run_on(config, progress)


def _print_outcome(outcome: Outcome) -> None:
    from evalsuite.tables import print_models
    from evalsuite.terminal import Console

    console = Console()
    print_models(console, outcome.models)
    for folder in outcome.folders:
        console.print(f"written to {folder}/ (scores.json, manifest.json, config.yaml, exports)", highlight=False)


def _suggest(config: RunConfig) -> None:
    names = dict.fromkeys(config.models)
    judges = "".join(f" --judge {judge}" for judge in config.judge_specs)
    pair = f"compare {' '.join(names)}{judges}"
    suggest("view --open", "report", *([pair] if len(names) > 1 and judges else []), results=config.results)


def _times(rows: Sequence[Forecast], config: RunConfig) -> Iterator[str]:
    """Say per model how long its suites would take; the suites of one model run at the same time."""
    for model, own in groupby((row for row in rows if not row.is_stored), key=lambda row: row.model):
        each = list(own)
        times = {"answers": [row.answer_seconds for row in each], "verdicts": [row.verdict_seconds for row in each]}
        said = [
            f"{what} about {duration(sum(filter(None, seconds)))}" if None not in seconds else f"{what} unknown"
            for what, seconds in times.items()
            if any(one != 0 for one in seconds)
        ]
        hours = [row.gpu_hours for row in each if row.gpu_hours is not None]
        gpus = f" ({sum(hours):.2g} GPU-hours)" if hours else ""
        if any("about" in one for one in said):
            gpus += f", at the speed of earlier runs in {config.results}; starting a server is not counted"
        yield f"{model}: time for {', '.join(said)}{gpus}"


def _check_place(config: RunConfig) -> None:
    """Raise UsageError where the units could not run; Ray is not asked, as that may start a cluster."""
    from evalsuite.fleet.run import placed
    from evalsuite.placement import read_placement

    if read_placement(config.on or "local").kind != "ray":
        with placed(config):
            pass


def _forecast(config: RunConfig, *, as_json: bool) -> None:
    from evalsuite.power.dry_run import as_json as document_of
    from evalsuite.power.dry_run import forecast
    from evalsuite.tables import print_rows
    from evalsuite.terminal import Console

    with showing_progress() as progress:
        rows = forecast(config, progress)
    n_units = len({row.writes[0] for row in rows if row.writes})
    if config.on and n_units:
        _check_place(config)
    if as_json:
        print_json(document_of(rows))
        return

    def shown(count: int | None, stored: int = 0) -> str:
        return ("unknown" if count is None else f"{count:,}") + (f" + {stored:,} stored" if stored else "")

    def tokens(read: int | None, written: int | None) -> str:
        return "unknown" if read is None or written is None else f"{read:,} / {written:,}"

    console = Console()
    table = [
        {
            "model": row.model,
            "suite": row.suite,
            "items": shown(row.items),
            "answers": "done" if row.is_stored else shown(row.answers, row.answers_stored),
            "verdicts": "done" if row.is_stored else shown(row.verdicts, row.verdicts_stored),
            "tokens in/out": tokens(row.answer_tokens_in, row.answer_tokens_out),
            "judge in/out": tokens(row.verdict_tokens_in, row.verdict_tokens_out),
        }
        for row in rows
    ]
    print_rows(console, table)
    for row in rows:
        if row.n_known or row.n_verdicts:
            known = plural(row.n_known, "recorded item") + (
                f", {plural(row.n_verdicts, 'verdict')}" if row.n_verdicts else ""
            )
            console.print(f"{row.model} {row.suite}: tokens as in {known} in {config.results}", highlight=False)
    if any(row.answer_tokens_in is None or row.verdict_tokens_in is None for row in rows):
        console.print(
            f"unknown tokens: {config.results} has no earlier answers or verdicts to estimate from", highlight=False
        )
    for text in _times(rows, config):
        console.print(text, highlight=False)
    if config.on and n_units:
        at_once = "" if config.jobs is None else f", at most {config.jobs} at once"
        units = plural(n_units, "unit") + (", one per model" if n_units > 1 else "")
        console.print(f"on {config.on}: {units}{at_once}", highlight=False)
    folders = dict.fromkeys(row.writes[0].removesuffix("scores.json") for row in rows if row.writes)
    for folder in folders:
        console.print(
            f"would write {folder} (scores.json, manifest.json, config.yaml, records, exports)", highlight=False
        )
    if not folders:
        console.print("nothing to do: all figures are stored")
