"""``evalsuite judge-card``."""

from __future__ import annotations

from evalsuite.commands.console import print_json, require_scored, showing_progress
from evalsuite.commands.options import from_config
from evalsuite.comparison.settings import CardConfig


@from_config(CardConfig)
def judge_card(config: CardConfig, *, as_json: bool) -> None:
    """Measure a judge: agreement with people, biases, noise, resistance to attack; usable, with care, or not.

    The card is kept in results/judges/ and shown beside what the judge decides.

    [bold]evalsuite judge-card judge-ckpt/[/]
    [bold]evalsuite judge-card judge-ckpt/ --pairs my_pairs.jsonl --method reasoned[/]
    """
    from evalsuite.comparison.card import judge_card as measure

    with showing_progress() as progress:
        card = measure(config, progress)
    if as_json:
        print_json(card.document)
    else:
        from evalsuite.comparison.tables import print_card
        from evalsuite.terminal import Console

        console = Console()
        print_card(console, card.document)
        console.print(f"written to {card.path}", highlight=False)
    require_scored(card.n_unscored, card.n_games, config.max_unscored, "games")
