"""``evalsuite plan``."""

from __future__ import annotations

from evalsuite.commands.console import print_json, reporting_errors
from evalsuite.commands.options import from_config
from evalsuite.power.settings import PlanConfig


@from_config(PlanConfig)
def plan(config: PlanConfig, *, as_json: bool) -> None:
    """Say how many items a difference needs to be found in a paired test, and what that costs; nothing is asked.

    Variances are those of the models in results/; without any, an upper bound.

    [bold]evalsuite plan --suite mt_bench --models 2 --effect 0.02[/]
    """
    from evalsuite.power.plan import as_json as document
    from evalsuite.power.plan import plan as needs_of

    with reporting_errors():
        needs = needs_of(config)
    if as_json:
        print_json(document(needs, config))
        return
    from evalsuite.tables import print_rows
    from evalsuite.terminal import Console

    console = Console()
    rows = [
        {
            "figure": need.figure,
            "difference": f"{need.effect:.3g}",
            "items": f"{need.items:,}",
            "there are": "" if need.available is None else f"{need.available:,}",
            "all could show": "" if need.detectable is None else f"{need.detectable:.2g}",
            "answers": f"{need.answer_calls:,}",
            "judge calls": f"{need.judge_calls:,}",
            "tokens": "" if need.tokens is None else f"{need.tokens:,}",
            "hours": "" if need.hours is None else f"{need.hours:.1f}",
            "cost": "" if need.cost is None else f"{need.cost:.2f}",
            "variance from": need.source,
        }
        for need in needs
    ]
    print_rows(console, rows)
    short = [need.figure for need in needs if not need.is_reachable]
    if short:
        console.print(
            f"{', '.join(short)}: more items are needed than there are; calls are for all of them", highlight=False
        )
