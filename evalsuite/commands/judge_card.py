"""``evalsuite judge-card``."""

from __future__ import annotations

from evalsuite.commands.console import print_json, showing_progress
from evalsuite.commands.options import from_config
from evalsuite.comparison.settings import CardConfig


@from_config(CardConfig)
def judge_card(config: CardConfig, *, as_json: bool) -> None:
    """Measure a judge: agreement with people, position and length bias, noise, resistance to attack.

    The card is kept in results/judges/ and shown beside what the judge decides.

    [bold]evalsuite judge-card judge-ckpt/[/]
    [bold]evalsuite judge-card judge-ckpt/ --pairs my_pairs.jsonl --method reasoned[/]
    """
    from evalsuite.comparison.card import judge_card as measure

    with showing_progress() as progress:
        card, path = measure(config, progress)
    if as_json:
        print_json(card)
        return
    from evalsuite.comparison.tables import print_card
    from evalsuite.terminal import Console

    console = Console()
    print_card(console, card)
    console.print(f"written to {path}", highlight=False)
