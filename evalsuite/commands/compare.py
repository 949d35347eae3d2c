"""``evalsuite compare``."""

from __future__ import annotations

from evalsuite.commands.console import print_json, require_scored, showing_progress, suggest
from evalsuite.commands.options import from_config
from evalsuite.comparison.settings import CompareConfig


@from_config(CompareConfig)
def compare(config: CompareConfig, *, as_json: bool) -> None:
    """Compare models pairwise: every pair in both orders, with preference rates, intervals, flips and a ranking.

    Answers of an earlier run are reused. Killed or interrupted, it resumes: run the same command again.

    [bold]evalsuite compare ckpt-a/ ckpt-b/ --judge judge-ckpt/[/]
    [bold]evalsuite compare a/ b/ dgm/ --judge j1/ --judge j2/ --lineage lineage.yaml --method reasoned[/]
    """
    from evalsuite.comparison.compare import compare as run_comparison

    with showing_progress(config.results, "evalsuite compare") as progress:
        outcome = run_comparison(config, progress)
    if as_json:
        print_json(outcome.document.as_json())
    else:
        from evalsuite.comparison.tables import print_preferences
        from evalsuite.terminal import Console

        console = Console()
        print_preferences(console, outcome.document)
        console.print(f"written to {outcome.folder}/", highlight=False)
        suggest("view --open", "report", results=config.results)
    require_scored(outcome.n_unscored, outcome.n_items, config.max_unscored, "pairs")
