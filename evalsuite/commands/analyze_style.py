"""``evalsuite analyze style``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import JsonOption, ResultsOption, print_json, reporting_errors


def analyze_style(
    answers: Annotated[
        list[str],
        typer.Argument(
            metavar="ANSWERS...",
            help="Recorded answers, as [NAME=]PATH: a model's folder in results/, generate's output, "
            "a .parquet, .json or .jsonl file, or a folder of judged .html pages.",
        ),
    ],
    lineage: Annotated[
        Path | None, typer.Option("--lineage", help="YAML 'sft: dgm': the paper's Table 3 and inheritance scores.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", help="Model, or demo, whose tokens are counted; words without one."),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="Only answers to this suite or file, such as mt_bench.")
    ] = None,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="Count whole judged pages, as the paper does; not the answers.")
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the analysis; the models' names by default.")
    ] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Count the marks of style in ANSWERS (bold, lists, headings, code, length) and compare every two models.

    [bold]evalsuite analyze style demo-542efad8 answers/qwen[/]
    [bold]evalsuite analyze style dgm=q72.jsonl sft=l8b.jsonl --lineage lineage.yaml[/]
    """
    from evalsuite.analysis.document import as_json as document_of
    from evalsuite.analysis.document import write_analysis
    from evalsuite.analysis.printing import print_analysis
    from evalsuite.analysis.style import StyleOptions, style_analysis
    from evalsuite.comparison.ratings import read_lineage

    with reporting_errors():
        making = read_lineage(lineage) if lineage else None
        options = StyleOptions(making, tokenizer, as_published, source or (), name)
        analysis = style_analysis(answers, results, options)
        folder = write_analysis(results, analysis)
        if as_json:
            print_json(document_of(analysis))
        else:
            from rich.console import Console

            print_analysis(Console(), analysis, folder)
