"""``evalsuite score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evalsuite.commands.console import JsonOption, answering, print_json


def score(
    suite: Annotated[
        str, typer.Argument(metavar="SUITE", help="mt_bench, alpaca_eval, openllm, mixeval or mixeval:hard.")
    ],
    source: Annotated[Path, typer.Option("--from", help="File or folder in the benchmark's own format.")],
    as_published: Annotated[bool, typer.Option("--as-published", help="The reference's own arithmetic.")] = False,
    mixeval_parser: Annotated[
        Literal["judge", "rule"], typer.Option("--mixeval-parser", help="judge: recorded verdicts; rule: no judge.")
    ] = "judge",
    as_json: JsonOption = False,
) -> None:
    """Score recorded answers or judgments with no model and no network.

    mt_bench: model_judgment.jsonl · alpaca_eval: annotations.json · openllm: lm-eval's results*.json ·
    mixeval: a folder or file of response JSONL (with --mixeval-parser rule)

    [bold]evalsuite score mixeval --from model_responses/ --mixeval-parser rule[/]
    """
    from evalsuite.api import score as score_recorded

    with answering():
        scores = score_recorded(suite, source, as_published=as_published, mixeval_parser=mixeval_parser)
        if as_json:
            print_json(scores)
        else:
            from rich.console import Console

            from evalsuite.tables import print_suite

            print_suite(Console(), "mixeval" if suite.startswith("mixeval") else suite.partition(":")[0], scores)
