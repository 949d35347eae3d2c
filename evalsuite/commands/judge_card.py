"""``evalsuite judge-card``."""

from __future__ import annotations

from evalsuite.commands.console import print_json, require_scored, showing_progress
from evalsuite.commands.options import from_config
from evalsuite.comparison.settings import CardConfig


@from_config(CardConfig)
def judge_card(config: CardConfig, *, as_json: bool) -> None:
    """Measure a judge: agreement with people, biases, noise, resistance to attack; verdict: usable, with care, or not.

    The card is kept in results/judges/ and shown beside the judge's verdicts.

    [bold]evalsuite judge-card judge-ckpt/[/]
    [bold]evalsuite judge-card judge-ckpt/ --pairs my_pairs.jsonl --method reasoned[/]
    [bold]evalsuite judge-card judge-ckpt/ --ratings my_ratings.jsonl --factors my_factors.yaml[/]
    """
    from evalsuite.terminal import Console

    if config.ratings is not None:
        from evalsuite.comparison.rating_card import rating_card

        with showing_progress() as progress:
            document, path = rating_card(config, config.ratings, progress)
    else:
        from evalsuite.comparison.card import judge_card as measure

        with showing_progress() as progress:
            card = measure(config, progress)
        document, path = card.document, card.path
    if as_json:
        print_json(document)
    else:
        from evalsuite.comparison.rating_tables import print_rating_card
        from evalsuite.comparison.tables import print_card

        console = Console()
        (print_card if config.ratings is None else print_rating_card)(console, document)
        console.print(f"written to {path}", highlight=False)
    failures = document["failures"]
    what = "games" if config.ratings is None else "ratings"
    require_scored(sum(failures["unscored"].values()), failures["n_games"], config.max_unscored, what)
