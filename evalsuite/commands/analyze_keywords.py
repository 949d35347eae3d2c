"""``evalsuite analyze keywords``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsuite.commands.console import JsonOption, ResultsOption, print_json, reporting_errors


def analyze_keywords(
    judgments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JUDGMENTS JUDGMENTS",
            help="Two models' recorded judgments, as [NAME=]PATH: a folder in results/ or a model_judgment.jsonl. "
            "With --comparison: the names of two of its models.",
        ),
    ] = None,
    comparison: Annotated[
        str | None,
        typer.Option("--comparison", help="Verdicts of `compare --method reasoned`: its name or folder."),
    ] = None,
    words: Annotated[
        Path | None, typer.Option("--words", help="Text file of further words to look at, one per line.")
    ] = None,
    all_judgments: Annotated[
        bool, typer.Option("--all-judgments", help="Not only those whose ratings differ between the two.")
    ] = False,
    all_words: Annotated[bool, typer.Option("--all-words", help="Not only adjectives and words of complaint.")] = False,
    min_count: Annotated[int, typer.Option("--min-count", min=1, help="Occurrences that a word needs.")] = 5,
    top: Annotated[int, typer.Option("--top", min=1, help="Words to show per side.")] = 20,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the analysis; the models' names by default.")
    ] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Find the words that tell two models' JUDGMENTS apart: adjectives and words of complaint, with examples.

    [bold]evalsuite analyze keywords sft-q72 sft-l70[/]
    [bold]evalsuite analyze keywords --comparison q72-vs-l70 --words my_words.txt[/]
    """
    from evalsuite.analysis.document import as_json as document_of
    from evalsuite.analysis.document import write_analysis
    from evalsuite.analysis.keywords import KeywordsConfig, keywords
    from evalsuite.analysis.printing import print_analysis

    with reporting_errors():
        analysis = keywords(
            KeywordsConfig(
                tuple(judgments or ()),
                results,
                comparison,
                words,
                all_judgments,
                all_words,
                min_count,
                top,
                name,
            )
        )
        folder = write_analysis(results, analysis)
        if as_json:
            print_json(document_of(analysis))
        else:
            from rich.console import Console

            print_analysis(Console(), analysis, folder)
