"""``evalsuite rate``."""

from __future__ import annotations

from evalsuite.commands.console import print_json, require_scored, showing_progress, suggest
from evalsuite.commands.options import from_config
from evalsuite.comparison.settings import RateConfig


@from_config(RateConfig)
def rate(config: RateConfig, *, as_json: bool) -> None:
    """Rate answers from 1 to 10 on twelve factors, on your own factors (a YAML file), or with a reward model.

    Ratings are expectations under the judge's probabilities. Several models are compared factor by factor.

    [bold]evalsuite rate ckpt/ --judge judge-ckpt/[/]
    [bold]evalsuite rate a/ b/ --factors my_factors.yaml --judge judge-ckpt/[/]
    """
    from evalsuite.comparison.rating import rate as rate_answers

    with showing_progress() as progress:
        outcome = rate_answers(config, progress)
    if as_json:
        print_json(outcome.document.as_json())
    else:
        from evalsuite.comparison.rating_tables import print_ratings
        from evalsuite.terminal import Console

        console = Console()
        print_ratings(console, outcome.document)
        console.print(f"written to {outcome.folder}/", highlight=False)
        suggest("report", "view --open", results=config.results)
    require_scored(outcome.n_unscored, outcome.n_ratings, config.max_unscored, "ratings")
