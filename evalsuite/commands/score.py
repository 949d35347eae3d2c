"""``evalsuite score``."""

from __future__ import annotations

from pathlib import Path

import pydantic

from evalsuite.commands.console import print_json, require_scored
from evalsuite.commands.options import from_config
from evalsuite.config import Annotator, Config, MaxUnscored, OwnOptions, RecordedSuite


class ScoreConfig(Config):
    """A whole ``evalsuite score``."""

    suite: RecordedSuite
    source: Path = pydantic.Field(json_schema_extra={"flag": "from"})
    """File or folder in the benchmark's own format."""
    as_published: bool = False
    """Use the benchmark's own arithmetic where evalsuite's differs."""
    annotator: Annotator = None
    lineage: Path | None = None
    """preferences: YAML of 'sft: dgm', for flip counts."""
    max_unscored: MaxUnscored = 0.01
    results: Path | None = None
    """Accepted for uniformity; score does not use it."""
    suite_options: OwnOptions = pydantic.Field(default_factory=dict)


@from_config(ScoreConfig)
def score(config: ScoreConfig, *, as_json: bool) -> None:
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

    suite, given = config.suite, {"lineage": config.lineage, "annotator": config.annotator}
    options = {**config.suite_options, **{name: value for name, value in given.items() if value is not None}}
    scores = score_recorded(suite, config.source, as_published=config.as_published, **options)
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
        require_scored(*unscored_share({parse_suite(suite, recorded=True).key: scores}), config.max_unscored)
