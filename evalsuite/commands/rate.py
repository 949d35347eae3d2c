"""``evalsuite rate``."""

from __future__ import annotations

from evalsuite.commands.console import print_json, require_scored, showing_progress
from evalsuite.commands.options import from_config
from evalsuite.comparison.settings import RateConfig


@from_config(RateConfig)
def rate(config: RateConfig, *, as_json: bool) -> None:
    """Rate MODEL's answers on twelve factors from 1 to 10: the expected rating under the judge's probabilities.

    [bold]evalsuite rate ckpt/ --judge judge-ckpt/[/]
    [bold]evalsuite rate ckpt/ --factors factuality,conciseness --judge judge-ckpt/[/]
    """
    from evalsuite.comparison.rating import rate as rate_answers

    with showing_progress() as progress:
        document, folder = rate_answers(config, progress)
    if as_json:
        print_json(document)
    else:
        from evalsuite.comparison.tables import print_factors
        from evalsuite.terminal import Console

        console = Console()
        print_factors(console, document)
        console.print(f"written to {folder}/", highlight=False)
    mean = document["mean"]
    require_scored(mean["n"] - mean["n_scored"], mean["n"], config.max_unscored, "ratings")
