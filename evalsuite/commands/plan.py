"""``evalsuite plan``."""

from __future__ import annotations

from evalsuite.commands.console import print_json
from evalsuite.commands.options import from_config
from evalsuite.power.settings import PlanConfig


@from_config(PlanConfig)
def plan(config: PlanConfig, *, as_json: bool) -> None:
    """Estimate how many items a paired test needs to detect a difference, and what that costs; no model is queried.

    Variances come from the models in results/; without any, an upper bound is used.

    [bold]evalsuite plan --suite mt_bench --models 2 --effect 0.02[/]
    [bold]evalsuite plan --suite openllm:ifeval --effect 0.05 --price-per-million 0.6[/]
    """
    from evalsuite.power.plan import as_json as document
    from evalsuite.power.plan import plan as needs_of

    needs = needs_of(config)
    if as_json:
        print_json(document(needs, config))
        return
    from evalsuite.tables import print_rows
    from evalsuite.terminal import Console

    console = Console()
    columns = {
        "figure": [need.figure for need in needs],
        "difference": [f"{need.effect:.3g}" for need in needs],
        "items needed": [f"{need.items:,}" for need in needs],
        "available": ["" if need.available is None else f"{need.available:,}" for need in needs],
        "detectable": ["" if need.detectable is None else f"{need.detectable:.2g}" for need in needs],
        "answers": [f"{need.answer_calls:,}" for need in needs],
        "judged": [f"{need.judge_calls:,}" if need.judge_calls else "" for need in needs],
        "tokens": ["" if need.tokens is None else f"{need.tokens:,}" for need in needs],
        "hours": ["" if need.hours is None else f"{need.hours:.1f}" for need in needs],
        "cost": ["" if need.cost is None else f"{need.cost:.2f}" for need in needs],
    }
    kept = {name: cells for name, cells in columns.items() if any(cells)}
    print_rows(console, [dict(zip(kept, row, strict=True)) for row in zip(*kept.values(), strict=True)])
    for source in dict.fromkeys(need.source for need in needs):
        names = ", ".join(need.figure for need in needs if need.source == source)
        console.print(f"variance: {source} ({names})", highlight=False)
    short = [need.figure for need in needs if not need.is_reachable]
    if short:
        console.print(
            f"{', '.join(short)}: more items needed than available; the calls are for all items", highlight=False
        )
