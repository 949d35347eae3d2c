"""``evalsuite analyze``: one subcommand per analysis."""

from __future__ import annotations

import typer

from evalsuite.analysis.settings import EfficiencyConfig, KeywordsConfig, SimilarityConfig, StyleConfig
from evalsuite.commands.console import print_json, showing_progress, write_and_print
from evalsuite.commands.help import Group
from evalsuite.commands.options import from_config
from evalsuite.contamination.settings import MeasureConfig

analyze_app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    help="Analyses from WILDCHAT-50M on recorded answers: style, similarity, keywords, efficiency, contamination.",
)


@analyze_app.command("style")
@from_config(StyleConfig)
def analyze_style(config: StyleConfig, *, as_json: bool) -> None:
    """Count style features of ANSWERS (bold, lists, headings, code, length) and compare every pair of models.

    [bold]evalsuite analyze style demo-542efad8 answers/qwen[/]
    [bold]evalsuite analyze style dgm=q72.jsonl sft=l8b.jsonl --lineage lineage.yaml[/]
    """
    from evalsuite.analysis.style import StyleOptions, style_analysis
    from evalsuite.comparison.ratings import read_lineage

    lineage = read_lineage(config.lineage) if config.lineage else None
    options = StyleOptions(lineage, config.tokenizer, config.as_published, config.source, config.name)
    analysis = style_analysis(config.answers, config.results, options)
    write_and_print(config.results, analysis, as_json=as_json)


@analyze_app.command("efficiency")
@from_config(EfficiencyConfig)
def analyze_efficiency(config: EfficiencyConfig, *, as_json: bool) -> None:
    """Tabulate speed, memory and start time of recorded runs, and project a larger job's hours and cost.

    [bold]evalsuite analyze efficiency answers/[/]
    [bold]evalsuite analyze efficiency answers/ demo-542efad8 --conversations 1000000 --dollars-per-hour 2.5[/]
    """
    from evalsuite.analysis.efficiency import efficiency_analysis

    write_and_print(config.results, efficiency_analysis(config), as_json=as_json)


@analyze_app.command("contamination")
@from_config(MeasureConfig)
def analyze_contamination(config: MeasureConfig, *, as_json: bool) -> None:
    """Count the items of every suite that occur in training data; reports ids only and quotes no prompts.

    [bold]evalsuite analyze contamination mixes/re-wild[/]
    [bold]evalsuite analyze contamination org/chats@train --ngram 13 --overlap 0[/]
    """
    from evalsuite.contamination.index import OverlapRule
    from evalsuite.contamination.measure import clean_rows, load_meter, suite_rows, write_report
    from evalsuite.contamination.prompts import names_of

    names, rule = names_of(config.suite) if config.suite else None, OverlapRule(config.ngram, config.overlap)
    with showing_progress() as progress:
        meter = load_meter(config.data, rule, turns=config.turns, near=config.near, names=names)
        figures, folder = write_report(config.sources, config.results, meter, progress)
    if as_json:
        print_json(figures)
        return
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
@from_config(SimilarityConfig)
def analyze_similarity(config: SimilarityConfig, *, as_json: bool) -> None:
    """Compare the models' ANSWERS to the same prompts by ROUGE-1, ROUGE-L and METEOR, for every pair of models.

    [bold]evalsuite analyze similarity answers/qwen answers/llama answers/gemma[/]
    [bold]evalsuite analyze similarity dgm=q72.jsonl sft=l8b.jsonl --turns both[/]
    """
    from evalsuite.analysis.similarity import similarity

    with showing_progress() as progress:
        analysis = similarity(config, progress)
    write_and_print(config.results, analysis, as_json=as_json)


@analyze_app.command("keywords")
@from_config(KeywordsConfig)
def analyze_keywords(config: KeywordsConfig, *, as_json: bool) -> None:
    """Find the words that distinguish two models' JUDGMENTS: adjectives and words of complaint, with examples.

    [bold]evalsuite analyze keywords sft-q72 sft-l70[/]
    [bold]evalsuite analyze keywords --comparison q72-vs-l70 --words my_words.txt[/]
    """
    from evalsuite.analysis.keywords import keywords

    write_and_print(config.results, keywords(config), as_json=as_json)
