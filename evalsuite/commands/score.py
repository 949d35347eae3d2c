"""``evalsuite score``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from evalsuite.commands.console import JsonOption, print_json, reporting_errors, require_scored
from evalsuite.commands.options import (
    AnnotatorOption,
    MaxUnscoredOption,
    SuiteArgument,
    with_config_file,
    with_suite_options,
)


@with_suite_options
@with_config_file
def score(
    suite: SuiteArgument,
    source: Annotated[Path, typer.Option("--from", help="File or folder in the benchmark's own format.")],
    as_published: Annotated[
        bool, typer.Option("--as-published", help="Use the benchmark's own arithmetic where evalsuite's differs.")
    ] = False,
    annotator: AnnotatorOption = None,
    lineage: Annotated[
        Path | None, typer.Option("--lineage", help="preferences: YAML of 'sft: dgm', for flip counts.")
    ] = None,
    max_unscored: MaxUnscoredOption = 0.01,
    results: Annotated[  # noqa: ARG001
        Path | None, typer.Option("--results", help="Accepted for uniformity; score does not use it.")
    ] = None,
    as_json: JsonOption = False,
    *,
    suite_options: Mapping[str, Any],
) -> None:
    """Score recorded answers or judgments, without a model or network access.

    Exits with 1 if more items are unscored than --max-unscored allows; the figures are printed anyway.

    mt_bench: model_judgment.jsonl · alpaca_eval: annotations.json · openllm: lm-eval's results*.json ·
    mixeval: a folder or file of response JSONL (with --mixeval-parser rule) ·
    preferences: a CSV of ratings, question_id,MODEL,MODEL...

    [bold]evalsuite score mixeval --from model_responses/ --mixeval-parser rule[/]
    [bold]evalsuite score preferences --from scores.csv --lineage lineage.yaml[/]
    """
    from evalsuite.api import PREFERENCES
    from evalsuite.api import score as score_recorded
    from evalsuite.results.folder import unscored_share
    from evalsuite.suites.registry import parse_suite
    from evalsuite.terminal import Console

    with reporting_errors():
        given = {"lineage": lineage, "annotator": annotator}
        options = {**suite_options, **{name: value for name, value in given.items() if value is not None}}
        scores = score_recorded(suite, source, as_published=as_published, **options)
        if as_json:
            print_json(scores)
        elif suite == PREFERENCES:
            from evalsuite.comparison.tables import print_preferences
            from evalsuite.comparison_documents import Preferences

            print_preferences(Console(), Preferences.model_validate(scores))
        else:
            from evalsuite.tables import print_suite

            print_suite(Console(), parse_suite(suite, recorded=True).key, scores)
        if suite != PREFERENCES:
            require_scored(*unscored_share({parse_suite(suite, recorded=True).key: scores}), max_unscored)
