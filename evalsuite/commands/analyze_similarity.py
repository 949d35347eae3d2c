"""``evalsuite analyze similarity``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evalsuite.commands.console import JsonOption, ResultsOption, print_json, reporting_errors, showing_progress


def analyze_similarity(
    answers: Annotated[
        list[str],
        typer.Argument(
            metavar="ANSWERS ANSWERS...",
            help="Recorded answers, as [NAME=]PATH: a model's folder in results/, generate's output, "
            "or a .parquet, .json or .jsonl file.",
        ),
    ],
    turns: Annotated[
        Literal["first", "both"], typer.Option("--turns", help="Look at first turns, or at whole conversations.")
    ] = "first",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Max prompts (quick trial).")] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only answers to this suite or file, such as mt_bench.")
    ] = None,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="Drawn references and moving averages, as the paper's Table 5.")
    ] = False,
    synonyms: Annotated[
        bool, typer.Option("--synonyms/--no-synonyms", help="METEOR's synonyms, where WordNet is on this machine.")
    ] = True,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the analysis; the models' names by default.")
    ] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Compare the models' ANSWERS to the same prompts: ROUGE-1, ROUGE-L and METEOR, each model with each.

    [bold]evalsuite analyze similarity answers/qwen answers/llama answers/gemma[/]
    [bold]evalsuite analyze similarity dgm=q72.jsonl sft=l8b.jsonl --turns both[/]
    """
    from evalsuite.analysis.document import as_json as document_of
    from evalsuite.analysis.document import write_analysis
    from evalsuite.analysis.printing import print_analysis
    from evalsuite.analysis.similarity import SimilarityConfig, similarity

    with reporting_errors():
        config = SimilarityConfig(
            tuple(answers), results, turns, limit, tuple(source or ()), as_published, synonyms, name
        )
        with showing_progress() as progress:
            analysis = similarity(config, progress)
        folder = write_analysis(results, analysis)
        if as_json:
            print_json(document_of(analysis))
        else:
            from rich.console import Console

            print_analysis(Console(), analysis, folder)
