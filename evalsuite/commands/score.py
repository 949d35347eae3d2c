"""``evalsuite score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evalsuite.commands.console import JsonOption, answering, print_json, require_scored
from evalsuite.commands.options import MaxUnscoredOption
from evalsuite.errors import UsageError


def score(
    suite: Annotated[
        str,
        typer.Argument(metavar="SUITE", help="mt_bench, alpaca_eval, openllm, mixeval, mixeval:hard or preferences."),
    ],
    source: Annotated[Path, typer.Option("--from", help="File or folder in the benchmark's own format.")],
    as_published: Annotated[bool, typer.Option("--as-published", help="The reference's own arithmetic.")] = False,
    mixeval_parser: Annotated[
        Literal["judge", "rule"], typer.Option("--mixeval-parser", help="judge: recorded verdicts; rule: no judge.")
    ] = "judge",
    lineage: Annotated[
        Path | None, typer.Option("--lineage", help="preferences: YAML of 'sft: dgm', for flip counts.")
    ] = None,
    max_unscored: MaxUnscoredOption = 0.01,
    results: Annotated[  # noqa: ARG001
        Path | None, typer.Option("--results", help="Taken like everywhere; score needs nothing there and writes none.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score recorded answers or judgments with no model and no network.

    Exits with 1 when more items are unscored than --max-unscored allows; the figures are printed all the same.

    mt_bench: model_judgment.jsonl · alpaca_eval: annotations.json · openllm: lm-eval's results*.json ·
    mixeval: a folder or file of response JSONL (with --mixeval-parser rule) ·
    preferences: a CSV of ratings, question_id,MODEL,MODEL...

    [bold]evalsuite score mixeval --from model_responses/ --mixeval-parser rule[/]
    """
    from evalsuite.api import score as score_recorded

    with answering():
        if lineage is not None and suite != "preferences":
            raise UsageError(f"--lineage has no meaning for {suite}; it counts flips in preferences")
        options = {"lineage": lineage} if suite == "preferences" else {"mixeval_parser": mixeval_parser}
        scores = score_recorded(suite, source, as_published=as_published, **options)
        if as_json:
            print_json(scores)
        elif suite == "preferences":
            from rich.console import Console

            from evalsuite.comparison.tables import print_preferences

            print_preferences(Console(), scores)
        else:
            from rich.console import Console

            from evalsuite.tables import print_suite

            print_suite(Console(), "mixeval" if suite.startswith("mixeval") else suite.partition(":")[0], scores)
        if suite != "preferences":
            require_scored({suite: scores}, max_unscored)
