"""``evalsuite import``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from evalsuite.commands.console import (
    JsonOption,
    ResultsOption,
    print_json,
    reporting_errors,
    require_scored,
    suggest,
)
from evalsuite.commands.options import (
    AnnotatorOption,
    DataOption,
    MaxUnscoredOption,
    SuiteArgument,
    with_config_file,
    with_suite_options,
)


@with_suite_options
@with_config_file
def import_recorded(
    suite: SuiteArgument,
    source: Annotated[Path, typer.Argument(metavar="PATH", help="File or folder in the benchmark's own format.")],
    model: Annotated[str, typer.Option("--model", help="Name of the model in the table.")],
    results: ResultsOption = Path("results"),
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Name of the judge, if the file does not name it; default: a name that matches no other judge.",
        ),
    ] = None,
    annotator: AnnotatorOption = None,
    data: DataOption = "full",
    fresh: Annotated[bool, typer.Option("--fresh", help="Replace what was imported for this model and suite.")] = False,
    max_unscored: MaxUnscoredOption = 0.01,
    as_json: JsonOption = False,
    *,
    suite_options: Mapping[str, Any],
) -> None:
    """Import recorded results of lm-eval, alpaca_eval, FastChat or MixEval into the results folder.

    They are scored again and appear in the leaderboard, marked as imported. Exits with 1 if more items of the suite are
    unscored than --max-unscored allows; they are imported anyway.

    [bold]evalsuite import openllm lm_eval_output/ --model Llama-3.1-8B[/]
    [bold]evalsuite import mt_bench model_judgment.jsonl --model vicuna-13b-v1.5[/]
    """
    from evalsuite.results.folder import unscored_share
    from evalsuite.results.importing import import_results
    from evalsuite.suites.registry import parse_suite

    with reporting_errors():
        folder, scores = import_results(
            suite,
            source,
            model,
            results,
            judge=judge,
            annotator=annotator,
            data=data,
            fresh=fresh,
            suite_options=suite_options,
        )
        if as_json:
            print_json(scores.as_json())
        else:
            from evalsuite.tables import print_models
            from evalsuite.terminal import Console

            print_models(Console(), [scores])
            typer.echo(str(folder))
            suggest("report", "view --open", results=results)
        key = parse_suite(suite, recorded=True).key
        require_scored(*unscored_share({key: scores.suites[key]}), max_unscored)
