"""``evalsuite import``."""

from __future__ import annotations

from pathlib import Path

import pydantic
import typer

from evalsuite.commands.console import print_json, require_scored, suggest
from evalsuite.commands.options import from_config
from evalsuite.config import Annotator, Config, Data, MaxUnscored, OwnOptions, RecordedSuite, Results


class ImportConfig(Config):
    """A whole ``evalsuite import``."""

    suite: RecordedSuite
    source: Path = pydantic.Field(json_schema_extra={"argument": "PATH"})
    """File or folder in the benchmark's own format."""
    model: str
    """Name of the model in the table."""
    results: Results = Path("results")
    judge: str | None = None
    """Name of the judge, if the file does not name it; default: a name that matches no other judge."""
    annotator: Annotator = None
    data: Data = "full"
    fresh: bool = False
    """Replace what was imported for this model and suite."""
    max_unscored: MaxUnscored = 0.01
    suite_options: OwnOptions = pydantic.Field(default_factory=dict)


@from_config(ImportConfig)
def import_recorded(config: ImportConfig, *, as_json: bool) -> None:
    """Import recorded results of lm-eval, alpaca_eval, FastChat or MixEval into the results folder.

    They are scored again and appear in the leaderboard, marked as imported. Exits with 1 if more items of the suite are
    unscored than --max-unscored allows; they are imported anyway.

    [bold]evalsuite import openllm lm_eval_output/ --model Llama-3.1-8B[/]
    [bold]evalsuite import mt_bench model_judgment.jsonl --model vicuna-13b-v1.5[/]
    """
    from evalsuite.results.folder import unscored_share
    from evalsuite.results.importing import import_results
    from evalsuite.suites.registry import parse_suite

    folder, scores = import_results(
        config.suite,
        config.source,
        config.model,
        config.results,
        judge=config.judge,
        annotator=config.annotator,
        data=config.data,
        fresh=config.fresh,
        suite_options=config.suite_options,
    )
    if as_json:
        print_json(scores.as_json())
    else:
        from evalsuite.tables import print_models
        from evalsuite.terminal import Console

        print_models(Console(), [scores])
        typer.echo(str(folder))
        suggest("report", "view --open", results=config.results)
    key = parse_suite(config.suite, recorded=True).key
    require_scored(*unscored_share({key: scores.suites[key]}), config.max_unscored)
