"""``evalsuite analyze``: one subcommand per analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from evalsuite.commands.console import (
    JsonOption,
    ResultsOption,
    print_json,
    reporting_errors,
    showing_progress,
    write_and_print,
)
from evalsuite.commands.help import Group
from evalsuite.commands.options import (
    DataOption,
    NearOption,
    OverlapShareOption,
    OverlapWordsOption,
    TurnsOption,
    with_config_file,
)

analyze_app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Analyses from WILDCHAT-50M on recorded answers: style, similarity, keywords, efficiency, contamination.",
)
_NameOption = Annotated[str | None, typer.Option("--name", help="Name of the analysis; default: the models' names.")]
_SourceOption = Annotated[
    list[str] | None, typer.Option("--source", help="Only answers to this suite or file, such as mt_bench.")
]


@analyze_app.command("style")
@with_config_file
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
        Path | None,
        typer.Option("--lineage", help="YAML mapping 'sft: dgm'; adds the paper's Table 3 and inheritance scores."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option("--tokenizer", help="Model, or demo, whose tokenizer counts tokens; default: count words."),
    ] = None,
    source: _SourceOption = None,
    as_published: Annotated[
        bool,
        typer.Option("--as-published", help="Count whole judged pages, as the paper does, instead of the answers."),
    ] = False,
    name: _NameOption = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Count style features of ANSWERS (bold, lists, headings, code, length) and compare every pair of models.

    [bold]evalsuite analyze style demo-542efad8 answers/qwen[/]
    [bold]evalsuite analyze style dgm=q72.jsonl sft=l8b.jsonl --lineage lineage.yaml[/]
    """
    from evalsuite.analysis.style import StyleOptions, style_analysis
    from evalsuite.comparison.ratings import read_lineage

    with reporting_errors():
        making = read_lineage(lineage) if lineage else None
        options = StyleOptions(making, tokenizer, as_published, source or (), name)
        analysis = style_analysis(answers, results, options)
        write_and_print(results, analysis, as_json=as_json)


@analyze_app.command("efficiency")
@with_config_file
def analyze_efficiency(
    folders: Annotated[
        list[str],
        typer.Argument(metavar="DIR...", help="Folders of 'evalsuite generate', or models' folders in results/."),
    ],
    conversations: Annotated[int, typer.Option("--conversations", "-n", help="Size of the projected job.")] = 1_000_000,
    dollars_per_hour: Annotated[
        float | None, typer.Option("--dollars-per-hour", help="Price of one device: a GPU, or the whole machine.")
    ] = None,
    name: _NameOption = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Tabulate speed, memory and start time of recorded runs, and project a larger job's hours and cost.

    [bold]evalsuite analyze efficiency answers/[/]
    [bold]evalsuite analyze efficiency answers/ demo-542efad8 --conversations 1000000 --dollars-per-hour 2.5[/]
    """
    from evalsuite.analysis.efficiency import efficiency_analysis

    with reporting_errors():
        analysis = efficiency_analysis(
            folders, results, conversations=conversations, dollars_per_hour=dollars_per_hour, name=name
        )
        write_and_print(results, analysis, as_json=as_json)


@analyze_app.command("contamination")
@with_config_file
def analyze_contamination(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="Training data: hub data sets, files or folders, a mix's folder."),
    ],
    data: DataOption = "full",
    ngram: OverlapWordsOption = 8,
    overlap: OverlapShareOption = 0.5,
    turns: TurnsOption = "user",
    near: NearOption = None,
    suite: Annotated[
        list[str] | None,
        typer.Option("--suite", help="Look only for items of this suite, or of a benchmark's FILE.yaml; repeatable."),
    ] = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Count the items of every suite that occur in training data; reports ids only and quotes no prompts.

    [bold]evalsuite analyze contamination mixes/re-wild[/]
    [bold]evalsuite analyze contamination org/chats@train --ngram 13 --overlap 0[/]
    """
    from evalsuite.contamination.index import OverlapRule
    from evalsuite.contamination.measure import clean_rows, load_meter, suite_rows, write_report
    from evalsuite.contamination.prompts import names_of

    with reporting_errors(), showing_progress() as progress:
        names = names_of(suite) if suite else None
        meter = load_meter(data, OverlapRule(ngram, overlap), turns=turns, near=near, names=names)
        figures, folder = write_report(sources, results, meter, progress)
        if as_json:
            print_json(figures)
        else:
            from evalsuite.tables import print_rows
            from evalsuite.terminal import Console

            console = Console()
            print_rows(console, suite_rows(figures))
            if figures["clean"]:
                print_rows(console, clean_rows(figures["clean"]))
            console.print(
                f"{figures['n_overlapping']:,} of {figures['n_conversations']:,} conversations contain an item; "
                f"written to {folder}/",
                highlight=False,
            )


@analyze_app.command("similarity")
@with_config_file
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
    source: _SourceOption = None,
    as_published: Annotated[
        bool, typer.Option("--as-published", help="Sampled references and moving averages, as in the paper's Table 5.")
    ] = False,
    synonyms: Annotated[
        bool, typer.Option("--synonyms/--no-synonyms", help="Use METEOR's synonyms, if WordNet is installed.")
    ] = True,
    name: _NameOption = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Compare the models' ANSWERS to the same prompts by ROUGE-1, ROUGE-L and METEOR, for every pair of models.

    [bold]evalsuite analyze similarity answers/qwen answers/llama answers/gemma[/]
    [bold]evalsuite analyze similarity dgm=q72.jsonl sft=l8b.jsonl --turns both[/]
    """
    from evalsuite.analysis.similarity import SimilarityConfig, similarity

    with reporting_errors():
        config = SimilarityConfig(
            tuple(answers), results, turns, limit, tuple(source or ()), as_published, synonyms, name
        )
        with showing_progress() as progress:
            analysis = similarity(config, progress)
        write_and_print(results, analysis, as_json=as_json)


@analyze_app.command("keywords")
@with_config_file
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
        str | None, typer.Option("--comparison", help="Verdicts of `compare --method reasoned`: its name or folder.")
    ] = None,
    words: Annotated[Path | None, typer.Option("--words", help="Text file of additional words, one per line.")] = None,
    all_judgments: Annotated[
        bool, typer.Option("--all-judgments", help="Include items on which both models got the same rating.")
    ] = False,
    all_words: Annotated[
        bool, typer.Option("--all-words", help="Include all words, not only adjectives and words of complaint.")
    ] = False,
    min_count: Annotated[int, typer.Option("--min-count", min=1, help="Min occurrences of a word.")] = 5,
    top: Annotated[int, typer.Option("--top", min=1, help="Words to show per side.")] = 20,
    name: _NameOption = None,
    results: ResultsOption = Path("results"),
    as_json: JsonOption = False,
) -> None:
    """Find the words that distinguish two models' JUDGMENTS: adjectives and words of complaint, with examples.

    [bold]evalsuite analyze keywords sft-q72 sft-l70[/]
    [bold]evalsuite analyze keywords --comparison q72-vs-l70 --words my_words.txt[/]
    """
    from evalsuite.analysis.keywords import KeywordsConfig, keywords

    with reporting_errors():
        analysis = keywords(
            KeywordsConfig(
                tuple(judgments or ()), results, comparison, words, all_judgments, all_words, min_count, top, name
            )
        )
        write_and_print(results, analysis, as_json=as_json)
