"""``evalsuite import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evalsuite.commands.console import JsonOption, ResultsOption, answering, print_json, require_scored
from evalsuite.commands.options import MaxUnscoredOption


def import_recorded(
    suite: Annotated[
        str, typer.Argument(metavar="SUITE", help="mt_bench, alpaca_eval, openllm, mixeval or mixeval:hard.")
    ],
    source: Annotated[Path, typer.Argument(metavar="PATH", help="File or folder in the benchmark's own format.")],
    model: Annotated[str, typer.Option("--model", help="Name of the model in the table.")],
    results: ResultsOption = Path("results"),
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Name of the judge, where the file does not say it (mixeval); without one it is like no other.",
        ),
    ] = None,
    data: Annotated[Literal["full", "mini"], typer.Option("--data", help="Which data the answers are on.")] = "full",
    mixeval_parser: Annotated[
        Literal["judge", "rule"], typer.Option("--mixeval-parser", help="judge: recorded verdicts; rule: no judge.")
    ] = "judge",
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace what was imported for this model and suite.")] = False,
    max_unscored: MaxUnscoredOption = 0.01,
    as_json: JsonOption = False,
) -> None:
    """Bring recorded results of lm-eval, alpaca_eval, FastChat or MixEval into the results folder.

    They are scored again here and stand in the leaderboard, marked as imported. Exits with 1 when more items of
    the suite are unscored than --max-unscored allows; they are in the results folder all the same.

    [bold]evalsuite import openllm lm_eval_output/ --model Llama-3.1-8B[/]
    """
    from evalsuite.config import parse_suite
    from evalsuite.results.importing import import_results

    with answering():
        folder, scores = import_results(
            suite, source, model, results, judge=judge, data=data, mixeval_parser=mixeval_parser, fresh=fresh
        )
        if as_json:
            print_json(scores)
        else:
            from rich.console import Console

            from evalsuite.tables import print_models

            print_models(Console(), [scores])
            typer.echo(str(folder))
        key = parse_suite(suite).key
        require_scored({key: scores["suites"][key]}, max_unscored)
